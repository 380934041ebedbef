//! Topics good and bad.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use seen_testbed::{Kafka, Record, or_skip};
use serde_json::Value;

use super::ran::{PARTITIONS, fence, fill, row, run, said, seen};

#[test]
fn topics_are_examined_followed_and_captured() {
    let Some(kafka) = or_skip(Kafka::start()) else { return };
    let bootstrap = kafka.bootstrap();
    for topic in ["good", "one", "compacted"] {
        let policy = if topic == "compacted" { "compact" } else { "delete" };
        kafka
            .create_topic(topic, usize::from(PARTITIONS), &[("cleanup.policy", policy)])
            .expect("a topic");
    }
    good(&kafka);
    badly_keyed(&kafka);
    compacted(&kafka);
    missing(&kafka);
    captured_records_say_what_is_followed(&kafka);
    ranges_are_cut(&kafka);
    what_comes_is_followed(&kafka);
    kafka.stop().expect("stopped");
    let sets = ["--set", "kafka.connect_timeout=2s"];
    for command in [&["doctor", "--feed"][..], &["feed", "tail"], &["feed", "replay"]] {
        let (text, code) = said(&run(&bootstrap, "good", &[command, &sets].concat()));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&bootstrap) && text.contains("start Kafka"), "{text}");
    }
}

/// Nothing to mend; and a fence that comes meanwhile is noticed.
fn good(kafka: &Kafka) {
    fill(kafka, "good");
    let output = run(&kafka.bootstrap(), "good", &["doctor", "--feed", "--wait", "1ms"]);
    let (text, code) = said(&output);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "Debezium 3.5.0.Final, connector mariadb",
        "all 20 rows of 20 users lie where [kafka] partitioner says",
        "20 rows of seen_control come in the same topic",
        "warning: heartbeat of topic good\n    no fence came within 1 ms",
        "message size of topic good",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("0 errors, 1 warning, "), "{text}");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seq = 100;
            while !done.load(Ordering::Acquire) {
                let (partition, record) = fence(1, seq);
                kafka.send("good", partition, &[record]).expect("sent");
                seq += 1;
            }
        });
        let asked = ["doctor", "--feed", "--json", "--wait", "60s", "--sample", "8"];
        let output = run(&kafka.bootstrap(), "good", &asked);
        done.store(true, Ordering::Release);
        let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&read["errors"], &read["warnings"]), (&0.into(), &0.into()), "{read:#}");
        let findings = read["findings"].as_array().expect("a list");
        let is_it = |finding: &&Value| finding["subject"] == "heartbeat of topic good";
        let heartbeat = findings.iter().find(is_it).expect("a finding");
        assert_eq!(heartbeat["severity"], "note", "{heartbeat}");
    });
}

fn badly_keyed(kafka: &Kafka) {
    let records: Vec<Record> = (1..=20).map(|user| row(user, user).1).collect();
    kafka.send("one", 1, &records).expect("sent");
    let (text, code) =
        said(&run(&kafka.bootstrap(), "one", &["doctor", "--feed", "--wait", "1ms"]));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.starts_with("error: key of topic one\n"), "{text}");
    assert!(text.contains("all 20 rows of 20 users lie in partition 1 of 4"), "{text}");
    assert!(text.contains("mend: Debezium: message.key.columns=db.history_feed_read:user_id;"));
}

fn compacted(kafka: &Kafka) {
    fill(kafka, "compacted");
    let (text, code) =
        said(&run(&kafka.bootstrap(), "compacted", &["doctor", "--feed", "--wait", "1ms"]));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.starts_with("error: compaction of topic compacted\n"), "{text}");
    assert!(text.contains("--add-config cleanup.policy=delete"), "{text}");
}

fn missing(kafka: &Kafka) {
    let (text, code) = said(&run(&kafka.bootstrap(), "missing", &["doctor", "--feed"]));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.starts_with("error: topic missing\n    does not exist"), "{text}");
    assert!(text.contains("--create --topic missing"), "{text}");
    let (text, code) = said(&run(&kafka.bootstrap(), "missing", &["feed", "tail"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("\"missing\" does not exist"), "{text}");
    assert_eq!(kafka.partitions("missing").expect("asked"), 0, "looking makes no topic");
}

/// The lines of a command that must succeed.
fn lines(kafka: &Kafka, arguments: &[&str]) -> Vec<Value> {
    let output = run(&kafka.bootstrap(), "compacted", arguments);
    let (text, code) = said(&output);
    assert_eq!(code, Some(0), "{text}");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn captured_records_say_what_is_followed(kafka: &Kafka) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("records.jsonl");
    let path = file.to_str().expect("a text");
    let followed = lines(kafka, &["feed", "tail", "--from-beginning", "--limit", "40", "--json"]);
    assert_eq!(followed.len(), 40);
    assert!(followed.iter().all(|line| line["format"] == "debezium"), "{followed:?}");
    let place = |line: &Value| (line["partition"].as_u64(), line["offset"].as_u64());
    let mut by_place: Vec<_> =
        followed.iter().map(|line| (place(line), line["events"].clone())).collect();
    by_place.sort_by_key(|(place, _)| *place);
    for base64 in [&[][..], &["--base64"]] {
        let captured = lines(kafka, &[&["feed", "replay"], base64].concat());
        let text: String = captured.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, text).expect("written");
        let decode = [&["feed", "decode", "--table", "db.history_feed_read"], base64, &[path]];
        // It reads no configuration.
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_seen"))
            .args(decode.concat())
            .output()
            .expect("it starts");
        let (text, code) = said(&output);
        assert_eq!(code, Some(0), "{text}");
        let mut decoded: Vec<_> = text
            .lines()
            .zip(&captured)
            .map(|(line, captured)| {
                let line: Value = serde_json::from_str(line).expect("JSON");
                (place(captured), line["events"].clone())
            })
            .collect();
        decoded.sort_by_key(|(place, _)| *place);
        assert_eq!(decoded.len(), 40);
        for ((at, events), (same, followed)) in decoded.iter().zip(&by_place) {
            assert_eq!(at, same);
            // Fences are shown by decode only to who asks for that table.
            if followed[0]["op"] != "control" {
                assert_eq!(events, followed, "{at:?}");
            }
        }
    }
}

fn ranges_are_cut(kafka: &Kafka) {
    let end = kafka.offsets("compacted", 0).expect("asked").end;
    assert!(end >= 4, "{end}");
    let replay = |arguments: &[&str]| {
        lines(kafka, &[&["feed", "replay", "--partition", "0"], arguments].concat())
    };
    let offsets = |arguments: &[&str]| -> Vec<i64> {
        replay(arguments).iter().map(|line| line["offset"].as_i64().expect("a number")).collect()
    };
    // A row and its fence are of one moment.
    let third = replay(&["--from", "2", "--limit", "1"]);
    let ms = third[0]["timestamp"].as_u64().expect("a time");
    let moment = UNIX_EPOCH + Duration::from_millis(ms);
    let moment = humantime::format_rfc3339_millis(moment).to_string();
    assert_eq!(offsets(&["--from", "1", "--to", "2"]), [1, 2]);
    assert_eq!(offsets(&["--from", "1", "--limit", "1"]), [1]);
    assert_eq!(offsets(&["--to", "999"]), (0..end).collect::<Vec<_>>());
    assert_eq!(offsets(&["--from", "999"]), [] as [i64; 0]);
    assert_eq!(offsets(&["--from-time", &moment]), (2..end).collect::<Vec<_>>());
    assert_eq!(offsets(&["--to-time", &moment]), [0, 1, 2, 3]);
    assert_eq!(offsets(&["--from-time", "1h"]), [] as [i64; 0], "they are years old");
    assert_eq!(offsets(&["--to-time", "2020-01-01T00:00:00Z"]), [] as [i64; 0]);
    let arguments = ["feed", "replay", "--partition", "9"];
    let (text, code) = said(&run(&kafka.bootstrap(), "good", &arguments));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("has 0 to 3"), "{text}");
}

fn what_comes_is_followed(kafka: &Kafka) {
    let mut tail = seen(&kafka.bootstrap(), "one", &["feed", "tail", "--limit", "2"]);
    let mut child = tail.stdout(Stdio::piped()).spawn().expect("it starts");
    let (_, record) = row(7, 70);
    // It begins where the topic ends when it asks.
    while child.try_wait().expect("asked").is_none() {
        kafka.send("one", 1, std::slice::from_ref(&record)).expect("sent");
    }
    let (text, code) = said(&child.wait_with_output().expect("ended"));
    assert_eq!((code, text.lines().count()), (Some(0), 2), "{text}");
    assert!(text.contains(" debezium  upsert user 7 item 0:70 read 5 at 0-1-70\n"), "{text}");
}
