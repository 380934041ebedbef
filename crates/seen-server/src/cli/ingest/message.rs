//! What a queued message says.

use std::str::FromStr;

use seen_dialect::Record;
use seen_filter::Item;
use seen_kafka::ingest::{Mark, Said};
use seen_proto::limits::MARKED_AT_MS_MAX;
use seen_proto::wire::MarkCall;
use serde_json::{Map, Value};

use super::changes::Changes;

/// How messages are read.
#[derive(Debug)]
pub(super) enum Form {
    /// `seen.v1.MarkRequest`.
    Protobuf,
    /// An object for each impression.
    Json { namespace: String, columns: Columns },
    /// Change events of another store.
    Changes(Changes),
}

impl Form {
    /// What a message says.
    pub(super) fn read(&self, record: &Record<'_>) -> Said {
        let value = record.value.unwrap_or_default();
        match self {
            Self::Protobuf => request(value).into(),
            Self::Json { namespace, columns } => impression(value, namespace, columns).into(),
            Self::Changes(changes) => changes.read(record),
        }
    }
}

fn request(value: &[u8]) -> Result<Mark, &'static str> {
    let call = MarkCall::parse(value).map_err(|_| "no_mark_request")?;
    let items = call.items().map(|(item, at)| (item, at.map(|at| at.get()))).collect();
    Ok(Mark { namespace: call.namespace.to_owned(), user: call.user.get(), items })
}

fn impression(value: &[u8], namespace: &str, columns: &Columns) -> Result<Mark, &'static str> {
    let object: Map<String, Value> = serde_json::from_slice(value).map_err(|_| "no_json_object")?;
    let (user, items) = columns.read(&object)?;
    Ok(Mark { namespace: namespace.to_owned(), user, items })
}

/// Which fields of an object hold an impression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    user: String,
    item: String,
    kind: KindOf,
    time: Option<(String, Unit)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KindOf {
    Column(String),
    Constant(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Millis,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            user: "user".to_owned(),
            item: "item".to_owned(),
            kind: KindOf::Constant(0),
            time: None,
        }
    }
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut columns = Self::default();
        let mut named: Vec<&str> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let wrong =
                |why: &str| format!("{part:?}: {why}; as in user=member_id,kind=1,time=at:s");
            let (role, column) =
                part.split_once('=').ok_or_else(|| wrong("expected role=FIELD"))?;
            if column.is_empty() {
                return Err(wrong("the field has no name"));
            }
            if named.contains(&role) {
                return Err(wrong("it is named twice"));
            }
            named.push(role);
            let own = column.to_owned();
            match role {
                "user" => columns.user = own,
                "item" => columns.item = own,
                "kind" if column.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let kind = column.parse().map_err(|_| wrong("kinds are 0 to 255"))?;
                    columns.kind = KindOf::Constant(kind);
                }
                "kind" => columns.kind = KindOf::Column(own),
                "time" => {
                    columns.time = Some(match column.rsplit_once(':') {
                        Some((name, "s")) => (name.to_owned(), Unit::Seconds),
                        Some((name, "ms")) => (name.to_owned(), Unit::Millis),
                        Some(_) => {
                            return Err(wrong("times are in seconds (:s) or milliseconds (:ms)"));
                        }
                        None => (own, Unit::Millis),
                    });
                }
                _ => return Err(wrong("roles are user, item, kind and time")),
            }
        }
        Ok(columns)
    }
}

/// A user, and what he has read.
type Impression = (u64, Vec<(Item, Option<u64>)>);

impl Columns {
    fn read(&self, object: &Map<String, Value>) -> Result<Impression, &'static str> {
        let user = number(object.get(&self.user)).ok_or("no_user")?;
        let item = number(object.get(&self.item)).ok_or("no_item")?;
        let kind = match &self.kind {
            KindOf::Constant(kind) => *kind,
            KindOf::Column(name) => {
                let kind = number(object.get(name)).ok_or("no_kind")?;
                u8::try_from(kind).map_err(|_| "no_kind")?
            }
        };
        let at = match &self.time {
            None => None,
            Some((name, unit)) => {
                let at = number(object.get(name)).ok_or("no_time")?;
                let per = if *unit == Unit::Seconds { 1_000 } else { 1 };
                let at = at.checked_mul(per).filter(|at| *at <= MARKED_AT_MS_MAX);
                Some(at.ok_or("no_time")?)
            }
        };
        Ok((user, vec![(Item::new(kind, item), at)]))
    }
}

/// A number of 64 bits, also where it is written as text, as JavaScript has to.
fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(columns: &str, value: &str) -> Result<Mark, &'static str> {
        impression(value.as_bytes(), "first", &columns.parse().expect("columns"))
    }

    #[test]
    fn objects_are_read_exactly() {
        let max = u64::MAX;
        let value = format!("{{\"u\":{max},\"i\":\"{max}\",\"k\":7,\"t\":1790000000,\"x\":[]}}");
        let mark = read("user=u,item=i,kind=k,time=t:s", &value).expect("a mark");
        let items = vec![(Item::new(7, max), Some(1_790_000_000_000))];
        assert_eq!(mark, Mark { namespace: "first".to_owned(), user: max, items });
        let mark = read("kind=3", "{\"user\":0,\"item\":5}").expect("a mark");
        assert_eq!((mark.user, mark.items), (0, vec![(Item::new(3, 5), None)]));
    }

    #[test]
    fn what_says_nothing_is_named() {
        for (value, why) in [
            ("", "no_json_object"),
            ("[1]", "no_json_object"),
            ("{\"item\":5}", "no_user"),
            ("{\"user\":-1,\"item\":5}", "no_user"),
            ("{\"user\":1.5,\"item\":5}", "no_user"),
            ("{\"user\":1,\"item\":18446744073709551616}", "no_item"),
            ("{\"user\":1,\"item\":5,\"k\":256,\"t\":1}", "no_kind"),
            ("{\"user\":1,\"item\":5,\"k\":1,\"t\":999999999999999999}", "no_time"),
        ] {
            assert_eq!(read("kind=k,time=t:s", value), Err(why), "{value}");
        }
        assert_eq!(request(b"\xff"), Err("no_mark_request"));
        assert_eq!(request(b""), Err("no_mark_request"), "no namespace");
    }

    #[test]
    fn columns_that_cannot_be_meant_are_refused() {
        for (bad, why) in [
            ("user", "role=FIELD"),
            ("user=", "no name"),
            ("user=a,user=b", "twice"),
            ("kind=256", "0 to 255"),
            ("time=t:us", "seconds"),
            ("color=c", "roles are"),
        ] {
            let refused = bad.parse::<Columns>().expect_err(bad);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
