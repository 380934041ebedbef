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

/// Errors as librdkafka makes them: a call that goes on after its time, and one that its state refuses.
fn errors() -> (KafkaError, KafkaError) {
    let mut config = ClientConfig::new();
    let producer: BaseProducer =
        config.set("transactional.id", "t").create().expect("a producer without brokers");
    let refused = producer.begin_transaction().expect_err("it was not made ready");
    let late = producer.init_transactions(Duration::from_millis(1)).expect_err("nobody answers");
    (late, refused)
}

/// What came of calls that are answered so, and how many were made.
fn resume(answers: &[KafkaResult<()>]) -> (KafkaResult<()>, usize) {
    let mut calls = 0;
    let call = || {
        calls += 1;
        answers.get(calls - 1).cloned().unwrap_or(Ok(()))
    };
    let done = resumed(call, |_| true);
    (done, calls)
}

#[test]
fn a_call_that_goes_on_is_made_again() {
    let (late, refused) = errors();
    let flush = KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut);
    assert_eq!(resume(&[Err(late.clone()), Err(late.clone()), Ok(())]), (Ok(()), 3));
    // Before the call that it resumes, the client waits for what is to be delivered.
    assert_eq!(resume(&[Err(late.clone()), Err(flush), Ok(())]), (Ok(()), 3));
    // The answer to the call before was taken for that of this one.
    assert_eq!(resume(&[Err(late), Err(refused.clone()), Ok(())]), (Ok(()), 3));
    assert_eq!(resume(&[Err(refused.clone())]), (Err(refused), 1), "nothing goes on");
}

#[test]
fn a_call_that_is_refused_again_and_again_is_given_up() {
    let (late, refused) = errors();
    let mut answers = vec![Err(late)];
    answers.extend(vec![Err(refused.clone()); 10]);
    assert_eq!(resume(&answers), (Err(refused), 1 + RESUMED_MAX as usize + 1));
}
