//! Every fault: what is done, what heals it, and what is expected, written down before it is measured.

use std::fmt::Write;
use std::time::Duration;

use super::backing::Backing;
use super::faults::Fault;
use super::limits::Limit;
use super::network::{Network, Place};
use super::pressure::Press;
use super::stage::Act;

/// How a fault is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    /// To the cluster's own processes, which have to be whole again before it is over.
    Parts,
    /// To the servers behind the cluster.
    Stage(Act),
    /// The same in short moments, again and again.
    Moments(Act),
    /// Kafka forgets what a replica, which stands still meanwhile, has not read.
    Gap,
    /// To packets.
    Network(Place, Network),
    /// To what a process may use.
    Limit(Limit),
    /// By more callers.
    Press(Press),
}

/// What must be so for a fault to be passed, beside what must always be so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expects {
    /// Highest share of flagged answers, in percent, from its begin until all is as before; none where the service cannot
    /// do better than to flag.
    pub flagged_percent_max: Option<f64>,
    /// How soon after it is healed all is as before.
    pub recovered_within: Duration,
}

impl Expects {
    /// So much flagged at most, where there is a bound, and so many seconds to recover.
    pub(super) const fn new(flagged_percent_max: Option<f64>, recovered_s: u64) -> Self {
        Self { flagged_percent_max, recovered_within: Duration::from_secs(recovered_s) }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(percent) = self.flagged_percent_max {
            // Writing to a string does not fail.
            let _ = write!(text, "at most {percent} % flagged, ");
        }
        let _ = write!(text, "as before within {} s", self.recovered_within.as_secs());
        text
    }
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Which one.
    pub fault: Fault,
    /// What is done.
    pub what: &'static str,
    /// What heals it.
    pub heals: &'static str,
    /// How it is done.
    pub does: Does,
    /// How long it lasts, where it has a length.
    pub window: Duration,
    /// What is expected, where storage has a feed; elsewhere see [`Backing`].
    pub expects: Expects,
}

const fn entry(
    fault: Fault,
    (what, heals): (&'static str, &'static str),
    does: Does,
    window_s: u64,
    (flagged_percent_max, recovered_s): (Option<f64>, u64),
) -> Entry {
    let expects = Expects::new(flagged_percent_max, recovered_s);
    Entry { fault, what, heals, does, window: Duration::from_secs(window_s), expects }
}

/// True if something has to stand in front of a replica for it.
pub(crate) fn wants_a_way(fault: Fault) -> bool {
    matches!(of(fault).does, Does::Stage(Act::LinkSlow | Act::LinkSlower))
}

/// All of them, in the order in which they are done: those that a server comes back from last are last.
#[rustfmt::skip]
pub(super) const ENTRIES: [Entry; 44] = [
    entry(Fault::Calm, ("nothing", "-"), Does::Parts, 0, (Some(0.1), 5)),
    entry(Fault::KillReplica, ("SIGKILL of a replica", "it is started again"), Does::Parts, 0, (Some(0.5), 30)),
    entry(Fault::FreezeReplica, ("SIGSTOP of a replica for 3 s", "SIGCONT"), Does::Parts, 3, (Some(5.0), 10)),
    entry(Fault::KillProxy, ("SIGKILL of a proxy", "it is started again"), Does::Parts, 0, (Some(1.0), 30)),
    entry(Fault::FreezeProxy, ("SIGSTOP of a proxy for 3 s", "SIGCONT"), Does::Parts, 3, (Some(1.0), 10)),
    entry(Fault::KillSlot, ("SIGKILL of both replicas of a slot", "they are started again"), Does::Parts, 0, (Some(20.0), 60)),
    entry(Fault::KillDonor, ("SIGKILL of a replica, and of its donor while it hands users over", "they are started again"), Does::Parts, 0, (Some(10.0), 120)),
    entry(Fault::ChangeMap, ("two slots to three, and back", "-"), Does::Parts, 3, (Some(1.0), 60)),
    entry(Fault::RollingRestart, ("SIGTERM of each part in turn", "it is started again"), Does::Parts, 0, (Some(0.1), 120)),
    entry(Fault::RestartReplicas, ("SIGKILL of all replicas at once", "they are started again"), Does::Parts, 0, (Some(60.0), 60)),
    entry(Fault::LinkOneWay, ("what one replica sends to proxies and peers is lost", "the rule is taken away"), Does::Network(Place::OneLink, Network::OneWay), 8, (Some(1.0), 10)),
    entry(Fault::LinkSilent, ("packets to and from one replica are lost", "the rule is taken away"), Does::Network(Place::OneLink, Network::Silent), 8, (Some(1.0), 10)),
    entry(Fault::LinkRefused, ("one replica's port answers with a reset", "the rule is taken away"), Does::Network(Place::OneLink, Network::Refused), 8, (Some(1.0), 10)),
    entry(Fault::LinkLoss5, ("5 % of all packets between proxies and replicas are lost", "the rule is taken away"), Does::Network(Place::Links, Network::Loss(5)), 10, (Some(5.0), 10)),
    entry(Fault::LinkLoss20, ("20 % of them are lost", "the rule is taken away"), Does::Network(Place::Links, Network::Loss(20)), 10, (Some(20.0), 10)),
    entry(Fault::LinkNarrow, ("more than 50 KB/s to and from one replica are lost", "the rule is taken away"), Does::Network(Place::OneLink, Network::Narrow(50)), 8, (Some(10.0), 10)),
    entry(Fault::LinkSlow, ("what passes between one replica and proxies or peers takes 20 to 60 ms longer, each way", "no longer"), Does::Stage(Act::LinkSlow), 10, (Some(1.0), 10)),
    entry(Fault::LinkSlower, ("150 to 250 ms longer, each way", "no longer"), Does::Stage(Act::LinkSlower), 10, (Some(1.0), 10)),
    entry(Fault::FewFiles, ("a replica and a proxy may have 64 open files", "the limit is raised"), Does::Limit(Limit::Files(64)), 10, (Some(1.0), 10)),
    entry(Fault::LittleMemory, ("a replica may use 4 MiB more memory than it does, while 3,000 users come; beyond that the kernel kills it", "the limit is raised"), Does::Limit(Limit::MemoryMib(4)), 10, (Some(1.0), 60)),
    entry(Fault::LittleCpu, ("a replica has 20 % of a core", "the limit is raised"), Does::Limit(Limit::CpuPercent(20)), 10, (Some(5.0), 15)),
    entry(Fault::ClockOff, ("a replica starts with its clock an hour ahead, and a proxy with its an hour behind", "they start again"), Does::Limit(Limit::ClockHours(1)), 10, (Some(1.0), 60)),
    entry(Fault::LogStorm, ("every part of a slot and a proxy start at log.level=trace", "they start again"), Does::Limit(Limit::LogsAll), 10, (Some(20.0), 60)),
    entry(Fault::BigUser, ("a user of 500,000 rows is asked about 20 times a second, whom nobody holds", "-"), Does::Press(Press::BigUser), 15, (Some(1.0), 30)),
    entry(Fault::OverloadTwice, ("twice the calls that the parts bear, of which the replicas have 18 % of a core together and the proxies 10 %", "the callers go"), Does::Press(Press::Overload(2)), 10, (None, 15)),
    entry(Fault::OverloadFive, ("five times as many", "the callers go"), Does::Press(Press::Overload(5)), 10, (None, 15)),
    entry(Fault::Peak, ("a thirtieth of the load for 10 s, and then 30 times as much for a minute", "-"), Does::Press(Press::Peak(30)), 60, (Some(1.0), 15)),
    entry(Fault::StorageSlow, ("every answer of storage takes 100 to 300 ms longer", "no longer"), Does::Stage(Act::StorageSlow), 10, (Some(20.0), 10)),
    entry(Fault::StorageNarrow, ("each connection to storage passes 20 KB/s", "no longer"), Does::Stage(Act::StorageNarrow), 10, (Some(10.0), 10)),
    entry(Fault::StorageLoss5, ("5 % of the packets to and from storage are lost", "the rule is taken away"), Does::Network(Place::Storage, Network::Loss(5)), 10, (Some(5.0), 10)),
    entry(Fault::StorageLoss20, ("20 % of them are lost", "the rule is taken away"), Does::Network(Place::Storage, Network::Loss(20)), 10, (Some(30.0), 15)),
    entry(Fault::StorageOneWay, ("what storage sends is lost", "the rule is taken away"), Does::Network(Place::Storage, Network::OneWay), 10, (None, 15)),
    entry(Fault::StorageRefused, ("storage refuses connections", "no longer"), Does::Stage(Act::StorageRefused), 10, (None, 15)),
    entry(Fault::StorageSilent, ("storage takes everything and answers nothing", "new connections pass; what was sent on the old ones stays lost"), Does::Stage(Act::StorageSilent), 20, (None, 15)),
    entry(Fault::StorageFrozen, ("SIGSTOP of the primary", "SIGCONT"), Does::Stage(Act::StorageFrozen), 10, (None, 15)),
    entry(Fault::CommitLost, ("each second, for 0.2 s, connections break when storage answers what it has done", "no longer"), Does::Moments(Act::StorageAnswersLost), 10, (Some(20.0), 10)),
    entry(Fault::StorageReadOnly, ("the primary is read-only", "it is writable"), Does::Stage(Act::StorageReadOnly), 10, (None, 15)),
    entry(Fault::KafkaFrozen, ("SIGSTOP of Kafka", "SIGCONT"), Does::Stage(Act::KafkaFrozen), 15, (Some(5.0), 30)),
    entry(Fault::KafkaDown, ("SIGTERM of Kafka", "it is started again"), Does::Stage(Act::KafkaDown), 600, (Some(5.0), 60)),
    entry(Fault::Poison, ("ten records in each partition that nobody can read, half of them with a user's key", "-"), Does::Stage(Act::KafkaPoison), 5, (Some(20.0), 15)),
    entry(Fault::RetentionGap, ("Kafka forgets what a frozen replica has not read", "it goes on"), Does::Gap, 4, (Some(5.0), 30)),
    entry(Fault::DiskFull, ("the primary's disk is full", "its replica is promoted: the log that broke off amid an event stays damaged"), Does::Stage(Act::StorageDiskFull), 15, (None, 90)),
    entry(Fault::StorageKilled, ("SIGKILL of the primary", "it is started again"), Does::Stage(Act::StorageKilled), 3, (None, 30)),
    entry(Fault::StorageFailover, ("SIGKILL of the primary", "its replica is promoted after 3 s"), Does::Stage(Act::StorageFailover), 3, (None, 30)),
];

/// A fault's entry.
pub(super) fn of(fault: Fault) -> &'static Entry {
    // A test holds that each is there.
    ENTRIES.iter().find(|entry| entry.fault == fault).unwrap_or(&ENTRIES[0])
}

/// All of them, for people.
pub(crate) fn listed(backing: Backing) -> String {
    let mut text = String::new();
    for entry in &ENTRIES {
        let expected = match backing.expects(entry.fault) {
            Ok(expects) => expects.text(),
            Err(why) => format!("not done: {why}"),
        };
        let _ = writeln!(text, "{}: {}; {expected}", entry.fault.name(), entry.what);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_fault_has_one_entry() {
        for fault in Fault::value_variants() {
            let entries = ENTRIES.iter().filter(|entry| entry.fault == *fault).count();
            assert_eq!(entries, 1, "{fault:?}");
        }
        assert_eq!(ENTRIES.len(), Fault::value_variants().len());
    }
}
