//! Where the time went, as the topic's records say.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};

use seen_testbed::Kafka;
use serde::Serialize;
use serde_json::Value;

use super::commit_to_seen::{PROBE_KIND, Probe};
use super::figures::Spread;

/// The parts of the way from a commit to "seen".
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    /// From the acknowledged commit until Debezium had read it.
    pub read_by_debezium: Spread,
    /// From there until it was given to Kafka's producer, which stamps it.
    pub given_to_kafka: Spread,
    /// From there until both replicas said "seen".
    pub seen: Spread,
}

/// Looks for the rows in the topic, from these places on. Beside the stages, the items that a replica
/// called "seen" before they were there: storage, a build or a filter's rate has told it.
pub fn of(kafka: &Kafka, topic: &str, from: &[i64], probes: &[Probe]) -> (Stages, HashSet<u64>) {
    let by_item: HashMap<u64, &Probe> = probes.iter().map(|probe| (probe.item, probe)).collect();
    let (mut read, mut given, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let mut ahead = HashSet::new();
    let needle = format!("\"kind\":{PROBE_KIND},");
    for (partition, offset) in (0..).zip(from) {
        for record in kafka.records_from(topic, partition, *offset).expect("records") {
            let text = record.value_text();
            if !text.contains(&needle) {
                continue;
            }
            let Ok(value) = serde_json::from_str::<Value>(&text) else { continue };
            let probe = value["after"]["item_id"].as_u64().and_then(|item| by_item.get(&item));
            let Some((probe, both)) = probe.and_then(|one| one.both().map(|both| (one, both)))
            else {
                continue;
            };
            let since = probe.committed_at.duration_since(UNIX_EPOCH).expect("after 1970");
            let committed_ms = since.as_secs_f64() * 1e3;
            let read_ms = value["ts_us"].as_f64().unwrap_or(f64::NAN) / 1e3;
            let given_ms = record.timestamp_ms as f64;
            let ms = |took: Duration| took.as_secs_f64() * 1e3;
            // Kafka's times are whole milliseconds, rounded down.
            if probe.seen.iter().flatten().any(|took| committed_ms + ms(*took) < given_ms) {
                ahead.insert(probe.item);
                continue;
            }
            read.push(read_ms - committed_ms);
            given.push(given_ms - read_ms);
            seen.push(committed_ms + ms(both) - given_ms);
        }
    }
    let stages = Stages {
        read_by_debezium: Spread::of_ms(read),
        given_to_kafka: Spread::of_ms(given),
        seen: Spread::of_ms(seen),
    };
    (stages, ahead)
}
