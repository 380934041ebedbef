//! How far the reading of a topic's partitions is behind, as of the last look at their ends.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use seen_filter::FeedLag;

/// One partition.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The next record that will be read, and the one that will come next.
    next: u64,
    high: u64,
    /// The time of the newest record read, in milliseconds since 1970, where one was.
    newest_ms: Option<i64>,
}

/// All partitions of a topic that are read.
#[derive(Debug, Default)]
pub(crate) struct Lags(Mutex<BTreeMap<u16, Place>>);

impl Lags {
    /// A partition was looked at.
    pub fn looked(&self, partition: u16, next: u64, high: u64, newest_ms: Option<i64>) {
        self.0.lock().insert(partition, Place { next, high, newest_ms });
    }

    /// How far these partitions are behind together; `None` before all of them were looked at.
    pub fn of(&self, partitions: Range<u16>) -> Option<FeedLag> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        self.at(partitions, i64::try_from(now.as_millis()).ok()?)
    }

    fn at(&self, partitions: Range<u16>, now_ms: i64) -> Option<FeedLag> {
        let places = self.0.lock();
        let is_one = partitions.len() == 1;
        let mut lag = FeedLag { position: None, records: None, behind_ms: Some(0) };
        let mut all = 0;
        for partition in partitions {
            let place = places.get(&partition)?;
            let records = place.high.saturating_sub(place.next);
            lag.position = is_one.then_some(place.next);
            all += records;
            // With nothing outstanding the age of the newest record says nothing.
            if records > 0 {
                let behind = place.newest_ms.map(|ms| u64::try_from(now_ms - ms).unwrap_or(0));
                lag.behind_ms = lag.behind_ms.zip(behind).map(|(one, other)| one.max(other));
            }
        }
        Some(FeedLag { records: Some(all), ..lag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_counted_and_nothing_is_behind_where_nothing_does() {
        let lags = Lags::default();
        assert_eq!(lags.at(0..1, 10_000), None, "not looked at");
        lags.looked(0, 5, 5, Some(1_000));
        let none = FeedLag { position: Some(5), records: Some(0), behind_ms: Some(0) };
        assert_eq!(lags.at(0..1, 10_000), Some(none));
        lags.looked(1, 7, 10, Some(4_000));
        let some = FeedLag { position: Some(7), records: Some(3), behind_ms: Some(6_000) };
        assert_eq!(lags.at(1..2, 10_000), Some(some));
        let both = FeedLag { position: None, records: Some(3), behind_ms: Some(6_000) };
        assert_eq!(lags.at(0..2, 10_000), Some(both));
        lags.looked(0, 0, 5, None);
        let unknown = FeedLag { position: None, records: Some(8), behind_ms: None };
        assert_eq!(lags.at(0..2, 10_000), Some(unknown), "no record was read yet");
        assert_eq!(lags.at(0..3, 10_000), None, "not all looked at");
    }
}
