//! Finding a shard's primary by asking, and keeping an eye on it. A server is the primary if it takes
//! writes, nobody else among the candidates does, and a majority of candidates and witnesses is in
//! reach: a site that is cut off sees only the old primary, which still takes writes.

use std::sync::Arc;
use std::time::Duration;

use seen_filter::{Shard, StoreError, StoreErrorKind};
use tokio::sync::{Notify, watch};

use super::connection::{Role, connect};
use super::dialect::ServerFacts;
use super::options::{MySqlOptions, ShardServers};
use super::server::ServerAddress;

/// The server that takes a shard's writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Where it is.
    pub address: ServerAddress,
    /// What it is.
    pub facts: ServerFacts,
}

/// What a look at all servers of a shard came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has looked yet.
    Unknown,
    /// This one takes the writes.
    One(Primary),
    /// No candidate takes writes.
    NoneWritable(String),
    /// Several do: whoever is written to, some of it will be lost.
    SplitBrain(Vec<ServerAddress>),
    /// Too few of the servers are in reach to be sure.
    NoMajority {
        /// In reach.
        reached: usize,
        /// In all.
        servers: usize,
    },
}

impl Standing {
    /// The primary, if there is exactly one for certain.
    pub fn primary(&self) -> Option<&Primary> {
        match self {
            Self::One(primary) => Some(primary),
            _ => None,
        }
    }

    /// Why there is none.
    fn why(&self) -> String {
        match self {
            Self::Unknown => "its servers have not answered yet".to_owned(),
            Self::One(primary) => format!("{} is its primary", primary.address),
            Self::NoneWritable(seen) => format!("none of its servers takes writes ({seen})"),
            Self::SplitBrain(all) => {
                let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                let all = all.join(", ");
                format!("several of its servers take writes at once: {all}; demote all but one")
            }
            Self::NoMajority { reached, servers } => {
                format!("only {reached} of its {servers} servers and witnesses are in reach")
            }
        }
    }
}

/// What one server answered.
#[derive(Clone, Debug)]
enum Probe {
    Writable(ServerFacts),
    ReadOnly,
    Unreachable(String),
}

/// Draws the conclusion from what each server answered.
fn judge(candidates: &[(ServerAddress, Probe)], witnesses: &[Probe]) -> Standing {
    let servers = candidates.len() + witnesses.len();
    let answers = |probe: &Probe| !matches!(probe, Probe::Unreachable(_));
    let reached = candidates.iter().filter(|(_, p)| answers(p)).count()
        + witnesses.iter().filter(|p| answers(p)).count();
    let writable: Vec<Primary> = candidates
        .iter()
        .filter_map(|(address, probe)| match probe {
            Probe::Writable(facts) => {
                Some(Primary { address: address.clone(), facts: facts.clone() })
            }
            _ => None,
        })
        .collect();
    match writable.as_slice() {
        // Every TiDB server takes writes, and each shows what all others wrote.
        [first, ..] if writable.iter().all(|p| p.facts.dialect.any_server()) => {
            Standing::One(first.clone())
        }
        [_, _, ..] => Standing::SplitBrain(writable.into_iter().map(|p| p.address).collect()),
        _ if reached * 2 <= servers => Standing::NoMajority { reached, servers },
        [only] => Standing::One(only.clone()),
        [] => {
            let each = candidates.iter().map(|(address, probe)| match probe {
                Probe::Unreachable(why) => format!("{address}: {why}"),
                _ => format!("{address}: read only"),
            });
            Standing::NoneWritable(each.collect::<Vec<_>>().join("; "))
        }
    }
}

/// Watches one shard's servers. Ends with the store.
pub(crate) struct PrimaryWatch {
    pub shard: Shard,
    options: Arc<MySqlOptions>,
    servers: ShardServers,
    standing: watch::Sender<Standing>,
    address: watch::Sender<Option<ServerAddress>>,
    look_now: Notify,
}

impl PrimaryWatch {
    pub(crate) fn new(
        shard: Shard,
        options: Arc<MySqlOptions>,
        servers: ShardServers,
    ) -> Arc<Self> {
        Arc::new(Self {
            shard,
            options,
            servers,
            standing: watch::Sender::new(Standing::Unknown),
            address: watch::Sender::new(None),
            look_now: Notify::new(),
        })
    }

    pub(crate) fn servers(&self) -> &ShardServers {
        &self.servers
    }

    /// Where the primary is, for whoever follows it.
    pub(crate) fn address(&self) -> watch::Receiver<Option<ServerAddress>> {
        self.address.subscribe()
    }

    /// What the last look came to.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// The primary now.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub(crate) fn primary(&self) -> Result<Primary, StoreError> {
        let standing = self.standing.borrow();
        standing.primary().cloned().ok_or_else(|| {
            let why = standing.why();
            StoreError::new(
                StoreErrorKind::Unavailable,
                format!("shard {} has no primary: {why}", self.shard),
            )
        })
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
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.look_now.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Asks every server once and draws the conclusion.
    pub(crate) async fn look(&self) -> Standing {
        let (candidates, witnesses) = tokio::join!(
            self.probe_all(&self.servers.candidates),
            self.probe_all(&self.servers.witnesses)
        );
        let candidates: Vec<_> = self.servers.candidates.iter().cloned().zip(candidates).collect();
        let found = self.prefer_same(judge(&candidates, &witnesses), &candidates);
        let changed = self.standing.send_if_modified(|standing| {
            let changed = *standing != found;
            standing.clone_from(&found);
            changed
        });
        if changed {
            match &found {
                Standing::One(primary) => tracing::info!(
                    shard = %self.shard, primary = %primary.address,
                    version = %primary.facts.version, "found the primary"
                ),
                other => tracing::error!(
                    shard = %self.shard, why = other.why(), "no writes: no certain primary"
                ),
            }
            let address = found.primary().map(|primary| primary.address.clone());
            self.address.send_if_modified(|known| {
                let changed = *known != address;
                known.clone_from(&address);
                changed
            });
        }
        found
    }

    /// Of several servers that will do, the one in use stays in use.
    fn prefer_same(&self, found: Standing, all: &[(ServerAddress, Probe)]) -> Standing {
        let known = self.standing.borrow();
        match (&found, &*known) {
            (Standing::One(primary), Standing::One(same)) if primary.facts.dialect.any_server() => {
                let still = all.iter().any(|(address, probe)| {
                    *address == same.address && matches!(probe, Probe::Writable(_))
                });
                if still { Standing::One(same.clone()) } else { found }
            }
            _ => found,
        }
    }

    async fn probe_all(&self, addresses: &[ServerAddress]) -> Vec<Probe> {
        let mut asked = Vec::with_capacity(addresses.len());
        for address in addresses {
            let (options, address) = (Arc::clone(&self.options), address.clone());
            asked.push(tokio::spawn(async move { probe(&options, &address).await }));
        }
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await.unwrap_or_else(|e| Probe::Unreachable(e.to_string())));
        }
        answers
    }
}

async fn probe(options: &MySqlOptions, address: &ServerAddress) -> Probe {
    match connect(options, address, None, Role::Probe).await {
        Ok((connection, facts)) => {
            // Politely, so that the server counts no aborted connection.
            let _ = sqlx::Connection::close(connection).await;
            if facts.read_only { Probe::ReadOnly } else { Probe::Writable(facts) }
        }
        Err(failure) => {
            let error = failure.into_store_error(&address.to_string());
            Probe::Unreachable(error.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> ServerAddress {
        ServerAddress { host: "db".to_owned(), port: n }
    }

    fn writable(version: &str) -> Probe {
        Probe::Writable(ServerFacts::new(version, 1, false).expect("known"))
    }

    fn gone() -> Probe {
        Probe::Unreachable("refused".to_owned())
    }

    fn judged(candidates: &[Probe], witnesses: &[Probe]) -> Standing {
        let candidates: Vec<_> = (1..).map(address).zip(candidates.iter().cloned()).collect();
        judge(&candidates, witnesses)
    }

    const MARIADB: &str = "10.11.4-MariaDB";

    #[test]
    fn one_writable_server_with_a_majority_is_the_primary() {
        let found = judged(&[Probe::ReadOnly, writable(MARIADB)], &[]);
        assert_eq!(found.primary().map(|p| p.address.port), Some(2));
        let found = judged(&[writable(MARIADB), gone()], &[Probe::ReadOnly]);
        assert_eq!(found.primary().map(|p| p.address.port), Some(1));
        assert_eq!(judged(&[writable(MARIADB)], &[]).primary().map(|p| p.address.port), Some(1));
    }

    #[test]
    fn a_cut_off_site_writes_to_nobody() {
        let found = judged(&[writable(MARIADB), gone()], &[]);
        assert_eq!(found, Standing::NoMajority { reached: 1, servers: 2 });
        let found = judged(&[writable(MARIADB), gone()], &[gone()]);
        assert!(found.primary().is_none() && found.why().contains("1 of its 3"), "{found:?}");
        assert!(matches!(judged(&[gone()], &[]), Standing::NoMajority { .. }));
    }

    #[test]
    fn two_writable_servers_are_a_split_brain_except_on_tidb() {
        let both = [writable(MARIADB), writable("9.7.0")];
        assert!(matches!(judged(&both, &[]), Standing::SplitBrain(all) if all.len() == 2));
        let tidb = "8.0.11-TiDB-v8.5.4";
        let found = judged(&[gone(), writable(tidb), writable(tidb)], &[]);
        assert_eq!(found.primary().map(|p| p.address.port), Some(2));
    }

    #[test]
    fn without_a_writable_server_each_is_named() {
        let found = judged(&[Probe::ReadOnly, Probe::ReadOnly, gone()], &[]);
        assert!(found.why().contains("db:1: read only; db:2: read only; db:3: refused"));
    }
}
