//! Opening the store, and making or checking its schema.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use seen_filter::{NamespaceSettings, Shard, StoreError, StoreErrorKind};
use sqlx::Connection as _;
use tokio::sync::watch;

use super::MySqlStore;
use super::errors::Failure;
use super::home::Home;
use super::look::{Common, Looked, Looker, check_common, connected, schema_on};
use super::options::MySqlOptions;
use super::primary::PrimaryWatch;
use super::retry::RetryBudget;
use super::schema::{SchemaPlan, storage_now};
use super::shard::{ShardParts, ShardStore};
use super::tables::Tables;
use super::tally;
use super::upkeep::Upkeep;
use crate::request;

/// Shards that are looked at at the same time.
const LOOKS_MAX: usize = 32;
/// Shards that are named in an error.
const NAMED_MAX: usize = 4;

impl MySqlStore {
    /// Opens the store: finds every shard's primary, and checks that the schema is what this program
    /// expects. A shard that is not in reach is looked at when it first is; until then calls about its
    /// users fail with `Unavailable`. One shard must be in reach: what hashes users over shards is
    /// known by none else.
    ///
    /// # Errors
    /// `InvalidRequest` for options or namespaces out of range or in conflict with the database;
    /// `Unavailable` if no shard is in reach; `Schema` if something is missing or was made by a newer
    /// program. Each says what to do.
    pub async fn open(
        options: MySqlOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Result<Arc<Self>, StoreError> {
        options.validate()?;
        request::namespaces(&namespaces)?;
        let options = Arc::new(options);
        let (groups, homes) = homes(&options);
        join_all(groups.iter().map(|group| group.look_for_one())).await;
        let looker = Looker { options: Arc::clone(&options), namespaces: namespaces.clone() };
        let looker = Arc::new(looker);
        let common = Arc::new(look_at_all(&looker, &homes).await?);
        let forms = common.forms.clone();
        let tables = Arc::new(Tables::new(namespaces, forms, common.dialect));
        let budget = Arc::new(RetryBudget::default());
        let (shutdown, stopped) = watch::channel(false);
        // One life of one store, for the leases of background work.
        let life = rand::random();
        let mut store = Self {
            options: Arc::clone(&options),
            shards: Vec::new(),
            tables: Arc::clone(&tables),
            hash_key: common.hash_key(),
            dialect: common.dialect,
            budget: Arc::clone(&budget),
            jobs: Mutex::default(),
            upkeep: Vec::new(),
            shutdown,
            tasks: Mutex::default(),
        };
        let tasks = store.tasks.get_mut();
        let every = Duration::from_millis(options.probe_interval_ms);
        let counting = tally::run(homes.clone(), groups.clone(), every, stopped.clone());
        tasks.push(tokio::spawn(counting));
        for group in groups {
            tasks.push(tokio::spawn(group.run(stopped.clone())));
        }
        for home in homes {
            let following = Arc::clone(&looker);
            let following =
                following.follow(Arc::clone(&home), Arc::clone(&common), stopped.clone());
            tasks.push(tokio::spawn(following));
            let shard = ShardStore::new(ShardParts {
                options: Arc::clone(&options),
                primary: home,
                budget: Arc::clone(&budget),
                tables: Arc::clone(&tables),
            });
            let (jobs, writers) = shard.start_writers();
            store.jobs.get_mut().push(jobs);
            tasks.extend(writers);
            let upkeep = Upkeep::new(Arc::clone(&shard), life);
            if options.upkeep {
                let working = Arc::clone(&upkeep).run(stopped.clone());
                tasks.push(tokio::spawn(working));
            }
            store.upkeep.push(upkeep);
            store.shards.push(shard);
        }
        Ok(Arc::new(store))
    }

    /// What the schema lacks, shard by shard. Changes nothing.
    ///
    /// # Errors
    /// As [`MySqlStore::open`], and `Unavailable` if any shard is not in reach.
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
    /// As [`MySqlStore::plan_schema`]; what was made before the error stays, and is found by the next
    /// run.
    pub async fn apply_schema(
        options: MySqlOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Result<Vec<SchemaPlan>, StoreError> {
        schema_of_all(options, namespaces, true).await
    }
}

/// A watch for each group of servers, and every shard's home.
fn homes(options: &Arc<MySqlOptions>) -> (Vec<Arc<PrimaryWatch>>, Vec<Arc<Home>>) {
    let of_shards = PrimaryWatch::of_shards(options);
    let mut groups: Vec<Arc<PrimaryWatch>> = Vec::new();
    let mut homes = Vec::with_capacity(of_shards.len());
    for (number, (group, servers)) in of_shards.into_iter().zip(&options.shards).enumerate() {
        if !groups.iter().any(|known| Arc::ptr_eq(known, &group)) {
            groups.push(Arc::clone(&group));
        }
        let shard = Shard::new(u16::try_from(number).unwrap_or(u16::MAX));
        homes.push(Home::new(shard, servers.database.clone(), group, options.map_epoch));
    }
    (groups, homes)
}

/// Looks at every shard in reach. Those that are found to be right may be used from now on.
///
/// # Errors
/// What is wrong with a shard in reach: nobody should have to find that out later. `Unavailable` if none
/// is in reach.
async fn look_at_all(looker: &Looker, homes: &[Arc<Home>]) -> Result<Common, StoreError> {
    let mut looks: Vec<Result<Looked, StoreError>> = Vec::with_capacity(homes.len());
    for some in homes.chunks(LOOKS_MAX) {
        let mut asked = Vec::with_capacity(some.len());
        for home in some {
            asked.push(looker.look(home));
        }
        looks.extend(join_all(asked).await);
    }
    let mut common: Option<Common> = None;
    let mut unseen = Vec::new();
    for (home, looked) in homes.iter().zip(looks) {
        match looked {
            Ok(looked) => {
                let known = common.get_or_insert_with(|| looked.common.clone());
                check_common(home, &looked.common, known)?;
                match home.check_map(looked.known.map_epoch) {
                    Ok(()) => home.admit(looked.known),
                    Err(error) => unseen.push((home, error.message)),
                }
            }
            Err(error) if error.kind == StoreErrorKind::Unavailable => {
                home.refuse(&error);
                unseen.push((home, error.message));
            }
            Err(error) => return Err(error),
        }
    }
    let Some(common) = common.filter(|_| unseen.len() < homes.len()) else {
        return Err(none_in_reach(&unseen));
    };
    for (home, why) in unseen {
        tracing::error!(
            shard = %home.shard, database = %home.database, why,
            "THE SHARD IS NOT USED: calls about its users fail"
        );
    }
    Ok(common)
}

fn none_in_reach(unseen: &[(&Arc<Home>, String)]) -> StoreError {
    let mut whys: Vec<&str> = unseen.iter().map(|(_, why)| why.as_str()).collect();
    let more = whys.len().saturating_sub(NAMED_MAX);
    whys.truncate(NAMED_MAX);
    let mut message = whys.join("; ");
    if more > 0 {
        message += &format!("; and {more} more");
    }
    if unseen.len() > 1 {
        message = format!("none of the {} shards can be used: {message}", unseen.len());
    }
    StoreError::new(StoreErrorKind::Unavailable, message)
}

async fn schema_of_all(
    options: MySqlOptions,
    namespaces: Vec<NamespaceSettings>,
    apply: bool,
) -> Result<Vec<SchemaPlan>, StoreError> {
    options.validate()?;
    request::namespaces(&namespaces)?;
    let options = Arc::new(options);
    let (groups, homes) = homes(&options);
    join_all(groups.iter().map(|group| group.look_for_one())).await;
    // Nothing is changed anywhere before every shard has a primary.
    for home in &homes {
        home.server()?;
    }
    let mut plans = Vec::with_capacity(homes.len());
    let mut like = None;
    for home in &homes {
        let (mut connection, facts) = connected(&options, home).await?;
        let place = format!("shard {} ({})", home.shard, home.database);
        let done = async {
            let now = storage_now(&mut connection, options.clock.as_ref()).await?;
            let mut schema = schema_on(&mut connection, &options, home, &facts, now);
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
