//! Opening the store, and making or checking its schema.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use seen_filter::{HashKey, NamespaceSettings, Shard, StoreError, StoreErrorKind, Timeline};
use sqlx::{Connection as _, MySqlConnection, Row as _};
use tokio::sync::watch;

use super::connection::{Role, connect};
use super::dialect::{Dialect, ServerFacts};
use super::errors::{Failure, Stage};
use super::foreign::{self, ColumnTypes};
use super::mapping::TableMapping;
use super::options::MySqlOptions;
use super::primary::{PrimaryWatch, Standing};
use super::retry::RetryBudget;
use super::schema::{Identity, Schema, SchemaPlan, missing_schema, storage_now};
use super::shard::{ShardParts, ShardStore};
use super::sql::TableSql;
use super::tables::{Tables, mapping_of};
use super::upkeep::Upkeep;
use super::{MySqlStore, RetryBudget as Budget};
use crate::request;

/// What was found of one shard.
struct Found {
    primary: Arc<PrimaryWatch>,
    facts: ServerFacts,
    identity: Identity,
    database_ids: Vec<u16>,
    /// Each namespace's table, as it was found.
    forms: Vec<(TableMapping, ColumnTypes)>,
}

impl MySqlStore {
    /// Opens the store: finds every shard's primary, and checks that the schema is what this program
    /// expects.
    ///
    /// # Errors
    /// `InvalidRequest` for options or namespaces out of range or in conflict with the database;
    /// `Unavailable` if a shard has no primary in reach; `Schema` if something is missing or was made
    /// by a newer program. Each says what to do.
    pub async fn open(
        options: MySqlOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Result<Arc<Self>, StoreError> {
        options.validate()?;
        request::namespaces(&namespaces)?;
        let options = Arc::new(options);
        let mut all = Vec::with_capacity(options.shards.len());
        for number in 0..options.shards.len() {
            all.push(find(&options, number, &namespaces).await?);
        }
        let Some(first) = all.first() else { return Err(super::pool::closed()) };
        let (identity, dialect) = (first.identity, first.facts.dialect);
        check_identities(&all)?;
        let forms = first.forms.clone();
        let tables = Arc::new(Tables::new(namespaces, forms, dialect));
        let budget = Arc::new(Budget::default());
        let (shutdown, stopped) = watch::channel(false);
        // One life of one store, for the leases of background work.
        let life = rand::random();
        let mut store = Self {
            options: Arc::clone(&options),
            shards: Vec::new(),
            tables: Arc::clone(&tables),
            hash_key: HashKey::new(identity.hash_key_id, identity.hash_secret),
            dialect,
            budget: Arc::clone(&budget),
            jobs: Mutex::default(),
            upkeep: Vec::new(),
            shutdown,
            tasks: Mutex::default(),
        };
        for found in all {
            let watching = Arc::clone(&found.primary).run(stopped.clone());
            store.tasks.get_mut().push(tokio::spawn(watching));
            let shard = ShardStore::new(parts(found, &options, &budget, &tables));
            let (jobs, writers) = shard.start_writers();
            store.jobs.get_mut().push(jobs);
            store.tasks.get_mut().extend(writers);
            let upkeep = Upkeep::new(Arc::clone(&shard), life);
            if options.upkeep {
                let working = Arc::clone(&upkeep).run(stopped.clone());
                store.tasks.get_mut().push(tokio::spawn(working));
            }
            store.upkeep.push(upkeep);
            store.shards.push(shard);
        }
        Ok(Arc::new(store))
    }

    /// What the schema lacks, shard by shard. Changes nothing.
    ///
    /// # Errors
    /// As [`MySqlStore::open`].
    pub async fn plan_schema(
        options: MySqlOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Result<Vec<SchemaPlan>, StoreError> {
        schema_of_all(options, namespaces, false).await
    }

    /// Makes what the schema lacks, shard by shard, and returns what that was. Safe to run twice, and
    /// from two places at once.
    ///
    /// # Errors
    /// As [`MySqlStore::open`]; what was made before the error stays, and is found by the next run.
    pub async fn apply_schema(
        options: MySqlOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Result<Vec<SchemaPlan>, StoreError> {
        schema_of_all(options, namespaces, true).await
    }
}

fn parts(
    found: Found,
    options: &Arc<MySqlOptions>,
    budget: &Arc<RetryBudget>,
    tables: &Arc<Tables>,
) -> ShardParts {
    ShardParts {
        options: Arc::clone(options),
        primary: found.primary,
        budget: Arc::clone(budget),
        tables: Arc::clone(tables),
        dialect: found.facts.dialect,
        timeline: Timeline::new(found.identity.timeline),
        database_ids: found.database_ids,
    }
}

/// A shard's primary; asks for it a few times.
async fn primary_of(
    options: &Arc<MySqlOptions>,
    number: usize,
) -> Result<Arc<PrimaryWatch>, StoreError> {
    let shard = Shard::new(u16::try_from(number).unwrap_or(u16::MAX));
    let servers = options.shards[number].clone();
    let watch = PrimaryWatch::new(shard, Arc::clone(options), servers);
    let until = tokio::time::Instant::now() + options.connect_timeout();
    while !matches!(watch.look().await, Standing::One(_)) {
        if tokio::time::Instant::now() >= until {
            break;
        }
        tokio::time::sleep(Duration::from_millis(options.probe_interval_ms)).await;
    }
    watch.primary()?;
    Ok(watch)
}

async fn connected(
    options: &Arc<MySqlOptions>,
    watch: &PrimaryWatch,
) -> Result<(MySqlConnection, ServerFacts), StoreError> {
    let primary = watch.primary()?;
    let database = &watch.servers().database;
    let opened = connect(options, &primary.address, Some(database), Role::Page).await;
    opened.map_err(|failure| {
        let place = format!("shard {} at {}", watch.shard, primary.address);
        failure.into_store_error(&place)
    })
}

async fn find(
    options: &Arc<MySqlOptions>,
    number: usize,
    namespaces: &[NamespaceSettings],
) -> Result<Found, StoreError> {
    let primary = primary_of(options, number).await?;
    let (mut connection, facts) = connected(options, &primary).await?;
    let looked = look(&mut connection, options, &primary, &facts, namespaces).await;
    let _ = connection.close().await;
    let place = format!("shard {} ({})", primary.shard, primary.servers().database);
    let Looked { identity, database_ids, forms } =
        looked.map_err(|failure| failure.into_store_error(&place))?;
    Ok(Found { primary, facts, identity, database_ids, forms })
}

/// What a look at one shard's schema found.
struct Looked {
    identity: Identity,
    database_ids: Vec<u16>,
    forms: Vec<(TableMapping, ColumnTypes)>,
}

async fn look(
    connection: &mut MySqlConnection,
    options: &Arc<MySqlOptions>,
    primary: &PrimaryWatch,
    facts: &ServerFacts,
    namespaces: &[NamespaceSettings],
) -> Result<Looked, Failure> {
    warn_of_lost_commits(connection, facts.dialect).await?;
    let now = storage_now(connection, options.clock.as_ref()).await?;
    let mut schema = schema_on(connection, options, primary, facts, now);
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
    Ok(Looked { identity, database_ids, forms })
}

fn schema_on<'a>(
    connection: &'a mut MySqlConnection,
    options: &MySqlOptions,
    primary: &PrimaryWatch,
    facts: &ServerFacts,
    now: seen_filter::UnixMillis,
) -> Schema<'a> {
    Schema {
        connection,
        dialect: facts.dialect,
        shard: primary.shard,
        shards: u16::try_from(options.shards.len()).unwrap_or(u16::MAX),
        engine: options.engine,
        now,
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

fn check_identities(all: &[Found]) -> Result<(), StoreError> {
    let Some(first) = all.first() else { return Ok(()) };
    for (number, found) in all.iter().enumerate() {
        let identity = found.identity;
        let place = found.primary.servers().database.clone();
        if usize::from(identity.shard) != number || usize::from(identity.shards) != all.len() {
            return Err(StoreError::new(
                StoreErrorKind::InvalidRequest,
                format!(
                    "shard {number} is configured as {place}, which is shard {} of {}; correct the \
                     list of shards, whose number is fixed when the store is made",
                    identity.shard, identity.shards
                ),
            ));
        }
        let same = |a: &Identity, b: &Identity| {
            (a.hash_key_id, a.hash_secret) == (b.hash_key_id, b.hash_secret)
        };
        if !same(&identity, &first.identity) || found.facts.dialect != first.facts.dialect {
            return Err(StoreError::new(
                StoreErrorKind::InvalidRequest,
                format!("shard {number} ({place}) belongs to another store than shard 0"),
            ));
        }
    }
    Ok(())
}

async fn schema_of_all(
    options: MySqlOptions,
    namespaces: Vec<NamespaceSettings>,
    apply: bool,
) -> Result<Vec<SchemaPlan>, StoreError> {
    options.validate()?;
    request::namespaces(&namespaces)?;
    let options = Arc::new(options);
    let mut plans = Vec::with_capacity(options.shards.len());
    let mut like = None;
    for number in 0..options.shards.len() {
        let primary = primary_of(&options, number).await?;
        let (mut connection, facts) = connected(&options, &primary).await?;
        let place = format!("shard {number} ({})", primary.servers().database);
        let done = async {
            let now = storage_now(&mut connection, options.clock.as_ref()).await?;
            let mut schema = schema_on(&mut connection, &options, &primary, &facts, now);
            if !apply {
                return Ok((schema.plan(&options, &namespaces).await?, None));
            }
            let plan = schema.apply(&options, &namespaces, like).await?;
            Ok((plan, schema.identity().await?))
        };
        let (plan, identity) = done.await.map_err(|f: Failure| f.into_store_error(&place))?;
        let _ = connection.close().await;
        like = like.or(identity);
        plans.push(plan);
    }
    Ok(plans)
}
