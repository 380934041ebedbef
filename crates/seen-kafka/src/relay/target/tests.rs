//! Transactions that fail, against the mock cluster.

use rdkafka::mocking::MockCluster;
use seen_filter::NamespaceId;
use seen_filter::hash::HashKey;

use super::*;

const TOPIC: &str = "t";

#[test]
fn a_transaction_with_records_under_way_is_given_up() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic(TOPIC, 2, 1).expect("a topic");
    let options = RelayOptions {
        brokers: cluster.bootstrap_servers(),
        client: Default::default(),
        topics: vec![TOPIC.to_owned()],
        hash_key: HashKey::new(1, [7; 16]),
        namespaces: vec![(NamespaceId::new(0), "first".to_owned())],
        create: None,
        commit_interval_ms: 1,
        commit_bytes: 1 << 20,
        batch_events_max: 64,
        transaction_timeout_ms: 60_000,
        connect_timeout_ms: 10_000,
        once: true,
    };
    // So that what cannot be given up ends, too.
    let stopping = Arc::new(AtomicBool::new(true));
    let target = Target::take_over(&options, TOPIC, stopping).expect("taken").expect("an answer");
    let there: Outgoing = (1, b"one".to_vec());
    // The topic is known once something was written to it.
    target.commit(std::slice::from_ref(&there)).expect("written");
    let nowhere: Outgoing = (9, b"another".to_vec());
    let refused = target.attempt(&[there.clone(), nowhere], &mut None).expect_err("no partition");
    target.abort(&refused, &mut None).expect("given up");
    target.commit(&[there]).expect("the next one");
}
