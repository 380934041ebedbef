//! Finding a group's primary by asking, and keeping an eye on it. A server is the primary if it takes
//! writes, nobody else among the candidates does, and a majority of candidates and witnesses is in
//! reach: a site that is cut off sees only the old primary, which still takes writes. Shards on the same
//! servers share one watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::{Executor as _, MySqlConnection};
use tokio::sync::{Notify, watch};

use super::cluster::Surroundings;
use super::connection::{Role, connect};
use super::errors::{Failure, Stage};
use super::mapping::Name;
use super::options::{MySqlOptions, ShardServers};
use super::server::ServerAddress;
use super::sql::safe;
use super::standing::{Probe, Standing, judge, missing};

/// Looks that are asked for keep this distance.
const LOOKS_APART: Duration = Duration::from_millis(50);

/// The servers of one group: candidates and witnesses.
pub(crate) type Group = (Vec<ServerAddress>, Vec<ServerAddress>);

/// The group of a shard's servers.
pub(crate) fn group_of(servers: &ShardServers) -> Group {
    (servers.candidates.clone(), servers.witnesses.clone())
}

/// Watches one group of servers. Ends with the store.
pub(crate) struct PrimaryWatch {
    options: Arc<MySqlOptions>,
    candidates: Vec<ServerAddress>,
    witnesses: Vec<ServerAddress>,
    /// Of the first shard there.
    database: Option<Name>,
    standing: watch::Sender<Standing>,
    look_now: Notify,
    /// What the last look could not reach, and why.
    missing: Mutex<String>,
    /// The primary has semi-synchronous replicas, and none of them answers.
    waits_for_nobody: watch::Sender<bool>,
}

impl PrimaryWatch {
    pub(crate) fn new(options: Arc<MySqlOptions>, group: Group) -> Arc<Self> {
        let first = options.shards.iter().find(|servers| group_of(servers) == group);
        let database = first.map(|servers| servers.database.clone());
        let (candidates, witnesses) = group;
        Arc::new(Self {
            options,
            database,
            candidates,
            witnesses,
            standing: watch::Sender::new(Standing::Unknown),
            look_now: Notify::new(),
            missing: Mutex::default(),
            waits_for_nobody: watch::Sender::new(false),
        })
    }

    /// One for each group of servers, and the group of each shard.
    pub(crate) fn of_shards(options: &Arc<MySqlOptions>) -> Vec<Arc<Self>> {
        let mut groups: HashMap<Group, Arc<Self>> = HashMap::new();
        let of_shard = |servers: &ShardServers| {
            let group = group_of(servers);
            let watch = || Self::new(Arc::clone(options), group.clone());
            Arc::clone(groups.entry(group.clone()).or_insert_with(watch))
        };
        options.shards.iter().map(of_shard).collect()
    }

    /// What looks come to, for whoever follows it.
    pub(crate) fn standings(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What the last look came to.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// True while commits wait for no replica, though they are meant to.
    pub(crate) fn waits_for_nobody(&self) -> bool {
        *self.waits_for_nobody.borrow()
    }

    /// Why there is no primary, with what each server that is not in reach said: a wrong password
    /// looks like a cut-off site else.
    pub(crate) fn explain(&self, standing: &Standing) -> String {
        let missing = self.missing.lock();
        match standing {
            Standing::NoMajority { .. } if !missing.is_empty() => {
                format!("{} ({missing})", standing.why())
            }
            _ => standing.why(),
        }
    }

    /// Asks for a look at once: somebody met a refusal or a broken connection.
    pub(crate) fn suspect(&self) {
        self.look_now.notify_one();
    }

    /// Looks at intervals and when asked, until stopped.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let interval = Duration::from_millis(self.options.probe_interval_ms);
        loop {
            self.look().await;
            // Every call that meets an error asks for a look: they must not become a load of their own.
            tokio::select! {
                () = tokio::time::sleep(interval.min(LOOKS_APART)) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.look_now.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Looks a few times, until there is a primary or the time for a connection has passed.
    pub(crate) async fn look_for_one(&self) -> Standing {
        let until = tokio::time::Instant::now() + self.options.connect_timeout();
        loop {
            let found = self.look().await;
            if matches!(found, Standing::One(_)) || tokio::time::Instant::now() >= until {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(self.options.probe_interval_ms)).await;
        }
    }

    /// Asks every server once and draws the conclusion.
    pub(crate) async fn look(&self) -> Standing {
        let (candidates, witnesses) =
            tokio::join!(self.probe_all(&self.candidates), self.probe_all(&self.witnesses));
        let degraded: Vec<bool> = candidates.iter().map(|(_, degraded)| *degraded).collect();
        let probes = candidates.into_iter().map(|(probe, _)| probe);
        let candidates: Vec<_> = self.candidates.iter().cloned().zip(probes).collect();
        let witnesses: Vec<_> = witnesses.into_iter().map(|(probe, _)| probe).collect();
        let voters = self.witnesses.iter().zip(&witnesses);
        *self.missing.lock() = missing(candidates.iter().map(|(a, p)| (a, p)).chain(voters));
        let known = self.standing();
        let found = judge(&candidates, &witnesses, known.primary());
        let is_degraded = found.primary().is_some_and(|primary| {
            let mut each = candidates.iter().zip(degraded);
            each.any(|((address, _), degraded)| degraded && *address == primary.address)
        });
        self.tell(&found, is_degraded);
        found
    }

    /// Tells those who follow, and the log, what is new.
    fn tell(&self, found: &Standing, waits_for_nobody: bool) {
        let changed = self.standing.send_if_modified(|standing| {
            let changed = standing != found;
            standing.clone_from(found);
            changed
        });
        if changed {
            match found {
                Standing::One(primary) => tracing::info!(
                    primary = %primary.address, version = %primary.facts.version,
                    "found the primary"
                ),
                other => tracing::error!(
                    servers = self.names(),
                    why = self.explain(other),
                    "no writes: no certain primary"
                ),
            }
        }
        if self.waits_for_nobody.send_replace(waits_for_nobody) == waits_for_nobody {
            return;
        }
        let servers = self.names();
        match waits_for_nobody {
            true => tracing::error!(
                servers,
                "ACKNOWLEDGED MARKS CAN BE LOST by a failover: semi-synchronous replication is \
                 switched on and no replica answers, so that commits wait for nobody; mend the \
                 replicas"
            ),
            false => tracing::info!(servers, "commits wait for a replica again, or need not"),
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.candidates.iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    async fn probe_all(&self, addresses: &[ServerAddress]) -> Vec<(Probe, bool)> {
        let mut asked = Vec::with_capacity(addresses.len());
        for address in addresses {
            let (options, address) = (Arc::clone(&self.options), address.clone());
            let database = self.database.clone();
            asked.push(tokio::spawn(async move { probe(&options, &address, database).await }));
        }
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            let failed = |error: tokio::task::JoinError| Probe::Unreachable(error.to_string());
            answers.push(answer.await.unwrap_or_else(|error| (failed(error), false)));
        }
        answers
    }
}

/// Reads a row from where rows are: a TiDB server tells of itself also while it is cut off from its
/// storage, and of several that take writes the one in use would stay in use.
async fn reach_storage(connection: &mut MySqlConnection, database: &Name) -> Result<(), Failure> {
    let sql = safe(format!("SELECT shard FROM {database}.seen_store WHERE id = 1"));
    let read = connection.fetch_optional(sqlx::raw_sql(sql)).await;
    match read.map_err(|error| Failure::Sql(Stage::Open, error)) {
        Err(failure) if failure.is_out_of_reach() => Err(failure),
        // It answered, were it that the schema is not made yet, or may not be looked at.
        _ => Ok(()),
    }
}

/// What a server answers, and whether its commits wait for nobody though they are meant to.
async fn probe(
    options: &MySqlOptions,
    address: &ServerAddress,
    database: Option<Name>,
) -> (Probe, bool) {
    let asked = async {
        let (mut connection, mut facts) = connect(options, address, None, Role::Probe).await?;
        let around = match facts.read_only {
            true => Ok(Surroundings::default()),
            false => Surroundings::of(&mut connection, facts.dialect).await,
        };
        let reached = match database {
            Some(database) if facts.dialect.any_server() => {
                reach_storage(&mut connection, &database).await
            }
            _ => Ok(()),
        };
        // Politely, so that the server counts no aborted connection.
        let _ = sqlx::Connection::close(connection).await;
        let around = around?;
        reached?;
        let probe = match (around.galera, around.outside_group) {
            _ if facts.read_only => Probe::ReadOnly,
            (Some(Err(why)), _) | (_, Some(why)) => Probe::Outside(why),
            (Some(Ok(galera)), None) => {
                facts.is_galera = true;
                Probe::Writable(facts, Some(galera))
            }
            (None, None) => Probe::Writable(facts, None),
        };
        Ok((probe, around.waits_for_nobody))
    };
    // Opening the connection has a limit of its own, which is as long.
    let limit = options.connect_timeout() * 2;
    let silent = |_| Err(Failure::Silent(Stage::Open, options.connect_timeout_ms * 2));
    match tokio::time::timeout(limit, asked).await.unwrap_or_else(silent) {
        Ok(answer) => answer,
        Err(failure) if failure.is_busy() => (Probe::Busy, false),
        Err(failure) => {
            let error = failure.into_store_error(&address.to_string());
            (Probe::Unreachable(error.message), false)
        }
    }
}
