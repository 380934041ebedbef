//! A Kafka that asks who is there, with and without TLS: the feed and the relay by `kafka.client`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use seen_filter::hash::HashKey;
use seen_filter::{ChangeFeed, FeedProof, FeedStart, UserId};
use seen_kafka::relay::{RelayOptions, relay};
use seen_kafka::{KafkaFeed, KafkaOptions, Partitioner, SampleOptions, TopicReader};
use seen_testbed::{Kafka, Record, or_skip};

use super::world::{NS, World, at_head, by_key, connect, options, row, told_until, user_of};

const PASSWORD: &str = "it's; a=b";

type Client = BTreeMap<String, String>;

fn login(protocol: &str, password: &str) -> Client {
    let settings = [
        ("security.protocol", protocol),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "app"),
        ("sasl.password", password),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The settings of those who trust this certificate.
fn trusting(mut client: Client, certificate: &Path) -> Client {
    let path = certificate.to_str().expect("UTF-8").to_owned();
    client.insert("ssl.ca.location".to_owned(), path);
    client
}

fn at(world: &World, topic: &str, partitioner: Partitioner, client: &Client) -> KafkaOptions {
    let brokers = world.kafka.secured_bootstrap();
    let options = options(&brokers, topic, "db", partitioner, FeedProof::Fences);
    KafkaOptions { client: client.clone(), ..options }
}

async fn is_refused(options: KafkaOptions) {
    let options = KafkaOptions { connect_timeout_ms: 2_000, ..options };
    let connecting = tokio::task::spawn_blocking(move || KafkaFeed::connect(options));
    let refused = connecting.await.expect("no panic").err().expect("it is refused").to_string();
    assert!(!refused.contains(PASSWORD), "{refused}");
}

/// Rows come to a feed, and through a relay.
async fn rows_come(world: &World, client: &Client) {
    let feed = connect(at(world, &world.topic, by_key(), client)).await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    world.send(1, user, &row("c", 1, user, 5));
    assert_eq!(told_until(&mut reader, &format!("+{user}:5")).await, [format!("+{user}:5")]);

    // Offsets of several partitions are numbered apart, and are not joined by a relay.
    world.kafka.create_topic("one", 1, &[]).expect("a topic");
    let source = connect(at(world, "one", Partitioner::Unknown, client)).await;
    let hash_key = HashKey::new(1, [7; 16]);
    let relayed = || {
        let options = RelayOptions {
            brokers: world.kafka.secured_bootstrap(),
            client: client.clone(),
            topics: vec!["slots".to_owned()],
            hash_key,
            namespaces: vec![(NS, "feed_read".to_owned())],
            create: Some(2),
            commit_interval_ms: 20,
            commit_bytes: 1 << 20,
            batch_events_max: 100,
            transaction_timeout_ms: 10_000,
            connect_timeout_ms: 30_000,
            once: true,
        };
        let source: Arc<dyn ChangeFeed> = Arc::clone(&source) as _;
        relay(source, options, std::future::pending())
    };
    relayed().await.expect("a beginning");
    let target = connect(at(world, "slots", Partitioner::Slots(hash_key), client)).await;
    let home = target.feed_of(NS, UserId::new(user));
    let mut follower = target.open(home, FeedStart::Head).await.expect("a reader");
    let record = Record::new(&format!("{{\"user_id\":{user}}}"), &row("c", 2, user, 6));
    world.kafka.send("one", 0, &[record]).expect("sent");
    relayed().await.expect("relayed");
    told_until(&mut follower, &format!("+{user}:6")).await;
    // And for people.
    let (brokers, client) = (world.kafka.secured_bootstrap(), client.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let options = SampleOptions { brokers, client, timeout_ms: 30_000 };
        TopicReader::new(options, "slots").and_then(|reader| reader.ends())
    });
    assert_eq!(looked.await.expect("no panic").expect("the ends").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_asks_for_a_password() {
    let Some(kafka) = or_skip(Kafka::builder().sasl("app", PASSWORD).start()) else { return };
    let world = World::on(Arc::new(kafka), "sasl");
    rows_come(&world, &login("sasl_plaintext", PASSWORD)).await;
    is_refused(at(&world, "sasl", by_key(), &login("sasl_plaintext", "another"))).await;
    is_refused(at(&world, "sasl", by_key(), &Client::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_asks_for_a_password_by_tls() {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let papers = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (certificate, key) = (papers.cert.pem(), papers.signing_key.serialize_pem());
    let secured = Kafka::builder().tls(&certificate, &key).sasl("app", PASSWORD);
    let Some(kafka) = or_skip(secured.start()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).expect("written");
    let world = World::on(Arc::new(kafka), "sasl_tls");
    let client = trusting(login("sasl_ssl", PASSWORD), &file);
    rows_come(&world, &client).await;
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("another");
    std::fs::write(&file, other.cert.pem()).expect("written");
    is_refused(at(&world, "sasl_tls", by_key(), &client)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_speaks_tls() {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let papers = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (certificate, key) = (papers.cert.pem(), papers.signing_key.serialize_pem());
    let Some(kafka) = or_skip(Kafka::builder().tls(&certificate, &key).start()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).expect("written");
    let world = World::on(Arc::new(kafka), "tls");
    let ssl = [("security.protocol".to_owned(), "ssl".to_owned())].into();
    rows_come(&world, &trusting(ssl, &file)).await;
}
