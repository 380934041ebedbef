//! How fast change events come from a real Kafka into the rules: `cargo bench -p seen-benches --bench feed`.
//!
//! A private broker holds the events in one partition; then they are read and applied, once for users
//! that are not cached and once for users that are, in the project's own format and as Debezium sends
//! them. A rate is of events and seconds of this process's processor time, all threads together (that of
//! the broker apart), so that it says what one core carries.

#![expect(clippy::print_stdout, reason = "the table is what is asked for")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use seen_dialect::FollowedTable;
use seen_dialect::seen_event::{ChangeHead, ChangeRecord, ChangeSource};
use seen_filter::hash::HashKey;
use seen_filter::{
    Builder, ChangeFeed, CommitStamp, Domain, FeedBatch, FeedEvent, FeedId, FeedProof, FeedStart,
    Incarnation, Item, NamespaceId, NamespaceSettings, Partition, Shard, Tick, Timeline,
    UnixMillis, UserId,
};
use seen_kafka::{KafkaFeed, KafkaOptions, Partitioner, SchemaOptions, TopicOptions};
use seen_replica::preload;
use seen_replica::rules::{CacheBudget, Input, Rules, Settings};
use seen_testbed::{Kafka, Record};
use tokio::sync::watch;

const NS: NamespaceId = NamespaceId::new(0);
/// Users of the events; a quarter of a million is what a replica holds of the active ones.
const USERS: u64 = 250_000;
/// Records that are sent in one go.
const SENT_MAX: usize = 100;

#[derive(Parser)]
struct Arguments {
    /// Events of the project's own format.
    #[arg(long, default_value_t = 4_000_000)]
    events: u64,
    /// Events as Debezium sends them.
    #[arg(long, default_value_t = 200_000)]
    debezium: u64,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The user and item of the n-th event: scattered, each user's items are its own.
fn event(n: u64, first_user: u64) -> (u64, u64) {
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    (first_user + scattered % USERS, n)
}

fn main() {
    let arguments = Arguments::parse();
    let kafka = Kafka::builder()
        .setting("message.max.bytes", "16000000")
        .start()
        .expect("a Kafka: scripts/feed-tools");
    println!("| format | users | events | events a CPU second | wall, events/s |");
    println!("|---|---|---:|---:|---:|");
    for (format, events) in [("own", arguments.events), ("Debezium JSON", arguments.debezium)] {
        for is_cached in [false, true] {
            let topic = format!("{}-{is_cached}", format.replace(' ', "-"));
            kafka.create_topic(&topic, 1, &[]).expect("a topic");
            // Users that are not cached have other ids.
            let first_user = if is_cached { 1 } else { 1 << 40 };
            match format {
                "own" => send_own(&kafka, &topic, events, first_user),
                _ => send_debezium(&kafka, &topic, events, first_user),
            }
            let (cpu_s, wall_s) = consume(&kafka, &topic, events);
            let users = if is_cached { "cached" } else { "not cached" };
            println!(
                "| {format} | {users} | {events} | {:.0} | {:.0} |",
                events as f64 / cpu_s,
                events as f64 / wall_s
            );
        }
    }
}

fn stamp(position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(0), Timeline::new(7), position)
}

fn send_own(kafka: &Kafka, topic: &str, events: u64, first_user: u64) {
    let head = ChangeHead {
        namespace: "feed_read",
        shard: Shard::new(0),
        partition: Partition::new(0),
        partitions: 1,
    };
    let mut record = ChangeRecord::new(&head).expect("a name");
    let mut sent = Vec::new();
    for n in 0..events {
        let (user, item) = event(n, first_user);
        let (user, item) = (UserId::new(user), Item::new(1, item));
        let add = FeedEvent::Add { stamp: stamp(n + 1), user, item };
        if !record.push(&add, Some(1_790_000_000_000 + n)) {
            sent.push(own(&mut record));
            assert!(record.push(&add, None), "room for one");
        }
        if sent.len() == SENT_MAX {
            kafka.send(topic, 0, &std::mem::take(&mut sent)).expect("sent");
        }
    }
    sent.push(own(&mut record));
    kafka.send(topic, 0, &sent).expect("sent");
}

fn own(record: &mut ChangeRecord) -> Record {
    Record { value: Some(record.finish(ChangeSource::default())), key: None, ..Record::new("", "") }
}

fn send_debezium(kafka: &Kafka, topic: &str, events: u64, first_user: u64) {
    let mut sent = Vec::new();
    for n in 0..events {
        let (user, item) = event(n, first_user);
        let value = format!(
            "{{\"before\":null,\"after\":{{\"user_id\":{user},\"kind\":1,\"item_id\":{item},\
             \"marked_at_ms\":1700000000020}},\"source\":{{\"version\":\"3.5.0.Final\",\
             \"connector\":\"mariadb\",\"name\":\"t\",\"ts_ms\":1795219709000,\"snapshot\":\"false\",\
             \"db\":\"db\",\"sequence\":null,\"ts_us\":1795219709000000,\
             \"ts_ns\":1795219709000000000,\"table\":\"feed_read\",\"server_id\":1,\
             \"gtid\":\"0-1-{n}\",\"file\":\"binlog.000001\",\"pos\":{n},\"row\":0,\"thread\":null,\
             \"query\":null}},\"transaction\":null,\"op\":\"c\",\"ts_ms\":1795219709218,\
             \"ts_us\":1795219709218981,\"ts_ns\":1795219709218981314}}"
        );
        sent.push(Record::new(&format!("{{\"user_id\":{user}}}"), &value));
        if sent.len() == SENT_MAX {
            kafka.send(topic, 0, &std::mem::take(&mut sent)).expect("sent");
        }
    }
    if !sent.is_empty() {
        kafka.send(topic, 0, &sent).expect("sent");
    }
}

fn feed(kafka: &Kafka, topic: &str) -> Arc<KafkaFeed> {
    let (_, namespace_ids) = watch::channel(HashMap::new());
    let options = KafkaOptions {
        brokers: kafka.bootstrap(),
        client: BTreeMap::new(),
        topics: vec![TopicOptions {
            shard: Shard::new(0),
            topic: topic.to_owned(),
            partitioner: Partitioner::Slots(key()),
            namespaces: vec![(NS, "feed_read".to_owned())],
            tables: vec![(Some(NS), FollowedTable::own("db", "feed_read"))],
            namespace_ids,
        }],
        hash_key: key(),
        dialect: None,
        schemas: SchemaOptions::default(),
        proof: FeedProof::Fences,
        stamp_of: Arc::new(|_, _| None),
        partitions: None,
        connect_timeout_ms: 30_000,
        heartbeat_ms: 500,
        queue_events_max: 16_384,
        fetch_kib_max: 16_384,
        dead_letters: None,
    };
    KafkaFeed::connect(options).expect("a feed")
}

fn key() -> HashKey {
    HashKey::new(1, *b"a bench's secret")
}

/// Rules that hold the first users, each with a few items.
fn rules(id: FeedId) -> Rules {
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let named = NamespaceSettings::new(NS, "feed_read");
    let settings = Settings::embedded(named, Incarnation::new(1), cache);
    let rules = Rules::new(settings, key(), &[id], Box::new(move |_| id), now());
    let events = vec![FeedEvent::Complete { stamp: stamp(0) }];
    let batch = FeedBatch { events, resume: Default::default(), caught_up: true };
    rules.step(now(), Input::Feed { feed: id, batch: &batch });
    for user in 1..=USERS {
        let mut builder = Builder::new(rules.key(), rules.sizing());
        (0..200).for_each(|n| builder.push(Item::new(2, n), UnixMillis::new(0), 0));
        preload::install(&rules, now(), UserId::new(user), builder.finish()).expect("installed");
    }
    rules
}

fn now() -> Tick {
    Tick::new(3_600_000_000)
}

/// Reads all events and applies them; processor time and time, in seconds.
fn consume(kafka: &Kafka, topic: &str, events: u64) -> (f64, f64) {
    let id = FeedId::new(NS, Shard::new(0), Partition::new(0));
    let rules = rules(id);
    let feed = feed(kafka, topic);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut reader = feed.open(id, FeedStart::Head).await.expect("a reader");
        let head = reader.next(1).await.expect("the head");
        // The same numbering, from its beginning.
        let cursor = seen_filter::FeedCursor { offset: 0, ..head.resume };
        let mut reader = feed.open(id, FeedStart::At(cursor)).await.expect("a reader");
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let mut added = 0;
        while added < events {
            let batch = reader.next(4_096).await.expect("a batch");
            let is_add = |event: &&FeedEvent| matches!(event, FeedEvent::Add { .. });
            added += batch.events.iter().filter(is_add).count() as u64;
            rules.step(now(), Input::Feed { feed: id, batch: &batch });
        }
        assert_eq!(added, events, "each event once");
        (cpu_seconds() - cpu, wall.elapsed().as_secs_f64())
    })
}

/// Processor time of this process until now, of all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let after_name = stat.rsplit(") ").next().expect("fields");
    let ticks: u64 =
        after_name.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // Linux counts them in hundredths of a second.
    ticks as f64 / 100.0
}
