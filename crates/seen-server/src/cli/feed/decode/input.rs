//! Captured records: one JSON object a line.

use std::io::{BufRead, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seen_dialect::Record;
use serde_json::{Map, Value};

use super::super::super::CliError;

/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1_024 * 1_024;

/// Reads the next line; false at the end.
pub(super) fn next_line(
    from: &mut dyn BufRead,
    number: u64,
    line: &mut Vec<u8>,
) -> Result<bool, CliError> {
    line.clear();
    // The line's end may follow the longest line.
    let read = from.take(LINE_BYTES_MAX + 1).read_until(b'\n', line);
    let read = read.map_err(|error| format!("line {number}: {error}"))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(format!("line {number}: longer than 64 MiB").into());
    }
    Ok(read > 0)
}

/// A header's name and value.
type Header = (String, Option<Vec<u8>>);

/// One record.
#[derive(Debug, Default)]
pub(super) struct Line {
    topic: String,
    partition: i32,
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

impl Line {
    /// Reads a line; members of other names mean nothing.
    pub fn parse(line: &[u8], base64: bool) -> Result<Self, String> {
        let parsed = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
        let Value::Object(members) = parsed else { return Err("no JSON object".to_owned()) };
        if !members.contains_key("value") {
            return Err("value is missing; a record without one has null".to_owned());
        }
        Ok(Self {
            topic: match members.get("topic") {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(topic)) => topic.clone(),
                Some(_) => return Err("topic is no text".to_owned()),
            },
            partition: whole(&members, "partition")?,
            offset: whole(&members, "offset")?,
            key: bytes(members.get("key"), "key", base64)?,
            value: bytes(members.get("value"), "value", base64)?,
            headers: headers(members.get("headers"), base64)?,
        })
    }

    pub fn has_value(&self) -> bool {
        self.value.is_some()
    }

    pub fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }

    pub fn record<'a>(&'a self, headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Record<'a> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: None,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }
}

fn whole<T: TryFrom<i64> + Default>(members: &Map<String, Value>, name: &str) -> Result<T, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => {
            let number = value.as_i64().and_then(|number| T::try_from(number).ok());
            number.ok_or_else(|| format!("{name} is no whole number of a record's range"))
        }
    }
}

fn bytes(value: Option<&Value>, name: &str, base64: bool) -> Result<Option<Vec<u8>>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if base64 => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{name} is no base64: {error}")),
        },
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(_) => Err(format!("{name} is neither a text nor null")),
    }
}

/// An object of names and values, or a list of pairs where a name comes twice.
fn headers(value: Option<&Value>, base64: bool) -> Result<Vec<Header>, String> {
    let one = |name: &str, value: &Value| {
        let of = format!("headers.{name}");
        Ok((name.to_owned(), bytes(Some(value), &of, base64)?))
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(members)) => {
            members.iter().map(|(name, value)| one(name, value)).collect()
        }
        Some(Value::Array(pairs)) => pairs
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([Value::String(name), value]) => one(name, value),
                _ => Err("headers is neither an object nor a list of pairs".to_owned()),
            })
            .collect(),
        Some(_) => Err("headers is neither an object nor a list of pairs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_records_are_told() {
        for (line, why) in [
            ("{", "no JSON"),
            ("[]", "no JSON object"),
            (r#"{"key":null}"#, "value is missing"),
            (r#"{"value":{}}"#, "value is neither"),
            (r#"{"value":null,"key":5}"#, "key is neither"),
            (r#"{"value":null,"topic":5}"#, "topic is no text"),
            (r#"{"value":null,"partition":"0"}"#, "partition is no whole number"),
            (r#"{"value":null,"partition":4294967296}"#, "partition is no whole number"),
            (r#"{"value":null,"offset":1.5}"#, "offset is no whole number"),
            (r#"{"value":null,"headers":{"a":1}}"#, "headers.a is neither"),
            (r#"{"value":null,"headers":[["a"]]}"#, "headers is neither"),
        ] {
            let error = Line::parse(line.as_bytes(), false).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
        let error = Line::parse(br#"{"value":"?"}"#, true).expect_err("no base64");
        assert!(error.contains("value is no base64"), "{error}");
    }

    #[test]
    fn members_may_be_absent_and_others_mean_nothing() {
        let text =
            br#"{"value":"AQI=","meaning":1,"timestamp":"x","headers":{"h":"AA==","n":null}}"#;
        let line = Line::parse(text, true).expect("a record");
        let headers = line.headers();
        let record = line.record(&headers);
        assert_eq!((record.topic, record.partition, record.offset), ("", 0, 0));
        assert_eq!((record.key, record.value), (None, Some(&[1, 2][..])));
        assert_eq!(record.headers, [("h", Some(&[0][..])), ("n", None)]);
    }

    #[test]
    fn lines_end_with_the_file_too() {
        let mut from = &b"a\n\nb"[..];
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while next_line(&mut from, 1, &mut line).expect("reads") {
            lines.push(line.clone());
        }
        assert_eq!(lines, [b"a".to_vec(), Vec::new(), b"b".to_vec()]);
    }

    #[test]
    fn a_line_is_as_long_as_memory_allows_and_no_longer() {
        let mut line = Vec::new();
        let mut read = |bytes| {
            let endless = std::io::repeat(b'a').take(bytes).chain(&b"\n"[..]);
            next_line(&mut std::io::BufReader::new(endless), 7, &mut line)
        };
        assert!(read(LINE_BYTES_MAX).expect("the longest"));
        let refused = read(LINE_BYTES_MAX + 1).expect_err("too long").to_string();
        assert_eq!(refused, "line 7: longer than 64 MiB");
        assert!(read(LINE_BYTES_MAX * 1_000).is_err(), "and is not read to its end");
    }
}
