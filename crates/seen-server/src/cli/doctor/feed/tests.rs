//! Each finding, from recorded records where there are any.

use std::collections::BTreeMap;
use std::path::Path;

use seen_dialect::FollowedTable;
use seen_dialect::seen_event::{ChangeHead, ChangeRecord, ChangeSource};
use seen_filter::{Domain, FeedEvent, Item, Partition, Shard, Timeline, UserId};
use seen_kafka::{Digits, KafkaRecord, KeyTemplate, Partitioner};
use seen_store::mysql::{Finding, Severity};
use serde_json::Value;

use super::census::Census;
use super::judge::{Sampled, Wanted, judge};
use crate::config::PartitionedBy;

const KEY: &str = "{\"user_id\":{user}}";

/// The recorded records of one topic.
fn golden(name: &str, topic: &str) -> Vec<KafkaRecord> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seen-dialect/tests/golden");
    let file = std::fs::File::open(folder.join(format!("{name}.jsonl.zst"))).expect("a file");
    let text = String::from_utf8(zstd::decode_all(file).expect("zstd")).expect("a text");
    let record = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a line");
        let bytes = |name: &str| line[name].as_str().map(|text| text.as_bytes().to_vec());
        KafkaRecord {
            topic: line["topic"].as_str().expect("a topic").to_owned(),
            partition: line["partition"].as_i64().expect("a number") as i32,
            offset: line["offset"].as_i64().expect("a number"),
            timestamp_ms: line["timestamp"].as_i64(),
            key: bytes("key"),
            value: bytes("value"),
            headers: Vec::new(),
        }
    };
    let records: Vec<_> = text.lines().map(record).filter(|record| record.topic == topic).collect();
    assert!(records.len() > 10, "{name} has {} records of {topic}", records.len());
    records
}

fn debezium() -> Vec<KafkaRecord> {
    golden("debezium-mariadb-long", "t.db.feed_read")
}

fn one(partition: i32, key: Option<&str>, value: &str) -> KafkaRecord {
    KafkaRecord {
        topic: "t".to_owned(),
        partition,
        offset: 77,
        timestamp_ms: Some(1_000),
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

/// A row's change by Debezium, of these images.
fn change(op: &str, table: &str, user: u64, before: &str, after: &str) -> KafkaRecord {
    let value = format!(
        "{{\"before\":{before},\"after\":{after},\"op\":\"{op}\",\"source\":{{\"version\":\"3.5.0.Final\",\
         \"connector\":\"mariadb\",\"db\":\"db\",\"table\":\"{table}\",\"gtid\":\"0-1-900\"}}}}"
    );
    let partition = key().partition(UserId::new(user), 4).expect("a partition");
    one(partition.into(), Some(&format!("{{\"user_id\":{user}}}")), &value)
}

fn fence(user: u64) -> KafkaRecord {
    let row = format!("{{\"user_id\":{user},\"namespace\":1,\"writer\":5,\"seq\":6,\"at_ms\":7}}");
    change("c", "seen_control", user, "null", &row)
}

fn key() -> Partitioner {
    Partitioner::Key(KeyTemplate::parse(KEY, Digits::Signed).expect("a template"))
}

fn wanted(by: PartitionedBy) -> Wanted {
    Wanted {
        topic: "seen".to_owned(),
        database: "db".to_owned(),
        tables: vec![FollowedTable::own("db", "feed_read"), FollowedTable::control("db")],
        by,
        partitioner: match by {
            PartitionedBy::Key => key(),
            PartitionedBy::Canal => Partitioner::Canal { database: "db".to_owned() },
            PartitionedBy::Maxwell => Partitioner::Maxwell,
            PartitionedBy::Slots | PartitionedBy::Unknown => Partitioner::Unknown,
        },
        partitions: 0,
        brokers: "k:9092".to_owned(),
    }
}

fn sampled(records: &[KafkaRecord], partitions: usize) -> Sampled {
    let mut census = Census::new(wanted(PartitionedBy::Key).tables, None);
    for record in records {
        census.take(record, partitions);
    }
    Sampled {
        ends: vec![(0, 100); partitions],
        settings: Ok(BTreeMap::new()),
        control_topics: Vec::new(),
        waited_ms: 3_000,
        is_alive: false,
        census,
    }
}

fn judged(records: &[KafkaRecord], partitions: usize, by: PartitionedBy) -> Vec<Finding> {
    judge(&sampled(records, partitions), &wanted(by))
}

/// Asserts that there is a finding of this kind about this subject, with these parts of its text.
fn holds(findings: &[Finding], severity: Severity, about: &str, parts: &[&str]) {
    let subject = format!("{about} of topic seen");
    let is_it = |finding: &&Finding| {
        let text = finding.to_string();
        finding.severity == severity
            && finding.subject == subject
            && parts.iter().all(|part| text.contains(part))
    };
    assert!(
        findings.iter().any(|finding| is_it(&finding)),
        "no {severity} about {about} with {parts:?} among {findings:#?}"
    );
}

fn errors(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

#[test]
fn a_good_pipeline_has_no_errors_and_its_producer_is_named() {
    let mut records = debezium();
    records.extend([fence(1), fence(2), fence(3)]);
    let mut sampled = sampled(&records, 4);
    sampled.is_alive = true;
    let findings = judge(&sampled, &wanted(PartitionedBy::Key));
    assert_eq!(errors(&findings), 0, "{findings:#?}");
    let note = Severity::Note;
    holds(&findings, note, "producer", &["Debezium 3.5.0.Final, connector mariadb", "debezium "]);
    holds(&findings, note, "key", &["lie where [kafka] partitioner says"]);
    holds(&findings, note, "fences", &["3 rows of seen_control"]);
    holds(&findings, note, "unsigned numbers", &["2^63"]);
    holds(&findings, note, "heartbeat", &["came"]);
    holds(&findings, note, "tombstones", &["tombstones.on.delete=false"]);
}

#[test]
fn the_partitioner_that_fits_is_printed() {
    let error = Severity::Error;
    for (records, configured, mend) in [
        (
            debezium(),
            PartitionedBy::Canal,
            "partitioner = \"key\", key = '{\"user_id\":{user}}', key_digits = \"signed\"",
        ),
        (golden("canal-flat", "canal"), PartitionedBy::Key, "partitioner = \"canal\""),
        (golden("maxwell", "maxwell"), PartitionedBy::Key, "partitioner = \"maxwell\""),
        (
            golden("debezium-mariadb-long-schemas", "t.db.feed_read"),
            PartitionedBy::Key,
            "\"payload\":{\"user_id\":{user}}}', key_digits = \"signed\"",
        ),
        (
            golden("debezium-mariadb-precise-numeric", "t.db.feed_read"),
            PartitionedBy::Maxwell,
            "key_digits = \"unsigned\"",
        ),
    ] {
        holds(&judged(&records, 4, configured), error, "key", &["another partition", mend]);
    }
    let findings = judged(&debezium(), 4, PartitionedBy::Unknown);
    holds(&findings, Severity::Warning, "key", &["fences prove nothing", "partitioner = \"key\""]);
    let records = golden("debezium-mariadb-precise", "t.db.feed_read");
    let findings = judged(&records, 4, PartitionedBy::Key);
    holds(&findings, error, "key", &["base64", "message.key.columns=db.feed_read:user_id"]);
}

#[test]
fn one_partition_that_takes_all_names_the_producers_option() {
    for (name, topic, mend) in [
        (
            "debezium-mariadb-long",
            "t.db.feed_read",
            "message.key.columns=db.feed_read:user_id;db.seen_control:user_id",
        ),
        (
            "canal-flat",
            "canal",
            "canal.mq.partitionHash=db.feed_read:user_id,db.seen_control:user_id",
        ),
        ("maxwell", "maxwell", "producer_partition_by=column, producer_partition_columns=user_id"),
    ] {
        let mut records = golden(name, topic);
        records.iter_mut().for_each(|record| record.partition = 2);
        let findings = judged(&records, 4, PartitionedBy::Key);
        holds(&findings, Severity::Error, "key", &["lie in partition 2 of 4", mend]);
    }
    let rows: Vec<_> = (1..20).map(|user| canal_json(user, "{}")).collect();
    let findings = judged(&rows, 4, PartitionedBy::Unknown);
    holds(
        &findings,
        Severity::Warning,
        "key",
        &["partition 0 of 4", "dispatchers", "\"db.feed_read\""],
    );
}

#[test]
fn fences_must_come_among_the_rows() {
    let findings = judged(&debezium(), 4, PartitionedBy::Key);
    holds(&findings, Severity::Warning, "fences", &["no row of seen_control", "RegexRouter"]);
    let mut apart = sampled(&debezium(), 4);
    apart.control_topics = vec!["t.db.seen_control".to_owned()];
    let findings = judge(&apart, &wanted(PartitionedBy::Key));
    let parts = [
        "go to topic t.db.seen_control",
        "transforms.route.regex=.*\\.(db\\.feed_read|db\\.seen_control)",
        "transforms.route.replacement=seen",
    ];
    holds(&findings, Severity::Error, "fences", &parts);
    let mut records = debezium();
    let fence = fence(1);
    records.push(KafkaRecord { partition: (fence.partition + 1) % 4, ..fence.clone() });
    let findings = judged(&records, 4, PartitionedBy::Key);
    holds(&findings, Severity::Error, "fences", &["do not lie", "message.key.columns"]);
    let key = fence.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned());
    let schema = format!("{{\"schema\":{{}},\"payload\":{}}}", key.expect("a key"));
    let last = records.last_mut().expect("the fence");
    last.key = Some(schema.into_bytes());
    let findings = judged(&records, 4, PartitionedBy::Key);
    holds(&findings, Severity::Error, "fences", &["SetSchemaMetadata$Key"]);
}

#[test]
fn images_that_lack_something_are_told() {
    let (warning, error) = (Severity::Warning, Severity::Error);
    let row = "{\"user_id\":1,\"kind\":0,\"item_id\":5,\"marked_at_ms\":9}";
    let told = |record: KafkaRecord| judged(&[record], 4, PartitionedBy::Key);
    let findings = told(change("u", "feed_read", 1, "null", row));
    holds(&findings, warning, "row image", &["before", "binlog_row_image = FULL", "record 77"]);
    let findings = told(change("c", "feed_read", 1, "null", "{\"user_id\":1,\"kind\":0}"));
    holds(&findings, error, "row image", &["lack columns", "binlog_row_image = FULL"]);
    let rounded = "{\"user_id\":1,\"kind\":0,\"item_id\":1.8446744073709552e19}";
    let findings = told(change("c", "feed_read", 1, "null", rounded));
    let mend = "bigint.unsigned.handling.mode=long";
    holds(&findings, error, "unsigned numbers", &["rounded", mend]);
    let unwrapped = golden("debezium-mariadb-long-unwrap", "t.db.feed_read");
    let findings = judged(&unwrapped, 4, PartitionedBy::Key);
    holds(&findings, warning, "row image", &["before", "no ExtractNewRecordState"]);
    holds(&findings, Severity::Note, "truncates", &["ExtractNewRecordState drops"]);
}

#[test]
fn truncates_that_cannot_be_seen_are_a_note() {
    let records: Vec<_> = debezium().into_iter().take(5).collect();
    let findings = judged(&records, 4, PartitionedBy::Key);
    holds(&findings, Severity::Note, "truncates", &["skipped.operations=none"]);
    let findings = judged(&debezium(), 4, PartitionedBy::Key);
    assert!(
        !findings.iter().any(|finding| finding.subject.starts_with("truncates")),
        "one was sent"
    );
    let findings = judged(&golden("maxwell", "maxwell"), 4, PartitionedBy::Maxwell);
    holds(&findings, Severity::Note, "truncates", &["Maxwell says nothing"]);
}

/// A row of TiCDC's canal-json, with such an extension.
fn canal_json(user: u64, extension: &str) -> KafkaRecord {
    let value = format!(
        "{{\"id\":0,\"database\":\"db\",\"table\":\"feed_read\",\"pkNames\":[\"user_id\"],\"isDdl\":false,\
         \"type\":\"INSERT\",\"es\":1,\"ts\":2,\"sql\":\"\",\"data\":[{{\"user_id\":\"{user}\",\"kind\":\"0\",\
         \"item_id\":\"5\",\"marked_at_ms\":\"9\"}}],\"old\":null{extension}}}",
        extension = match extension {
            "{}" => String::new(),
            extension => format!(",\"_tidb\":{extension}"),
        }
    );
    one(0, None, &value)
}

#[test]
fn ticdc_needs_its_extension_and_watermarks() {
    let warning = Severity::Warning;
    let findings = judged(&[canal_json(1, "{}")], 1, PartitionedBy::Key);
    let option = "enable-tidb-extension=true";
    holds(&findings, warning, "positions", &["no commit timestamp", option]);
    holds(&findings, warning, "heartbeat", &["no watermarks", option]);
    holds(&findings, Severity::Note, "fences", &["each table by itself"]);
    let only = "{\"commitTs\":5,\"onlyHandleKey\":true}";
    let elsewhere = "{\"commitTs\":6,\"claimCheckLocation\":\"s3://b/1\"}";
    let findings = judged(&[canal_json(1, only), canal_json(2, elsewhere)], 1, PartitionedBy::Key);
    holds(&findings, Severity::Note, "producer", &["canal-json with enable-tidb-extension"]);
    holds(&findings, warning, "row image", &["onlyHandleKey", "max-message-bytes"]);
    holds(&findings, warning, "row image", &["claimCheckLocation", "large-message-handle-option"]);
}

#[test]
fn what_cannot_be_read_is_shown_with_its_place() {
    let mut records = debezium();
    records.push(one(2, None, "<xml/>"));
    records.push(one(2, None, "{\"some\":\"thing\"}"));
    let findings = judged(&records, 4, PartitionedBy::Key);
    let parts = [
        "2 records",
        "%) cannot be read (format_unknown)",
        "record 77 of partition 2",
        "seen feed replay --partition 2 --from 77",
        "seen feed decode",
        "--table db.feed_read",
    ];
    holds(&findings, Severity::Error, "format", &parts);
    holds(&findings, Severity::Note, "producer", &["unknown 2"]);
}

#[test]
fn a_topic_that_throws_records_away_is_told() {
    let settings = |all: &[(&str, &str)]| {
        let mut sampled = sampled(&debezium(), 4);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        sampled.settings = Ok(all.iter().map(owned).collect());
        judge(&sampled, &wanted(PartitionedBy::Key))
    };
    let (warning, error) = (Severity::Warning, Severity::Error);
    let findings = settings(&[("cleanup.policy", "compact,delete")]);
    holds(&findings, error, "compaction", &["--entity-name seen", "cleanup.policy=delete"]);
    let findings = settings(&[("retention.ms", "600000")]);
    holds(&findings, warning, "retention", &["600 s", "retention.ms=86400000"]);
    let findings = settings(&[("retention.bytes", "4096")]);
    holds(&findings, warning, "retention", &["4096 bytes", "retention.bytes=-1"]);
    let findings = settings(&[("max.message.bytes", "600")]);
    holds(&findings, warning, "message size", &["600 are allowed", "max.message.bytes=2400"]);
    let findings = settings(&[("unclean.leader.election.enable", "true")]);
    holds(&findings, warning, "leader election", &["unclean.leader.election.enable=false"]);
    let fine = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("max.message.bytes", "1048588"),
    ];
    let findings = settings(&fine);
    assert_eq!(errors(&findings), 0, "{findings:#?}");
    for about in ["compaction", "retention"] {
        assert!(!findings.iter().any(|finding| finding.subject.starts_with(about)), "{about}");
    }
    holds(&findings, Severity::Note, "message size", &["1048588 are allowed"]);
    let mut unknown = sampled(&debezium(), 4);
    unknown.settings = Err("TopicAuthorizationFailed".to_owned());
    let findings = judge(&unknown, &wanted(PartitionedBy::Key));
    holds(&findings, warning, "settings", &["TopicAuthorizationFailed", "DescribeConfigs"]);
}

#[test]
fn duplicates_are_counted_and_harmless() {
    let records = [debezium(), debezium()].concat();
    let findings = judged(&records, 4, PartitionedBy::Key);
    holds(&findings, Severity::Note, "order", &["before an earlier one", "normal"]);
    assert_eq!(errors(&findings), 0, "{findings:#?}");
    let findings = judged(&debezium(), 4, PartitionedBy::Key);
    assert!(!findings.iter().any(|finding| finding.subject.starts_with("order")), "in order");
}

#[test]
fn numbers_of_partitions_must_agree() {
    let mut wanted = wanted(PartitionedBy::Key);
    wanted.partitions = 8;
    let findings = judge(&sampled(&debezium(), 4), &wanted);
    holds(&findings, Severity::Error, "partitions", &["it has 4", "partitions = 4"]);
    let findings = judged(&[], 1, PartitionedBy::Key);
    holds(&findings, Severity::Note, "partitions", &["there is one"]);
    holds(&findings, Severity::Warning, "records", &["nothing was ever written"]);
    let other = "{\"user_id\":1,\"kind\":0,\"item_id\":5}";
    let findings = judged(&[change("c", "other", 1, "null", other)], 4, PartitionedBy::Key);
    holds(&findings, Severity::Warning, "rows", &["db.feed_read", "1 are of other tables"]);
}

#[test]
fn own_records_say_where_they_belong() {
    let own = |partition: u16| {
        let head = ChangeHead {
            namespace: "feed_read",
            shard: Shard::new(0),
            partition: Partition::new(partition),
            partitions: 4,
        };
        let mut record = ChangeRecord::new(&head).expect("a record");
        let stamp = seen_filter::CommitStamp::new(Domain::new(1), Timeline::new(1), 5);
        let (user, item) = (UserId::new(1), Item::new(0, 5));
        assert!(record.push(&FeedEvent::Add { stamp, user, item }, None));
        KafkaRecord { value: Some(record.finish(ChangeSource::default())), ..one(1, None, "") }
    };
    let findings = judged(&[own(1)], 4, PartitionedBy::Slots);
    holds(&findings, Severity::Note, "producer", &["seen relay"]);
    holds(&findings, Severity::Note, "key", &["seen relay says"]);
    let findings = judged(&[own(1)], 4, PartitionedBy::Key);
    holds(&findings, Severity::Error, "key", &["partitioner = \"slots\""]);
    let findings = judged(&[own(2)], 4, PartitionedBy::Slots);
    holds(&findings, Severity::Error, "key", &["partition 2 of 4"]);
    let findings = judged(&[own(1)], 5, PartitionedBy::Slots);
    holds(&findings, Severity::Error, "key", &["a topic of 5"]);
}
