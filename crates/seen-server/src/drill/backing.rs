//! What kind of storage is behind a cluster, and what is expected of a fault there, written down before it is measured.

use super::catalog::{self, Expects};
use super::faults::Fault;

/// A kind of storage, as far as it matters to what is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Backing {
    /// With change events: replicas answer from memory.
    #[default]
    Fed,
    /// One TiDB without them: nothing is cached, and every answer is asked of storage.
    Tidb,
}

/// What is different about a fault on a kind of storage.
#[derive(Clone, Copy, Debug)]
enum Here {
    /// This is expected of it.
    Expects(Option<f64>, u64),
    /// It is not done, for this reason.
    Never(&'static str),
}

const NO_KAFKA: &str = "there is no Kafka";
const ONE_PROCESS: &str = "one TiDB process has its store to itself, and nobody to take its place";

/// The lowest bound on TiDB, in percent. Where memory answers nothing, a pause of storage is a flag, and at the few Filters that it
/// bears beside everything else one or two flags are a percent.
const TIDB_BOUND: f64 = 2.0;
/// What differs on TiDB besides: a fault that keeps storage from answering within 80 ms has no bound.
const TIDB: [(Fault, Here); 16] = [
    (Fault::KillDonor, Here::Never("nothing is cached that a replica could hand over")),
    (Fault::LittleMemory, Here::Never("users who are not cached take no memory")),
    // Each check and its answer are some packets; one that is lost is sent again after longer than anyone waits, or soon after.
    (Fault::StorageLoss5, Here::Expects(Some(30.0), 10)),
    (Fault::StorageLoss20, Here::Expects(None, 15)),
    (Fault::StorageSlow, Here::Expects(None, 10)),
    // A check of 400 items is larger than what passes within its time.
    (Fault::StorageNarrow, Here::Expects(None, 10)),
    // Connections break for a fifth of the time, and have to be made anew.
    (Fault::CommitLost, Here::Expects(Some(50.0), 10)),
    (Fault::KafkaFrozen, Here::Never(NO_KAFKA)),
    (Fault::KafkaDown, Here::Never(NO_KAFKA)),
    (Fault::Poison, Here::Never(NO_KAFKA)),
    (Fault::RetentionGap, Here::Never(NO_KAFKA)),
    (Fault::StorageReadOnly, Here::Never("read_only is MariaDB's")),
    (
        Fault::DiskFull,
        Here::Never("what a full disk does to TiKV is not seen at the store of one process"),
    ),
    (Fault::StorageFailover, Here::Never(ONE_PROCESS)),
    // It starts again with a store of its own to look through.
    (Fault::StorageKilled, Here::Expects(None, 60)),
    (Fault::StorageFrozen, Here::Expects(None, 30)),
];

impl Backing {
    /// What is expected of a fault.
    ///
    /// # Errors
    /// Why it is not done here.
    pub(super) fn expects(self, fault: Fault) -> Result<Expects, &'static str> {
        let usual = catalog::of(fault).expects;
        let differs = match self {
            Self::Fed => None,
            Self::Tidb => TIDB.iter().find(|(of, _)| *of == fault),
        };
        match differs {
            None if self == Self::Tidb => Ok(Expects {
                flagged_percent_max: usual.flagged_percent_max.map(|most| most.max(TIDB_BOUND)),
                ..usual
            }),
            None => Ok(usual),
            Some((_, Here::Expects(percent, within_s))) => Ok(Expects::new(*percent, *within_s)),
            Some((_, Here::Never(why))) => Err(why),
        }
    }

    /// True if it is done here.
    pub(super) fn offers(self, fault: Fault) -> bool {
        self.expects(fault).is_ok()
    }

    /// What is not done here, by its reason.
    pub(super) fn never(self) -> Vec<(&'static str, Vec<Fault>)> {
        let mut reasons: Vec<(&'static str, Vec<Fault>)> = Vec::new();
        for fault in catalog::ENTRIES.map(|entry| entry.fault) {
            let Err(why) = self.expects(fault) else { continue };
            match reasons.iter_mut().find(|(reason, _)| *reason == why) {
                Some((_, faults)) => faults.push(fault),
                None => reasons.push((why, vec![fault])),
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_kafka_is_not_done_without() {
        assert_eq!(Backing::Tidb.expects(Fault::KafkaDown).err(), Some(NO_KAFKA));
        assert!(Backing::Fed.offers(Fault::KafkaDown) && Backing::Tidb.offers(Fault::KillReplica));
        let never = Backing::Tidb.never();
        let of_kafka = never.iter().find(|(why, _)| *why == NO_KAFKA).expect("named");
        assert_eq!(of_kafka.1.len(), 4, "{never:?}");
        assert!(Backing::Fed.never().is_empty());
    }

    #[test]
    fn storage_that_answers_slowly_may_flag_everything_where_all_is_asked_of_it() {
        let bound = |backing: Backing| {
            backing.expects(Fault::StorageSlow).expect("it is done").flagged_percent_max
        };
        assert!(bound(Backing::Fed).is_some() && bound(Backing::Tidb).is_none());
        let of = |fault| Backing::Tidb.expects(fault).expect("it is done").flagged_percent_max;
        assert_eq!(of(Fault::Calm), Some(TIDB_BOUND));
        assert_eq!(of(Fault::KillSlot), catalog::of(Fault::KillSlot).expects.flagged_percent_max);
    }

    #[test]
    fn no_fault_differs_twice() {
        for (at, (fault, _)) in TIDB.iter().enumerate() {
            assert!(TIDB[..at].iter().all(|(before, _)| before != fault), "{fault:?}");
        }
    }
}
