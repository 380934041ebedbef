//! Compressed batches, by every codec of Kafka's.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::world::{World, at_head, row, told_until, user_of};

/// Each codec with its number in a batch's attributes.
const CODECS: [(&str, u8); 5] = [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];
/// Rows of a batch, so many that compressing is worth it.
const ROWS: u64 = 50;
/// Where the attributes' lower byte is in a batch: after its offset, length, epoch, magic and checksum.
const ATTRIBUTES_AT: usize = 8 + 4 + 4 + 1 + 4 + 1;

fn send(world: &World, codec: &str, user: u64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", world.kafka.bootstrap())
        .set("compression.type", codec)
        .set("linger.ms", "1000")
        .create()
        .expect("a producer");
    let key = format!("{{\"user_id\":{user}}}");
    for item in 1..=ROWS {
        let value = row("c", item, user, item);
        let record = BaseRecord::to(&world.topic).partition(0).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(Duration::from_secs(60)).expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_codec_is_read() {
    for (codec, number) in CODECS {
        let Some(world) = World::new(&format!("codec_{codec}")) else { return };
        let feed = world.feed().await;
        let user = user_of(&feed, 0);
        let mut reader = at_head(&feed, 0).await;
        send(&world, codec, user);
        let told = told_until(&mut reader, &format!("+{user}:{ROWS}")).await;
        let expected: Vec<_> = (1..=ROWS).map(|item| format!("+{user}:{item}")).collect();
        assert_eq!(told, expected, "{codec}");
        // The broker keeps batches as they came.
        let log = format!("data/{}-0/00000000000000000000.log", world.topic);
        let log = std::fs::read(world.kafka.folder().join(log)).expect("the log");
        assert_eq!(log[ATTRIBUTES_AT] & 7, number, "{codec}");
    }
}
