//! `[[namespace]]`: the histories, each with its own promise.

use std::time::Duration;

use seen_filter::settings::{BUCKET_MS_MIN, RATE_DEFAULT, RATE_MAX, RATE_MIN};
use seen_filter::{NamespaceId, NamespaceSettings, Retention, StoreError, TimeRule};
use seen_store::mysql::TableMapping;
use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, OptionInfo, SectionInfo, ms, option, optional, secs};
use super::units::{span, span_or_none};

/// Most namespaces of one configuration.
pub const NAMESPACES_MAX: usize = 64;

/// A year of 365.25 days, in seconds.
const YEAR_S: u64 = 31_557_600;

/// What `[[namespace]]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "namespace",
    help: "One history with its own promise; one table for each. Their order gives them their numbers: append new ones at the end.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    option(
        "name",
        Allowed::Text("[a-z][a-z0-9_]*, at most 48 bytes"),
        "Its name in requests and in the store.",
    ),
    option(
        "false_positive_rate",
        Allowed::Share(RATE_MIN, RATE_MAX),
        "Highest share of unread items that may be called seen.",
    ),
    optional(
        "retention",
        Allowed::Span(ms(BUCKET_MS_MIN), secs(10 * YEAR_S)),
        "How long a read item stays seen at least; unset keeps it for ever.",
        "48h",
    ),
    option(
        "bucket",
        Allowed::Span(ms(BUCKET_MS_MIN), secs(YEAR_S)),
        "Items expire by whole buckets of this length, so up to this much after their retention.",
    ),
    optional(
        "newest_max",
        Allowed::Count(1, u32::MAX as u64),
        "Expiry by count: at least the newest this many items of a user stay seen; unset keeps all.",
        "10000",
    ),
    option(
        "time_rule",
        Allowed::OneOf(&["first", "last"]),
        "Whose time is kept when an item is marked again.",
    ),
    option(
        "time_index",
        Allowed::Flag,
        "Keeps an index for newest-first listings; costs about a second copy of the rows.",
    ),
    optional(
        "table",
        Allowed::Text("table or schema.table"),
        "A table of the database servers that was there before and serves as this history; unset makes an own one.",
        "app.member_reads",
    ),
    optional(
        "columns",
        Allowed::Text(
            "user=COLUMN,item=COLUMN[,kind=COLUMN or number][,time=COLUMN[:ms or :s]][,deleted=COLUMN]",
        ),
        "That table's columns. A kind that is a number is every row's; without one it is 0. A row whose deleted column is neither NULL nor 0 is none.",
        "user=member_id,item=article_id,kind=1,time=read_at,deleted=is_removed",
    ),
    option(
        "read_only",
        Allowed::Flag,
        "Marks are refused, since only that table's owner writes to it; the change feed alone brings news.",
    ),
];

/// `[[namespace]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct NamespaceConfig {
    pub name: String,
    #[serde(default = "default_rate")]
    pub false_positive_rate: f64,
    #[serde(default, with = "span_or_none", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    #[serde(default = "default_bucket", with = "span")]
    pub bucket: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_max: Option<u32>,
    #[serde(default)]
    pub time_rule: WhoseTime,
    #[serde(default)]
    pub time_index: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    #[serde(default)]
    pub read_only: bool,
}

/// Whose time is kept when an item is marked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhoseTime {
    /// The first mark's.
    #[default]
    First,
    /// The last mark's.
    Last,
}

const fn default_rate() -> f64 {
    RATE_DEFAULT
}

const fn default_bucket() -> Duration {
    secs(3_600)
}

impl NamespaceConfig {
    /// A namespace with the default settings.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            false_positive_rate: default_rate(),
            retention: None,
            bucket: default_bucket(),
            newest_max: None,
            time_rule: WhoseTime::First,
            time_index: false,
            table: None,
            columns: None,
            read_only: false,
        }
    }

    /// The table that was there before, if this history is in one.
    ///
    /// # Errors
    /// `InvalidRequest` if table or columns cannot be read.
    pub fn mapping(&self, id: NamespaceId) -> Result<Option<TableMapping>, StoreError> {
        let Some(table) = &self.table else { return Ok(None) };
        let columns = self.columns.as_deref().unwrap_or_default();
        TableMapping::parse(id, table, columns, self.read_only).map(Some)
    }

    /// The settings that the store and the replica work with.
    pub fn settings(&self, id: NamespaceId) -> NamespaceSettings {
        NamespaceSettings {
            id,
            name: self.name.clone(),
            false_positive_rate: self.false_positive_rate,
            retention: self
                .retention
                .map(|span| Retention { span_ms: millis(span), bucket_ms: millis(self.bucket) }),
            newest_max: self.newest_max,
            time_rule: match self.time_rule {
                WhoseTime::First => TimeRule::First,
                WhoseTime::Last => TimeRule::Last,
            },
            time_index: self.time_index,
        }
    }
}

/// The namespaces of a configuration that sets none.
pub(super) fn defaults() -> Vec<NamespaceConfig> {
    ["feed_read", "push_sent"].map(NamespaceConfig::new).to_vec()
}

/// Numbers the namespaces by their order.
pub(super) fn numbered(all: &[NamespaceConfig]) -> Vec<NamespaceSettings> {
    (0_u16..).map(NamespaceId::new).zip(all).map(|(id, one)| one.settings(id)).collect()
}

/// Checks every namespace against its ranges, and that names differ.
///
/// # Errors
/// The first value out of range, by `namespace.<index>.<option>`.
pub(super) fn validate(all: &[NamespaceConfig]) -> Result<(), OutOfRange> {
    if all.is_empty() || all.len() > NAMESPACES_MAX {
        return Err(OutOfRange {
            key: "namespace".to_owned(),
            value: format!("{} namespaces", all.len()),
            allowed: format!("1 to {NAMESPACES_MAX} [[namespace]] tables"),
        });
    }
    for (index, (one, settings)) in all.iter().zip(numbered(all)).enumerate() {
        let table = format!("namespace.{index}");
        SECTION.check(&table, one)?;
        settings.validate().map_err(|error| OutOfRange {
            key: format!("{table}.{}", option_of(error.field)),
            value: error.value,
            allowed: error.limit,
        })?;
        validate_table(&table, one)?;
        if all[..index].iter().any(|earlier| earlier.name == one.name) {
            return Err(OutOfRange {
                key: format!("{table}.name"),
                value: one.name.clone(),
                allowed: "a name that no earlier namespace has".to_owned(),
            });
        }
    }
    Ok(())
}

/// Checks what says where a history is that was there before.
fn validate_table(key: &str, one: &NamespaceConfig) -> Result<(), OutOfRange> {
    let refuse = |option: &str, value: &str, allowed: String| {
        Err(OutOfRange { key: format!("{key}.{option}"), value: value.to_owned(), allowed })
    };
    if one.table.is_none() {
        if let Some(columns) = &one.columns {
            return refuse("columns", columns, "unset where namespace.table is unset".to_owned());
        }
        if one.read_only {
            return refuse("read_only", "true", "false where namespace.table is unset".to_owned());
        }
    }
    match one.mapping(NamespaceId::new(0)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let columns = one.columns.as_deref().unwrap_or("unset");
            refuse("columns", columns, error.message)
        }
    }
}

/// The option that sets a field of [`NamespaceSettings`].
fn option_of(field: &'static str) -> &'static str {
    match field {
        "retention.span" => "retention",
        "retention.bucket" => "bucket",
        other => other,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
