//! Looking whether a shard is what it should be: its schema, who it says it is, and its tables. At the
//! start for every shard in reach; for the others when they first are.

use std::sync::Arc;
use std::time::Duration;

use seen_filter::{HashKey, NamespaceSettings, StoreError, StoreErrorKind, Timeline, UnixMillis};
use sqlx::{Connection as _, MySqlConnection, Row as _};
use tokio::sync::watch;

use super::connection::{Role, connect};
use super::dialect::{Dialect, ServerFacts};
use super::errors::{Failure, Stage};
use super::foreign::{self, ColumnTypes};
use super::home::{Home, Known};
use super::map;
use super::mapping::TableMapping;
use super::options::MySqlOptions;
use super::pool::not_primary;
use super::schema::{Identity, Schema, missing_schema, storage_now};
use super::sql::TableSql;
use super::standing::Standing;
use super::tables::mapping_of;

/// How often a shard that was found to be wrong is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// What all shards of a store have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    pub hash_key_id: u32,
    pub hash_secret: [u8; 16],
    pub dialect: Dialect,
    /// Each namespace's table, as it was found.
    pub forms: Vec<(TableMapping, ColumnTypes)>,
}

impl Common {
    pub(crate) fn hash_key(&self) -> HashKey {
        HashKey::new(self.hash_key_id, self.hash_secret)
    }
}

/// What a look at one shard found.
pub(crate) struct Looked {
    pub known: Known,
    pub common: Common,
}

/// Looks at shards.
pub(crate) struct Looker {
    pub options: Arc<MySqlOptions>,
    pub namespaces: Vec<NamespaceSettings>,
}

/// A connection to a shard's primary, in its schema.
pub(crate) async fn connected(
    options: &MySqlOptions,
    home: &Home,
) -> Result<(MySqlConnection, ServerFacts), StoreError> {
    let primary = home.server()?;
    let opened = connect(options, &primary.address, Some(&home.database), Role::Page).await;
    opened.map_err(|failure| {
        let place = format!("shard {} at {}", home.shard, primary.address);
        failure.into_store_error(&place)
    })
}

/// The age of the newest map that a shard was told of, as its primary has it.
///
/// # Errors
/// `Unavailable` if it does not answer, or takes no writes.
pub(crate) async fn recorded_map(options: &MySqlOptions, home: &Home) -> Result<u32, StoreError> {
    let place = format!("shard {} ({})", home.shard, home.database);
    let limit_ms = Role::Page.patience_ms(options);
    let looking = async {
        let (mut connection, facts) = connected(options, home).await?;
        if facts.read_only {
            return Err(not_primary(&home.server()?.address));
        }
        let recorded = map::recorded(&mut connection).await;
        let _ = connection.close().await;
        recorded.map_err(|failure| failure.into_store_error(&place))
    };
    let looked = tokio::time::timeout(Duration::from_millis(limit_ms), looking).await;
    looked.unwrap_or_else(|_| Err(Failure::Silent(Stage::Open, limit_ms).into_store_error(&place)))
}

/// A shard's schema on a connection.
pub(crate) fn schema_on<'a>(
    connection: &'a mut MySqlConnection,
    options: &MySqlOptions,
    home: &Home,
    facts: &ServerFacts,
    now: UnixMillis,
) -> Schema<'a> {
    Schema {
        connection,
        dialect: facts.dialect,
        shard: home.shard,
        shards: u16::try_from(options.shards.len()).unwrap_or(u16::MAX),
        engine: options.engine,
        now,
        map_epoch: options.map_epoch,
    }
}

impl Looker {
    /// Looks at a shard that has a primary.
    ///
    /// # Errors
    /// `Unavailable` if it does not answer; `Schema` and others if it is not what it should be.
    pub(crate) async fn look(&self, home: &Home) -> Result<Looked, StoreError> {
        let (mut connection, facts) = connected(&self.options, home).await?;
        let limit_ms = Role::Page.patience_ms(&self.options);
        let looking = self.look_on(&mut connection, home, &facts);
        let looked = match tokio::time::timeout(Duration::from_millis(limit_ms), looking).await {
            Ok(looked) => {
                let _ = connection.close().await;
                looked
            }
            Err(_) => Err(Failure::Silent(Stage::Open, limit_ms)),
        };
        let place = format!("shard {} ({})", home.shard, home.database);
        let (identity, map_epoch, database_ids, forms) =
            looked.map_err(|failure| failure.into_store_error(&place))?;
        check_number(home, &identity, self.options.shards.len())?;
        let Identity { hash_key_id, hash_secret, .. } = identity;
        Ok(Looked {
            known: Known { timeline: Timeline::new(identity.timeline), map_epoch, database_ids },
            common: Common { hash_key_id, hash_secret, dialect: facts.dialect, forms },
        })
    }

    async fn look_on(
        &self,
        connection: &mut MySqlConnection,
        home: &Home,
        facts: &ServerFacts,
    ) -> Result<(Identity, u32, Vec<u16>, Vec<(TableMapping, ColumnTypes)>), Failure> {
        let (options, namespaces) = (&self.options, &self.namespaces);
        warn_of_lost_commits(connection, facts.dialect).await?;
        let now = storage_now(connection, options.clock.as_ref()).await?;
        let mut schema = schema_on(connection, options, home, facts, now);
        let plan = schema.plan(options, namespaces).await?;
        if let Some(step) = plan.steps.first() {
            let what = format!("{} of schema {}", step.what, plan.database);
            let why = "run `seen migrate --apply` with this configuration";
            return Err(Failure::Store(missing_schema(&what, why)));
        }
        let identity = schema.identity().await?.ok_or_else(|| {
            Failure::Store(missing_schema("the row of seen_store", "run `seen migrate --apply`"))
        })?;
        let known = schema.namespaces().await?;
        let map_epoch = map::recorded(connection).await?;
        let ids = namespaces.iter().map(|n| known.get(&n.name).map_or(u16::MAX, |(id, _)| *id));
        let database_ids: Vec<u16> = ids.collect();
        let mut forms = Vec::with_capacity(namespaces.len());
        for settings in namespaces {
            let mut mapping = mapping_of(settings, &options.mappings).map_err(Failure::Store)?;
            let mut types = ColumnTypes::default();
            if mapping.foreign {
                let (found, found_types, findings) = foreign::look(connection, &mapping).await?;
                foreign::refuse(&findings).map_err(Failure::Store)?;
                (mapping, types) = (found, found_types);
            }
            // A table that lost a column is found now, not by a wrong answer.
            let sql = TableSql::new(settings, &mapping, types, facts.dialect).probe;
            sqlx::query(sql)
                .fetch_optional(&mut *connection)
                .await
                .map_err(|error| Failure::Sql(Stage::Open, error))?;
            forms.push((mapping, types));
        }
        Ok((identity, map_epoch, database_ids, forms))
    }

    /// Looks at a shard when it first comes into reach, and tells its followers where its primary is,
    /// until stopped.
    pub(crate) async fn follow(
        self: Arc<Self>,
        home: Arc<Home>,
        common: Arc<Common>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut standings = home.group().standings();
        let pause = Duration::from_millis(self.options.probe_interval_ms);
        loop {
            let has_primary = matches!(*standings.borrow_and_update(), Standing::One(_));
            if has_primary && home.known().is_none() {
                tokio::select! {
                    () = self.settle(&home, &common) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            home.tell_address();
            if has_primary && home.known().is_some() && home.take_doubt() {
                self.check_map(&home).await;
            }
            let again = async {
                match (home.known().is_some(), home.is_refused()) {
                    (true, _) => std::future::pending().await,
                    (_, true) => tokio::time::sleep(AGAIN).await,
                    (_, false) => tokio::time::sleep(pause).await,
                }
            };
            tokio::select! {
                () = again => {}
                () = home.doubted() => {}
                changed = standings.changed() => if changed.is_err() { return },
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Looks whether a shard in use was told of a newer map meanwhile.
    async fn check_map(&self, home: &Home) {
        match recorded_map(&self.options, home).await {
            Ok(recorded) => {
                if let Err(error) = home.check_map(recorded) {
                    tell_refused(home, &error);
                }
            }
            // Whoever works there next comes back with the doubt.
            Err(error) => tracing::debug!(shard = %home.shard, %error, "the map was not read"),
        }
    }

    /// Looks once, and decides whether the shard may be used.
    async fn settle(&self, home: &Home, common: &Common) {
        let looked = self.look(home).await;
        let known = looked.and_then(|looked| {
            check_common(home, &looked.common, common)?;
            home.check_map(looked.known.map_epoch)?;
            Ok(looked.known)
        });
        match known {
            Ok(known) => {
                tracing::info!(shard = %home.shard, database = %home.database, "the shard is in use");
                home.admit(known);
            }
            Err(error) => {
                if home.refuse(&error) {
                    tell_refused(home, &error);
                }
            }
        }
    }
}

fn tell_refused(home: &Home, error: &StoreError) {
    tracing::error!(
        shard = %home.shard, database = %home.database, why = error.message,
        "THE SHARD IS NOT USED: nobody reads or writes there"
    );
}

/// Whether a schema is the shard that the configuration takes it for.
fn check_number(home: &Home, identity: &Identity, shards: usize) -> Result<(), StoreError> {
    if identity.shard == home.shard.get() && usize::from(identity.shards) == shards {
        return Ok(());
    }
    Err(StoreError::new(
        StoreErrorKind::InvalidRequest,
        format!(
            "shard {} is configured as {}, which is shard {} of {}; correct the list of shards, \
             whose number is fixed when the store is made",
            home.shard, home.database, identity.shard, identity.shards
        ),
    ))
}

/// Whether a shard is of the same store as those looked at before.
pub(crate) fn check_common(home: &Home, found: &Common, known: &Common) -> Result<(), StoreError> {
    let place = format!("shard {} ({})", home.shard, home.database);
    let refuse = |what: String| Err(StoreError::new(StoreErrorKind::InvalidRequest, what));
    if (found.hash_key_id, found.hash_secret) != (known.hash_key_id, known.hash_secret) {
        return refuse(format!(
            "{place} belongs to another store than the shards looked at before: its hash secret is \
             another; correct the list of shards"
        ));
    }
    if found.dialect != known.dialect {
        return refuse(format!(
            "{place} is on {}, and the shards looked at before are on {}; one store is on one kind of \
             server",
            found.dialect.name(),
            known.dialect.name()
        ));
    }
    let mut forms = found.forms.iter().zip(&known.forms);
    match forms.find(|(found, known)| found != known) {
        None => Ok(()),
        Some(((mapping, _), _)) => refuse(format!(
            "{place}: the table {} has columns of other types than in the shards looked at before; \
             make them the same",
            mapping.table
        )),
    }
}

/// The servers' own settings decide whether an acknowledged commit survives a crash.
async fn warn_of_lost_commits(
    connection: &mut MySqlConnection,
    dialect: Dialect,
) -> Result<(), Failure> {
    if dialect == Dialect::TiDb {
        return Ok(());
    }
    let row = sqlx::query(
        "SELECT CAST(@@global.innodb_flush_log_at_trx_commit AS SIGNED), \
         CAST(@@global.sync_binlog AS SIGNED), CAST(@@global.log_bin AS SIGNED)",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| Failure::Sql(Stage::Open, error))?;
    let column = |n: usize| row.try_get::<i64, _>(n).map_err(|e| Failure::Sql(Stage::Open, e));
    let (flush, sync, log_bin) = (column(0)?, column(1)?, column(2)?);
    if flush != 1 {
        tracing::error!(
            innodb_flush_log_at_trx_commit = flush,
            "ACKNOWLEDGED MARKS CAN BE LOST when the server crashes; \
             SET GLOBAL innodb_flush_log_at_trx_commit = 1"
        );
    }
    if log_bin != 0 && sync != 1 {
        tracing::error!(
            sync_binlog = sync,
            "ACKNOWLEDGED MARKS CAN BE LOST, or stay unknown to followers, when the server crashes; \
             SET GLOBAL sync_binlog = 1"
        );
    }
    Ok(())
}
