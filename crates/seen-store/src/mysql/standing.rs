//! What a look at all servers of a group comes to: which of them takes the writes, if one does for
//! certain.

use super::cluster::Galera;
use super::dialect::ServerFacts;
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
    pub(crate) fn why(&self) -> String {
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
pub(crate) enum Probe {
    /// Takes writes; with the cluster that it is a member of, if it is one of Galera's.
    Writable(ServerFacts, Option<Galera>),
    ReadOnly,
    /// Would take writes, and its cluster would not: why.
    Outside(String),
    /// There, and without a connection to spare for the question.
    Busy,
    Unreachable(String),
}

/// Draws the conclusion from what each server answered. The `known` primary is taken to be one still
/// while it has no connection to spare: those that are there prove it in each transaction.
pub(crate) fn judge(
    candidates: &[(ServerAddress, Probe)],
    witnesses: &[Probe],
    known: Option<&Primary>,
) -> Standing {
    let servers = candidates.len() + witnesses.len();
    let answers = |probe: &Probe| !matches!(probe, Probe::Unreachable(_));
    let reached = candidates.iter().filter(|(_, p)| answers(p)).count()
        + witnesses.iter().filter(|p| answers(p)).count();
    let mut writable: Vec<(Primary, Option<&Galera>)> = Vec::new();
    for (address, probe) in candidates {
        match probe {
            Probe::Writable(facts, galera) => {
                let primary = Primary { address: address.clone(), facts: facts.clone() };
                writable.push((primary, galera.as_ref()));
            }
            Probe::Busy => {
                let same = known.filter(|known| known.address == *address).cloned();
                writable.extend(same.map(|same| (same, None)));
            }
            _ => {}
        }
    }
    match writable.as_slice() {
        // Every TiDB server takes writes, and each shows what all others wrote.
        [first, ..] if writable.iter().all(|(p, _)| p.facts.dialect.any_server()) => {
            Standing::One(chosen(&writable, known).unwrap_or(&first.0).clone())
        }
        _ if reached * 2 <= servers && writable.len() < 2 => {
            Standing::NoMajority { reached, servers }
        }
        // So does every node of one Galera cluster, which keeps its own majority beside ours.
        [first, _, ..] if is_one_cluster(&writable, known) => match reached * 2 > servers {
            true => Standing::One(chosen(&writable, known).unwrap_or(&first.0).clone()),
            false => Standing::NoMajority { reached, servers },
        },
        [_, _, ..] => Standing::SplitBrain(writable.into_iter().map(|(p, _)| p.address).collect()),
        [(only, _)] => Standing::One(only.clone()),
        [] => {
            let each = candidates.iter().map(|(address, probe)| match probe {
                Probe::Unreachable(why) | Probe::Outside(why) => format!("{address}: {why}"),
                Probe::Busy => format!("{address}: has too many connections to be asked"),
                _ => format!("{address}: read only"),
            });
            Standing::NoneWritable(each.collect::<Vec<_>>().join("; "))
        }
    }
}

/// Of several servers that will do, the one in use stays in use; else the first of the list, so that
/// all processes come to the same.
fn chosen<'a>(
    writable: &'a [(Primary, Option<&Galera>)],
    known: Option<&Primary>,
) -> Option<&'a Primary> {
    let known = known?;
    let same = writable.iter().find(|(primary, _)| primary.address == known.address);
    same.map(|(primary, _)| primary)
}

/// True if all are nodes of one cluster. The known primary is taken at its former word while it has no
/// connection to spare.
fn is_one_cluster(writable: &[(Primary, Option<&Galera>)], known: Option<&Primary>) -> bool {
    let Some(cluster) = writable.iter().find_map(|(_, galera)| *galera) else { return false };
    writable.iter().all(|(primary, galera)| match galera {
        Some(galera) => galera.cluster == cluster.cluster,
        None => known.is_some_and(|known| known == primary && known.facts.is_galera),
    })
}

/// The servers that are not in reach, each with the reason.
pub(crate) fn missing<'a>(all: impl Iterator<Item = (&'a ServerAddress, &'a Probe)>) -> String {
    let each = all.filter_map(|(address, probe)| match probe {
        Probe::Unreachable(why) => Some(format!("{address}: {why}")),
        _ => None,
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> ServerAddress {
        ServerAddress { host: "db".to_owned(), port: n }
    }

    fn writable(version: &str) -> Probe {
        Probe::Writable(ServerFacts::new(version, 1, false).expect("known"), None)
    }

    fn node(cluster: &str) -> Probe {
        let mut facts = ServerFacts::new(MARIADB, 1, false).expect("known");
        facts.is_galera = true;
        Probe::Writable(facts, Some(Galera { cluster: cluster.to_owned() }))
    }

    fn gone() -> Probe {
        Probe::Unreachable("refused".to_owned())
    }

    fn judged(candidates: &[Probe], witnesses: &[Probe]) -> Standing {
        judged_after(candidates, witnesses, None)
    }

    fn judged_after(probes: &[Probe], witnesses: &[Probe], known: Option<&Primary>) -> Standing {
        let candidates: Vec<_> = (1..).map(address).zip(probes.iter().cloned()).collect();
        judge(&candidates, witnesses, known)
    }

    fn port(standing: &Standing) -> Option<u16> {
        standing.primary().map(|p| p.address.port)
    }

    const MARIADB: &str = "10.11.4-MariaDB";

    #[test]
    fn one_writable_server_with_a_majority_is_the_primary() {
        assert_eq!(port(&judged(&[Probe::ReadOnly, writable(MARIADB)], &[])), Some(2));
        assert_eq!(port(&judged(&[writable(MARIADB), gone()], &[Probe::ReadOnly])), Some(1));
        assert_eq!(port(&judged(&[writable(MARIADB)], &[])), Some(1));
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
        assert_eq!(port(&found), Some(2));
        let again = judged_after(&[writable(tidb), writable(tidb)], &[], found.primary());
        assert_eq!(port(&again), Some(2), "the one in use stays in use");
    }

    #[test]
    fn the_nodes_of_one_cluster_are_no_split_brain() {
        let found = judged(&[node("a"), node("a"), node("a")], &[]);
        assert_eq!(port(&found), Some(1));
        let outside = Probe::Outside("is in no primary component".to_owned());
        let moved = judged_after(&[outside.clone(), node("a"), node("a")], &[], found.primary());
        assert_eq!(port(&moved), Some(2));
        let back = judged_after(&[node("a"), node("a"), node("a")], &[], moved.primary());
        assert_eq!(port(&back), Some(2), "the one in use stays in use");
        let busy = judged_after(&[node("a"), Probe::Busy, node("a")], &[], moved.primary());
        assert_eq!(port(&busy), Some(2));
        assert!(matches!(judged(&[node("a"), node("b")], &[]), Standing::SplitBrain(_)));
        let mixed = judged(&[node("a"), writable(MARIADB)], &[]);
        assert!(matches!(mixed, Standing::SplitBrain(_)), "{mixed:?}");
        let few = judged(&[node("a"), node("a"), gone(), gone()], &[]);
        assert_eq!(few, Standing::NoMajority { reached: 2, servers: 4 });
        let none = judged(&[outside.clone(), outside, gone()], &[]);
        assert!(none.why().contains("db:1: is in no primary component; db:2"), "{none:?}");
    }

    #[test]
    fn a_busy_server_stays_what_it_was() {
        let known = judged(&[writable(MARIADB), Probe::ReadOnly], &[]);
        let again = |probes: [Probe; 2], known| judged_after(&probes, &[], known);
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
