//! One transaction that holds two users of one partition, read half-way.

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_proto::v1;
use seen_testbed::Kafka;
use tokio::task::{JoinSet, block_in_place};

use super::ask::{READ, filter, mark, patient, sound};
use super::chain::{Chain, TOPIC, servers};
use super::child::Child;
use super::producer::Tool;
use super::pump::Pump;
use super::replica::Replica;
use super::stage::{Stage, turn};
use super::wait::awaited;
use super::watch::Watch;

/// What the relay writes, and what the replicas follow.
const TOLD: &str = "told";
const SLOTS: &str = "slots";
/// The two users: a transaction's rows are written in the order of their keys.
const FIRST: u64 = 1;
const SECOND: u64 = 2;
/// Marks of each user that are made at the same time, so that some share a transaction.
const MARKS: u64 = 6;
/// Times that this is tried: the first time nearly always does.
const ROUNDS: u64 = 50;

/// Whoever holds the token is told that the item is seen, and not by chance.
async fn holder_is_told(replica: &mut Replica, user: u64, item: u64, token: &[u8]) {
    for _ in 0..10 {
        let asked = filter(user, &[READ], [item]);
        let asked = v1::FilterRequest { token: token.to_vec(), ..asked };
        let answer = replica.api.filter(patient(asked)).await.expect("answered").into_inner();
        if !sound(&answer).is_empty() {
            let told = replica.explained(user, item).await;
            panic!("item {item} of user {user} is unread: {answer:?}, {told:?}");
        }
    }
}

/// Sets the largest size of a record.
fn takes_records_of(kafka: &Kafka, bytes: &str) {
    let setting = [("max.message.bytes", bytes)];
    block_in_place(|| kafka.set_topic(TOPIC, &setting)).expect("set");
}

/// Two replicas behind a relay, and somebody who can stop its records wherever he likes.
struct Relayed {
    stage: Stage,
    pump: Pump,
    _relay: Child,
    _kafka: Arc<Kafka>,
}

impl Relayed {
    async fn start() -> Option<Self> {
        let turn = turn().await;
        let (kafka, database) = servers(Tool::Debezium).await?;
        block_in_place(|| kafka.create_topic(SLOTS, 1, &[])).expect("a topic");
        let brokers = format!("kafka.brokers={}", kafka.bootstrap());
        let mut stage = block_in_place(|| Stage::new(turn, database, &[brokers]));
        let plain = ["--set".to_owned(), "kafka.client=compression.type=none".to_owned()];
        let flags = [stage.flags(), plain.into()].concat();
        let relay = Child::start(&["relay", "--topic", TOLD, "--create-topic", "1"], &flags);
        awaited("the relay's topic", async || match block_in_place(|| kafka.partitions(TOLD)) {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let kafka = Arc::new(kafka);
        let pump = Pump::start(Arc::clone(&kafka), TOLD, SLOTS);
        for setting in [
            "mysql.feed=kafka",
            "kafka.topic=slots",
            "kafka.partitioner=slots",
            "feed.events_per_batch_max=1",
        ] {
            stage.set(setting.to_owned());
        }
        stage.serve().await;
        Some(Self { stage, pump, _relay: relay, _kafka: kafka })
    }

    /// Marks items of both users at the first replica until two share a transaction, of which the pump
    /// lets only the first one's row pass. The items, and the token of the second.
    async fn half_a_transaction(&self) -> (u64, u64, Vec<u8>) {
        self.pump.halve(FIRST, SECOND);
        let mut tokens = BTreeMap::new();
        for round in 0..ROUNDS {
            let before = self.pump.rows();
            let mut marks = JoinSet::new();
            for number in 0..MARKS {
                for user in [FIRST, SECOND] {
                    let mut api = self.stage.replicas[0].api.clone();
                    let item = 1_000 + round * MARKS + number;
                    marks.spawn(async move {
                        let marked = api.mark(patient(mark(user, READ, [item]))).await;
                        (user, item, marked.expect("marked").into_inner().token)
                    });
                }
            }
            while let Some(marked) = marks.join_next().await {
                let (user, item, token) = marked.expect("no panic");
                tokens.insert((user, item), token);
            }
            awaited("the marks' rows to come by", async || {
                let passed = self.pump.rows() - before;
                match self.pump.held().is_some() || passed == 2 * MARKS {
                    true => Ok(()),
                    false => Err(format!("{passed} of {} rows", 2 * MARKS)),
                }
            })
            .await;
            if let Some((first, second)) = self.pump.held() {
                let token = tokens.remove(&(SECOND, second)).expect("it was acknowledged");
                return (first, second, token);
            }
        }
        panic!("no two marks shared a transaction in {ROUNDS} rounds");
    }
}

/// The records of a relay carry the numbers of commits, which the tokens of marks carry too: one row of
/// a commit must not stand for all of it (row 46).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_of_a_commit_stands_for_itself_alone() {
    if !Tool::chosen().is_of(&[Tool::Debezium], "no producer takes part in it") {
        return;
    }
    let Some(mut relayed) = Relayed::start().await else { return };
    relayed.stage.fill().await;
    // From here on nothing but the token sends a reader to storage.
    relayed.stage.settle().await;
    let (first, second, token) = relayed.half_a_transaction().await;
    let replica = &mut relayed.stage.replicas[1];
    let memory_says = async |replica: &mut Replica, user, item| {
        replica.explained(user, item).await.entry.expect("always present").presence()
    };
    awaited("the first half in memory", async || match memory_says(replica, FIRST, first).await {
        v1::Presence::Present => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // What makes this the half: the other row is in storage, and memory denies it.
    assert_eq!(memory_says(replica, SECOND, second).await, v1::Presence::Absent);
    holder_is_told(replica, SECOND, second, &token).await;
    holder_is_told(&mut relayed.stage.replicas[0], SECOND, second, &token).await;
    // One that begins between the halves.
    let another = Replica::start(&relayed.stage.flags()).await;
    let gone = std::mem::replace(&mut relayed.stage.replicas[1], another);
    gone.process.kill().await;
    holder_is_told(&mut relayed.stage.replicas[1], SECOND, second, &token).await;
    relayed.pump.release();
    relayed.stage.agree().await;
    relayed.stage.settle().await;
    for replica in &mut relayed.stage.replicas {
        holder_is_told(replica, FIRST, first, &[]).await;
        holder_is_told(replica, SECOND, second, &[]).await;
    }
}

/// The second row is larger than Kafka takes, so that the producer ends with the transaction half sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_ends_in_the_middle_of_a_transaction() {
    let why_not = "only Debezium is known to end at a row that is too large";
    if !Tool::chosen().is_of(&[Tool::Debezium], why_not) {
        return;
    }
    let Some(mut chain) = Chain::start_with(1).await else { return };
    chain.sql("ALTER TABLE history_feed_read ADD COLUMN note MEDIUMTEXT NULL").await;
    chain.fill().await;
    let watch = Watch::begin(&chain);
    takes_records_of(&chain.kafka, "20000");
    chain
        .sql(
            "INSERT INTO history_feed_read VALUES (1, 1, 30, 5, NULL), \
             (2, 1, 30, 5, REPEAT('x', 100000))",
        )
        .await;
    awaited("the producer's end", async || {
        let log = chain.producer.log();
        match log.contains("RecordTooLargeException") && log.contains("Task is being killed") {
            true => Ok(()),
            false => Err(log[log.len().saturating_sub(2_000)..].to_owned()),
        }
    })
    .await;
    for number in 0..2 {
        let what = format!("the first half at replica {number}");
        let replica = &mut chain.replicas[number];
        awaited(&what, async || match replica.seen(1, &[]).await {
            (seen, _) if seen.contains(&30) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    let mut api = chain.replicas[0].api.clone();
    let marked = api.mark(patient(mark(2, READ, [31]))).await.expect("marked");
    let token = marked.into_inner().token;
    holder_is_told(&mut chain.replicas[1], 2, 31, &token).await;
    takes_records_of(&chain.kafka, "1000000");
    block_in_place(|| {
        chain.producer.kill_9().expect("killed");
        chain.producer.restart().expect("restarted");
    });
    chain.agree().await;
    watch.end(&chain).await;
    chain.settle().await;
}
