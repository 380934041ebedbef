//! The configured namespaces with their tables.

use seen_filter::{NamespaceId, NamespaceSettings, StoreError, UnixMillis};

use super::dialect::Dialect;
use super::foreign::ColumnTypes;
use super::mapping::TableMapping;
use super::sql::TableSql;
use crate::request::{invalid, unknown_namespace};

/// One configured namespace with its table.
#[derive(Debug)]
pub(crate) struct Table {
    pub settings: NamespaceSettings,
    pub mapping: TableMapping,
    pub sql: TableSql,
    pub types: ColumnTypes,
    /// True if only somebody else writes to it.
    pub read_only: bool,
}

impl Table {
    /// The lowest bucket that has not expired at a storage time.
    pub(crate) fn horizon(&self, now: UnixMillis) -> u32 {
        self.settings.retention.map_or(0, |r| r.horizon_at(now))
    }

    /// The bucket of a row committed at a storage time.
    pub(crate) fn bucket(&self, now: UnixMillis) -> u32 {
        self.settings.retention.map_or(0, |r| r.bucket_at(now))
    }

    pub(crate) fn has_buckets(&self) -> bool {
        self.mapping.bucket.is_some()
    }
}

/// The configured namespaces, by their configured number.
#[derive(Debug)]
pub(crate) struct Tables(Vec<Table>);

impl Tables {
    pub(crate) fn new(
        settings: Vec<NamespaceSettings>,
        forms: Vec<(TableMapping, ColumnTypes)>,
        dialect: Dialect,
    ) -> Self {
        let with_table = |(settings, (mapping, types)): (NamespaceSettings, _)| {
            let sql = TableSql::new(&settings, &mapping, types, dialect);
            let read_only = mapping.read_only;
            Table { settings, mapping, sql, types, read_only }
        };
        Self(settings.into_iter().zip(forms).map(with_table).collect())
    }

    /// The table of a namespace.
    pub(crate) fn get(&self, namespace: NamespaceId) -> Result<&Table, StoreError> {
        let found = self.0.get(usize::from(namespace.get()));
        found.ok_or_else(|| unknown_namespace(namespace, self.0.len()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The table of a namespace: somebody else's if one is named, else the project's own.
pub(crate) fn mapping_of(
    settings: &NamespaceSettings,
    mappings: &[TableMapping],
) -> Result<TableMapping, StoreError> {
    let mut named = mappings.iter().filter(|mapping| mapping.namespace == settings.id);
    let Some(mapping) = named.next() else { return TableMapping::own(settings) };
    if named.next().is_some() {
        return Err(invalid(format!("namespace {:?} has two tables; keep one", settings.name)));
    }
    if settings.retention.is_some() {
        return Err(invalid(format!(
            "namespace {:?}: retention is set, and its table {} is somebody else's; rows there are \
             removed by whoever owns it",
            settings.name, mapping.table
        )));
    }
    Ok(mapping.clone())
}
