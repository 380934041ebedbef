//! Records and what they say, a line each.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seen_dialect::{ControlRow, Dialect, Event, Scope, What};
use seen_kafka::KafkaRecord;
use serde_json::{Map, Value, json};

use super::decode::output::Said;
use crate::cli::CliError;

/// Writes text to stdout; false if nobody reads it any more.
///
/// # Errors
/// Anything else that writing fails with.
pub(super) fn hand_on(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// A moment: a time of RFC 3339, or how long ago it was. In milliseconds since 1970.
pub(super) fn parse_moment(text: &str) -> Result<i64, String> {
    let moment = match humantime::parse_rfc3339_weak(text) {
        Ok(moment) => moment,
        Err(_) => {
            let ago = humantime::parse_duration(text).map_err(|_| {
                "expected a time as in 2026-01-31T12:00:00Z, or how long ago as in 15m".to_owned()
            })?;
            SystemTime::now().checked_sub(ago).ok_or("that is before 1970")?
        }
    };
    let since = moment.duration_since(UNIX_EPOCH).map_err(|_| "that is before 1970")?;
    i64::try_from(since.as_millis()).map_err(|_| "that is too far ahead".to_owned())
}

/// A record as `seen feed decode` takes it.
///
/// # Errors
/// Bytes that are no text, unless they are to be base64.
pub(super) fn captured(record: &KafkaRecord, base64: bool) -> Result<String, CliError> {
    let text = |bytes: &Option<Vec<u8>>| -> Result<Value, CliError> {
        let Some(bytes) = bytes else { return Ok(Value::Null) };
        if base64 {
            return Ok(Value::String(STANDARD.encode(bytes)));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::String(text.to_owned())),
            Err(_) => Err(format!(
                "record {} of partition {} is no text; add --base64, and give it to seen feed decode, too",
                record.offset, record.partition
            )
            .into()),
        }
    };
    let names: BTreeSet<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    let headers = if names.len() == record.headers.len() {
        let one = |(name, value): &(String, _)| Ok((name.clone(), text(value)?));
        Value::Object(record.headers.iter().map(one).collect::<Result<Map<_, _>, CliError>>()?)
    } else {
        let one = |(name, value): &(String, _)| Ok(json!([name, text(value)?]));
        Value::Array(record.headers.iter().map(one).collect::<Result<_, CliError>>()?)
    };
    Ok(format!(
        "{{\"topic\":{},\"partition\":{},\"offset\":{},\"timestamp\":{},\"key\":{},\"value\":{},\
         \"headers\":{headers}}}\n",
        json!(record.topic),
        record.partition,
        record.offset,
        json!(record.timestamp_ms),
        text(&record.key)?,
        text(&record.value)?,
    ))
}

/// What a record says, as JSON.
///
/// # Errors
/// None that is known of.
pub(super) fn said_json(
    record: &KafkaRecord,
    dialect: Option<Dialect>,
    events: &[Event],
) -> Result<String, CliError> {
    let said = Said { line: 0, events, shows_control: true };
    Ok(format!(
        "{{\"topic\":{},\"partition\":{},\"offset\":{},\"timestamp\":{},\"format\":{},\"events\":{}}}\n",
        json!(record.topic),
        record.partition,
        record.offset,
        json!(record.timestamp_ms),
        json!(dialect.map(Dialect::name)),
        said.events_json()?,
    ))
}

/// What a record says, a line each event.
pub(super) fn said_text(
    record: &KafkaRecord,
    dialect: Option<Dialect>,
    events: &[Event],
) -> String {
    let time = record.timestamp_ms.and_then(|ms| u64::try_from(ms).ok());
    let time = time.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
    let time = time.map(|time| humantime::format_rfc3339_millis(time).to_string());
    let head = format!(
        "{} {}/{} {} {}",
        record.topic,
        record.partition,
        record.offset,
        time.as_deref().unwrap_or("-"),
        dialect.map_or("-", Dialect::name),
    );
    let line = |event: &Event| {
        let position = event.position.as_ref().map(|position| format!(" at {position}"));
        let reason = event.reason.map(|reason| format!(" ({reason})"));
        let (position, reason) = (position.unwrap_or_default(), reason.unwrap_or_default());
        format!("{head}  {}{}{position}{reason}\n", event.what.name(), about(&event.what))
    };
    events.iter().map(line).collect()
}

fn about(what: &What) -> String {
    match what {
        What::Upsert { user, item, marked_at_ms } => match marked_at_ms {
            Some(ms) => format!(" user {user} item {item} read {ms}"),
            None => format!(" user {user} item {item}"),
        },
        What::Delete { user, item } => format!(" user {user} item {item}"),
        What::Control(ControlRow { user, namespace, writer, seq }) => {
            format!(" user {user} namespace {namespace} writer {writer:016x} seq {seq}")
        }
        What::Dirty(Scope::User(user)) => format!(" user {user}"),
        What::Dirty(Scope::Partition) => " partition".to_owned(),
        What::Dirty(Scope::Table) => " table".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &[u8], headers: &[&str]) -> KafkaRecord {
        let header = |name: &&str| ((*name).to_owned(), Some(b"x".to_vec()));
        KafkaRecord {
            topic: "t".to_owned(),
            partition: 3,
            offset: 9,
            timestamp_ms: Some(5),
            value: Some(value.to_vec()),
            headers: headers.iter().map(header).collect(),
            ..KafkaRecord::default()
        }
    }

    #[test]
    fn records_are_captured_as_text_or_base64() {
        let line = captured(&record(b"a\"b", &["h"]), false).expect("a text");
        let expected = "{\"topic\":\"t\",\"partition\":3,\"offset\":9,\"timestamp\":5,\"key\":null,\
                        \"value\":\"a\\\"b\",\"headers\":{\"h\":\"x\"}}\n";
        assert_eq!(line, expected);
        let refused = captured(&record(&[0xff], &[]), false).expect_err("no text").to_string();
        assert!(refused.contains("record 9 of partition 3") && refused.contains("--base64"));
        let line = captured(&record(&[0xff], &["h", "h"]), true).expect("base64");
        assert!(line.contains("\"value\":\"/w==\""), "{line}");
        assert!(line.contains("\"headers\":[[\"h\",\"eA==\"],[\"h\",\"eA==\"]]"), "{line}");
    }

    #[test]
    fn moments_are_times_or_ages() {
        assert_eq!(parse_moment("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(parse_moment("2023-11-14 22:13:20"), Ok(1_700_000_000_000));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now").as_millis() as i64;
        let ago = parse_moment("1h").expect("an age");
        assert!((3_600_000..3_700_000).contains(&(now - ago)), "{ago}");
        assert!(parse_moment("yesterday").expect_err("neither").contains("15m"));
    }
}
