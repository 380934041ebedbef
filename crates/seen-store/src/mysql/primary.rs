//! Finding a shard's primary by asking, and keeping an eye on it. A server is the primary if it takes
//! writes, nobody else among the candidates does, and a majority of candidates and witnesses is in
//! reach: a site that is cut off sees only the old primary, which still takes writes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
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

/// Looks that are asked for keep this distance.
const LOOKS_APART: Duration = Duration::from_millis(50);

/// What one server answered.
#[derive(Clone, Debug)]
enum Probe {
    Writable(ServerFacts),
    ReadOnly,
    /// There, and without a connection to spare for the question.
    Busy,
    Unreachable(String),
}

/// Draws the conclusion from what each server answered. The `known` primary is taken to be one still
/// while it has no connection to spare: those that are there prove it in each transaction.
fn judge(
    candidates: &[(ServerAddress, Probe)],
    witnesses: &[Probe],
    known: Option<&Primary>,
) -> Standing {
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
            Probe::Busy => known.filter(|known| known.address == *address).cloned(),
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
                Probe::Busy => format!("{address}: has too many connections to be asked"),
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
    /// What the last look could not reach, and why.
    missing: Mutex<String>,
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
            missing: Mutex::default(),
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
            let why = self.explain(&standing);
            StoreError::new(
                StoreErrorKind::Unavailable,
                format!("shard {} has no primary: {why}", self.shard),
            )
        })
    }

    /// Why there is no primary, with what each server that is not in reach said: a wrong password
    /// looks like a cut-off site else.
    fn explain(&self, standing: &Standing) -> String {
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

    /// Asks every server once and draws the conclusion.
    pub(crate) async fn look(&self) -> Standing {
        let (candidates, witnesses) = tokio::join!(
            self.probe_all(&self.servers.candidates),
            self.probe_all(&self.servers.witnesses)
        );
        let candidates: Vec<_> = self.servers.candidates.iter().cloned().zip(candidates).collect();
        let voters = self.servers.witnesses.iter().zip(&witnesses);
        *self.missing.lock() = missing(candidates.iter().map(|(a, p)| (a, p)).chain(voters));
        let known = self.standing();
        let found = judge(&candidates, &witnesses, known.primary());
        let found = self.prefer_same(found, &candidates);
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
                    shard = %self.shard, why = self.explain(other), "no writes: no certain primary"
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

/// The servers that are not in reach, each with the reason.
fn missing<'a>(all: impl Iterator<Item = (&'a ServerAddress, &'a Probe)>) -> String {
    let each = all.filter_map(|(address, probe)| match probe {
        Probe::Unreachable(why) => Some(format!("{address}: {why}")),
        _ => None,
    });
    each.collect::<Vec<_>>().join("; ")
}

async fn probe(options: &MySqlOptions, address: &ServerAddress) -> Probe {
    match connect(options, address, None, Role::Probe).await {
        Ok((connection, facts)) => {
            // Politely, so that the server counts no aborted connection.
            let _ = sqlx::Connection::close(connection).await;
            if facts.read_only { Probe::ReadOnly } else { Probe::Writable(facts) }
        }
        Err(failure) if failure.is_busy() => Probe::Busy,
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
        judge(&candidates, witnesses, None)
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
    fn a_busy_server_stays_what_it_was() {
        let known = judged(&[writable(MARIADB), Probe::ReadOnly], &[]);
        let again = |probes: [Probe; 2], known: Option<&Primary>| {
            let candidates: Vec<_> = (1..).map(address).zip(probes).collect();
            judge(&candidates, &[], known)
        };
        assert_eq!(again([Probe::Busy, Probe::ReadOnly], known.primary()), known);
        let other = again([Probe::ReadOnly, Probe::Busy], known.primary());
        assert!(matches!(&other, Standing::NoneWritable(why) if why.contains("too many")));
        let none = again([Probe::Busy, Probe::ReadOnly], None);
        assert!(matches!(none, Standing::NoneWritable(_)), "{none:?}");
        let both = again([Probe::Busy, writable(MARIADB)], known.primary());
        assert!(matches!(both, Standing::SplitBrain(_)), "{both:?}");
    }

    #[test]
    fn without_a_writable_server_each_is_named() {
        let found = judged(&[Probe::ReadOnly, Probe::ReadOnly, gone()], &[]);
        assert!(found.why().contains("db:1: read only; db:2: read only; db:3: refused"));
    }
}
