//! Topics as TiCDC writes them: every table by itself, timestamps of commits, watermarks.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seen_filter::{ChangeFeed, FeedEvent, FeedProof, FeedStart};
use seen_kafka::Partitioner;
use seen_testbed::Record;

use super::world::{PARTITIONS, World, at_head, feed_id, next};

fn record(value: String) -> Record {
    Record { key: None, value: Some(value.into_bytes()), ..Record::new("", "") }
}

/// A row in canal-json with the extension.
fn row(kind: &str, user: u64, item: u64, ts: u64) -> Record {
    record(format!(
        "{{\"id\":0,\"database\":\"db\",\"table\":\"feed_read\",\"pkNames\":[\"user_id\",\"kind\",\
         \"item_id\"],\"isDdl\":false,\"type\":\"{kind}\",\"es\":1,\"ts\":1,\"sql\":\"\",\"sqlType\":{{}},\
         \"mysqlType\":{{}},\"old\":null,\"data\":[{{\"user_id\":\"{user}\",\"kind\":\"1\",\
         \"item_id\":\"{item}\",\"marked_at_ms\":\"5\"}}],\"_tidb\":{{\"commitTs\":{ts}}}}}"
    ))
}

fn watermark(ts: u64) -> Record {
    record(format!(
        "{{\"id\":0,\"database\":\"\",\"table\":\"\",\"pkNames\":null,\"isDdl\":false,\
         \"type\":\"TIDB_WATERMARK\",\"es\":1,\"ts\":1,\"sql\":\"\",\"sqlType\":null,\"mysqlType\":null,\
         \"data\":null,\"old\":null,\"_tidb\":{{\"watermarkTs\":{ts}}}}}"
    ))
}

/// By the default dispatcher nobody knows where a user's rows are: all partitions are one feed, and what
/// is complete is what the watermarks of all of them say. What is told again keeps its timestamp.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_watermarks_of_all_partitions_complete_anything() {
    let Some(world) = World::new("watermarks") else { return };
    let feed = world.connect(Partitioner::Unknown, FeedProof::Positions).await;
    assert_eq!(feed.feeds(), [feed_id(0)]);
    assert!(feed.fence_users(feed_id(0)).is_empty());
    let mut reader = at_head(&feed, 0).await;
    world.put(1, row("INSERT", 3, 5, 1_000));
    world.put(1, row("DELETE", 3, 5, 1_002));
    world.put(1, row("INSERT", 3, 5, 1_000));
    world.put(0, watermark(1_500));
    world.put(1, watermark(1_400));
    world.put(2, watermark(1_600));
    let mut told = Vec::new();
    let complete = loop {
        let events = next(&mut reader).await.events;
        let complete = events.iter().find_map(|event| match event {
            FeedEvent::Complete { stamp } => Some(stamp.position),
            _ => None,
        });
        told.extend(events);
        if let Some(complete) = complete {
            break complete;
        }
    };
    assert_eq!(complete, 1_400, "{told:?}");
    let rows: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            FeedEvent::Add { stamp, .. } => Some(("add", stamp.position)),
            FeedEvent::Remove { stamp, .. } => Some(("remove", stamp.position)),
            FeedEvent::Gap { reason, .. } => Some((*reason, 0)),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [("add", 1_000), ("remove", 1_002), ("add", 1_000)]);
}

/// The newest recorded watermark.
const LAST: u64 = 470_606_528_812_154_885;

/// What TiCDC's encoders really gave, through a real Kafka. The recordings are not in the repository:
/// `SEEN_GOLDEN_TICDC` names their folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_messages_go_through_a_topic() {
    let Some(folder) = std::env::var_os("SEEN_GOLDEN_TICDC") else {
        eprintln!("SKIPPED: SEEN_GOLDEN_TICDC names no folder of recorded messages of TiCDC");
        return;
    };
    let Some(world) = World::new("recorded") else { return };
    let recorded = Path::new(&folder).join("ticdc-canal-json-tidbext.jsonl");
    let feed = world.connect_to("test", Partitioner::Unknown, FeedProof::Positions).await;
    let mut reader = feed.open(feed_id(0), FeedStart::Head).await.expect("a reader");
    let mut rows = 0;
    for line in std::fs::read_to_string(recorded).expect("the recording").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let Some(value) = line["value"].as_str() else { continue };
        let value = STANDARD.decode(value).expect("base64");
        rows += u32::from(String::from_utf8_lossy(&value).contains("\"data\":[{"));
        let record = Record { key: None, value: Some(value), ..Record::new("", "") };
        // A watermark goes to every partition.
        let is_watermark =
            line["value_text"].as_str().is_some_and(|text| text.contains("WATERMARK"));
        let partitions = if is_watermark { 0..PARTITIONS as u16 } else { 0..1 };
        partitions.for_each(|partition| world.put(partition, record.clone()));
    }
    let (mut told, mut completes, mut gaps) = (0, Vec::new(), 0);
    // Several watermarks may come as one.
    while completes.last() != Some(&LAST) {
        for event in next(&mut reader).await.events {
            match event {
                FeedEvent::Add { .. } | FeedEvent::Remove { .. } => told += 1,
                FeedEvent::Complete { stamp } => completes.push(stamp.position),
                FeedEvent::Gap { .. } => gaps += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(told, rows);
    assert!(completes[1..].is_sorted(), "{completes:?}");
    // Truncated, and renamed.
    assert!(gaps >= 2, "{gaps}");
}
