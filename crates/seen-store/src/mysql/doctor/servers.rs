//! Which servers answer, what they are, and whether exactly one of them takes the writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::{Shard, StoreError, StoreErrorKind};
use sqlx::{Connection as _, MySqlConnection};

use super::super::connection::{Role, connect};
use super::super::dialect::ServerFacts;
use super::super::errors::{self, Failure};
use super::super::finding::Finding;
use super::super::primary::{PrimaryWatch, group_of};
use super::super::server::ServerAddress;
use super::super::standing::Standing;
use super::settings::{Duties, Variables};
use super::{Doctor, WantedFeed, settings};

/// Access denied for the user and password.
const DENIED: [u16; 2] = [1045, 1698];

/// The servers that answered.
pub(super) type Servers = BTreeMap<ServerAddress, ServerFacts>;

impl Doctor {
    /// Every server of every shard once, with what each is for.
    fn roster(&self) -> BTreeMap<ServerAddress, Duties> {
        let mut roster: BTreeMap<ServerAddress, Duties> = BTreeMap::new();
        let options = &self.options;
        for shard in &options.shards {
            for address in &shard.candidates {
                let duties = roster.entry(address.clone()).or_default();
                duties.may_be_primary = true;
                duties.has_peers |= shard.candidates.len() > 1;
                duties.shards += 1;
            }
            for address in &shard.witnesses {
                roster.entry(address.clone()).or_default();
            }
        }
        roster
    }

    /// Goes to every server: does it answer, what is it, how is it set?
    pub(super) async fn visit_servers(&mut self) -> Result<Servers, StoreError> {
        let roster = self.roster();
        let mut servers = Servers::new();
        let mut silent = Vec::new();
        let mut absent = Vec::new();
        for (address, duties) in &roster {
            match connect(&self.options, address, None, Role::Probe).await {
                Ok((connection, facts)) => {
                    self.visit(connection, address, &facts, duties).await;
                    servers.insert(address.clone(), facts);
                }
                Err(failure) => {
                    let finding = unreached(address, &self.options.login.user, failure);
                    silent.push(format!("{address}: {}", finding.what));
                    absent.push(finding);
                }
            }
        }
        if servers.is_empty() {
            let why = silent.join("; ");
            return Err(StoreError::new(
                StoreErrorKind::Unavailable,
                format!("no server can be examined: {why}"),
            ));
        }
        self.findings.extend(absent);
        self.compare(&servers, &roster);
        Ok(servers)
    }

    async fn visit(
        &mut self,
        mut connection: MySqlConnection,
        address: &ServerAddress,
        facts: &ServerFacts,
        duties: &Duties,
    ) {
        let (dialect, version) = (facts.dialect.name(), &facts.version);
        let writes = match (duties.may_be_primary, facts.read_only) {
            (false, _) => "a witness, which only votes",
            (true, true) => "takes no writes",
            (true, false) => "takes writes",
        };
        let what = format!("{dialect} {version}, {writes}");
        self.find(Finding::note(format!("server {address}"), what));
        let asked = Variables::of(&mut connection, &self.options).await;
        let subject = format!("settings of {address}");
        if let Some(variables) = self.had(&subject, address, asked)
            && duties.may_be_primary
        {
            let found = settings::examine(&settings::Server {
                address,
                facts,
                variables: &variables,
                duties,
                options: &self.options,
                feed: self.how.feed,
                snapshot_lag_ms: self.how.snapshot_lag_ms,
            });
            self.findings.extend(found);
            self.zones.insert(address.clone(), variables.zone());
        }
        if duties.may_be_primary {
            self.statements(&mut connection, address, facts).await;
        }
        let _ = connection.close().await;
    }

    /// What must differ between servers, and what should not.
    fn compare(&mut self, servers: &Servers, roster: &BTreeMap<ServerAddress, Duties>) {
        for shard in Arc::clone(&self.options).shards.iter() {
            let known = shard.candidates.iter().filter_map(|one| servers.get_key_value(one));
            let known: Vec<_> = known.collect();
            let Some(((first_address, first), rest)) = known.split_first() else { continue };
            for (address, facts) in rest {
                let subject = format!("servers {first_address} and {address}");
                if facts.dialect != first.dialect {
                    let what = format!(
                        "are {} and {}, which cannot take over from each other",
                        first.dialect.name(),
                        facts.dialect.name()
                    );
                    self.find(Finding::error(subject, what));
                } else if facts.version != first.version {
                    let what = format!(
                        "have the versions {} and {}; upgrade replicas first, then the primary",
                        first.version, facts.version
                    );
                    self.find(Finding::warning(subject, what));
                }
            }
            for (place, (address, facts)) in known.iter().enumerate() {
                let twin = known[..place].iter().find(|(_, one)| one.server_id == facts.server_id);
                if let Some((twin, _)) = twin
                    && !facts.dialect.any_server()
                {
                    let highest = servers.values().map(|one| one.server_id).max().unwrap_or(0);
                    let what = format!(
                        "is {} as at {twin}: neither replication nor the store can tell them apart",
                        facts.server_id
                    );
                    let mend =
                        settings::set(facts.dialect, "server_id", &(highest + 1).to_string());
                    let subject = format!("server_id at {address}");
                    self.find(Finding::error(subject, what).mended_by(mend));
                }
            }
        }
        let follows = |(address, facts): (&ServerAddress, &ServerFacts)| {
            roster.get(address).is_some_and(|duties| duties.may_be_primary)
                && facts.dialect.any_server()
        };
        if servers.iter().any(follows) {
            self.find(feed_of_tidb(self.how.feed));
        }
        if self.how.feed == WantedFeed::None {
            let what = "is none: nobody tells of changes, so that nothing is cached and every answer \
                        is asked of the servers";
            self.find(Finding::note("mysql.feed", what));
        }
    }

    /// How a shard stands, and the server to look at its tables at: its primary, or whoever is there.
    pub(super) async fn standing(
        &mut self,
        shard: Shard,
        servers: &Servers,
    ) -> Option<ServerAddress> {
        let of_shard = self.options.shards.get(usize::from(shard.get()))?.clone();
        let watch = PrimaryWatch::new(Arc::clone(&self.options), group_of(&of_shard));
        let subject = format!("primary of shard {shard}");
        let standing = watch.look().await;
        let mut answering = of_shard.candidates.iter().filter(|one| servers.contains_key(one));
        let reachable = answering.next().cloned();
        let finding = match standing {
            Standing::One(primary) => return Some(primary.address),
            Standing::SplitBrain(all) => {
                let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                let what = format!(
                    "several servers take writes at once ({}): whoever is written to, some of it will \
                     be lost; demote all but one by SET GLOBAL read_only = ON",
                    all.join(", ")
                );
                Finding::error(subject, what)
            }
            Standing::NoMajority { reached, servers } => {
                let what = format!(
                    "only {reached} of {servers} servers and witnesses are in reach, and a site that is \
                     cut off must not write; bring them back, or add a witness"
                );
                Finding::error(subject, what)
            }
            Standing::NoneWritable(_) | Standing::Unknown => {
                let what = "no server takes writes; promote one (and only one)";
                let finding = Finding::error(subject, what);
                match of_shard.candidates.len() {
                    1 => finding.mended_by("SET GLOBAL read_only = OFF"),
                    _ => finding,
                }
            }
        };
        self.find(finding);
        let mut candidates = of_shard.candidates.iter();
        let takes_writes = |one: &&ServerAddress| servers.get(one).is_some_and(|f| !f.read_only);
        candidates.find(takes_writes).cloned().or(reachable)
    }
}

/// A server that cannot be examined.
fn unreached(address: &ServerAddress, user: &str, failure: Failure) -> Finding {
    let subject = format!("server {address}");
    if let Failure::Sql(_, error) = &failure
        && errors::number(error).is_some_and(|number| DENIED.contains(&number))
    {
        let what =
            format!("refuses the user {user:?}; check mysql.user and its password ({error})");
        return Finding::error(subject, what);
    }
    let error = failure.into_store_error(&address.to_string());
    match error.kind {
        StoreErrorKind::Schema => Finding::error(subject, error.message),
        _ => Finding::warning(subject, error.message),
    }
}

fn feed_of_tidb(feed: WantedFeed) -> Finding {
    let what = "TiDB has no binary log: its changes come by TiCDC and Kafka; until these are followed, \
                set mysql.feed = \"none\", and every answer is asked of the servers";
    match feed {
        WantedFeed::Binlog => Finding::error("mysql.feed", what),
        WantedFeed::Auto | WantedFeed::None => Finding::note("mysql.feed", what),
    }
}
