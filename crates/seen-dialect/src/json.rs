//! JSON as producers of change events send it: whole numbers exact, texts borrowed, and what no
//! dialect reads (the schema part of a Debezium record is most of its bytes) passed over unbuilt.
//!
//! Only the members that dialects know to hold an image, a source or an envelope are read as objects;
//! every other object or list is checked to be JSON and left out. So nothing recurses deeper than a
//! record does: a payload, its images, their values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value, as far as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Whole(i128),
    /// A number that is not whole, or so large that its digits were rounded on the way.
    Rounded,
    Text(Cow<'a, str>),
    Object(Object<'a>),
    List(Vec<Value<'a>>),
    /// An object or a list that no dialect reads.
    Skipped,
}

impl<'a> Value<'a> {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// A whole number from 0 to 2^64-1.
    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Whole(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
}

/// An object's members, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Object<'a> {
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The text of a member that is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// The object of a member that is one.
    pub fn object(&self, name: &str) -> Option<&Object<'a>> {
        self.get(name)?.object()
    }

    /// A member that is there and not null.
    pub fn present(&self, name: &str) -> Option<&Value<'a>> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// What lies in a `{schema, payload}` or `{payload}` envelope; the object itself where there is
    /// none. `None` if the envelope is empty.
    pub fn into_payload(mut self) -> Option<Object<'a>> {
        if !self.has("payload") || !self.has_only(&["schema", "payload"]) {
            return Some(self);
        }
        let at = self.0.iter().position(|(name, _)| name == "payload")?;
        match self.0.swap_remove(at).1 {
            Value::Object(payload) => Some(payload),
            _ => None,
        }
    }

    pub fn members(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// True if each member has one of these names.
    pub fn has_only(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(own, _)| names.contains(&own.as_ref()))
    }

    /// True if each member's name is also one of the other object's. Producers send the columns of
    /// both in the same order: each name is looked for from where the last one was found.
    pub fn names_are_among(&self, other: &Object<'_>) -> bool {
        let mut at = 0;
        self.0.iter().all(|(name, _)| {
            let (before, after) = other.0.split_at(at.min(other.0.len()));
            let found = after.iter().chain(before).position(|(other, _)| other == name);
            found.is_some_and(|steps| {
                at = (at + steps + 1) % other.0.len().max(1);
                true
            })
        })
    }
}

/// The objects of a text, one after the other: usually one, but TiCDC's Maxwell flavour joins several
/// without anything between. Ends at the first that is not readable, which gives an error.
pub(crate) fn objects(text: &str) -> impl Iterator<Item = Result<Object<'_>, Unreadable>> {
    let mut rest = serde_json::Deserializer::from_str(text).into_iter::<Top<'_>>();
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let next = rest.next();
        is_over = !matches!(next, Some(Ok(_)));
        next.map(|object| object.map(|Top(object)| object).map_err(|_| Unreadable))
    })
}

/// The one object that a text is.
pub(crate) fn object(bytes: &[u8]) -> Option<Object<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let Top(object) = serde_json::from_str(text).ok()?;
    Some(object)
}

/// True if this cannot be anything but an attempt at a JSON object: no binary format begins so.
pub(crate) fn begins_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// Not JSON, or not an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

struct Top<'a>(Object<'a>);

impl<'de> serde::Deserialize<'de> for Top<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ObjectVisitor(Level::Record)).map(Top)
    }
}

/// How far inside a record something lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// A member of the record, or of its payload.
    Record,
    /// A member of something inside: no objects are wanted there.
    Inside,
}

/// What is made of a member's value.
#[derive(Clone, Copy)]
enum Wanted {
    /// An object, of which the members lie at this level; a list of such.
    Nested(Level),
    /// No object.
    Scalar,
    /// Nothing.
    Nothing,
}

impl Level {
    fn wanted(self, name: &str) -> Wanted {
        match (self, name) {
            (Self::Inside, _) => Wanted::Scalar,
            (Self::Record, "payload") => Wanted::Nested(Level::Record),
            (
                Self::Record,
                "before" | "after" | "source" | "data" | "old" | "_tidb" | "tableSchema"
                | "preTableSchema",
            ) => Wanted::Nested(Level::Inside),
            (
                Self::Record,
                "schema" | "transaction" | "mysqlType" | "sqlType" | "pkNames" | "tableChanges"
                | "def",
            ) => Wanted::Nothing,
            (Self::Record, _) => Wanted::Scalar,
        }
    }
}

struct ObjectVisitor(Level);

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some(name) = map.next_key_seed(Name)? {
            let value = match self.0.wanted(&name) {
                Wanted::Nothing => map.next_value::<IgnoredAny>().map(|_| Value::Skipped)?,
                wanted => map.next_value_seed(ValueSeed(wanted))?,
            };
            members.push((name, value));
        }
        Ok(Object(members))
    }
}

/// A member's name.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[derive(Clone, Copy)]
struct ValueSeed(Wanted);

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(whole(value).map_or(Value::Rounded, Value::Whole))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        if let Wanted::Nested(level) = self.0 {
            return ObjectVisitor(level).visit_map(map).map(Value::Object);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Skipped)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        if let Wanted::Nested(Level::Inside) = self.0 {
            let mut values = Vec::with_capacity(1);
            while let Some(value) = list.next_element_seed(Element)? {
                values.push(value);
            }
            return Ok(Value::List(values));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Skipped)
    }
}

/// An element of a list of rows: a list within it is none.
struct Element;

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
        ObjectVisitor(Level::Inside).visit_map(map).map(Value::Object)
    }
}

/// A number with a fraction or an exponent, if it is whole and no larger than what such a number can
/// hold exactly.
fn whole(value: f64) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    (value.fract() == 0.0 && value.abs() < EXACT).then_some(value as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Value<'_> {
        let object = object(text.as_bytes()).expect("an object");
        object.get("v").expect("a member").clone()
    }

    #[test]
    fn whole_numbers_are_exact() {
        for (text, expected) in [
            (r#"{"v":18446744073709551615}"#, Value::Whole(u64::MAX.into())),
            (r#"{"v":-9223372036854775808}"#, Value::Whole(i64::MIN.into())),
            (r#"{"v":9007199254740993}"#, Value::Whole(9_007_199_254_740_993)),
            (r#"{"v":0}"#, Value::Whole(0)),
            (r#"{"v":1.0}"#, Value::Whole(1)),
            (r#"{"v":1e3}"#, Value::Whole(1_000)),
            (r#"{"v":-1.7E12}"#, Value::Whole(-1_700_000_000_000)),
            (r#"{"v":1.5}"#, Value::Rounded),
            (r#"{"v":9.007199254740993e15}"#, Value::Rounded),
            (r#"{"v":18446744073709551616}"#, Value::Rounded),
            (r#"{"v":1e300}"#, Value::Rounded),
        ] {
            assert_eq!(member(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_borrowed_where_they_can_be() {
        assert!(matches!(member(r#"{"v":"plain é"}"#), Value::Text(Cow::Borrowed("plain é"))));
        assert!(matches!(member(r#"{"v":"a\"b\n"}"#), Value::Text(Cow::Owned(t)) if t == "a\"b\n"));
        assert_eq!(object(br#"{"\u0076":1}"#).expect("an object").get("v"), Some(&Value::Whole(1)));
    }

    #[test]
    fn only_what_dialects_read_is_built() {
        let text = r#"{"schema":{"fields":[1,{"a":[]}]},"payload":{"after":{"id":1,"tags":{"a":1}},
            "payload":{"op":"c"},"other":[[]]},"data":[{"id":"1"},null],"misc":{"deep":[{}]}}"#;
        let record = object(text.as_bytes()).expect("an object");
        assert_eq!(record.get("schema"), Some(&Value::Skipped));
        assert_eq!(record.get("misc"), Some(&Value::Skipped));
        let payload = record.object("payload").expect("a payload");
        let after = payload.object("after").expect("an image");
        assert_eq!(after.get("id"), Some(&Value::Whole(1)));
        assert_eq!(after.get("tags"), Some(&Value::Skipped));
        assert_eq!(payload.get("other"), Some(&Value::Skipped));
        assert!(matches!(record.get("data"), Some(Value::List(rows)) if rows.len() == 2));
    }

    #[test]
    fn depth_is_bounded_and_damage_is_an_error() {
        for opening in [r#"{"payload":"#, r#"{"a":"#, "[", r#"{"schema":["#] {
            let deep = opening.repeat(200_000);
            assert!(object(deep.as_bytes()).is_none());
        }
        for text in [
            "",
            " ",
            "1",
            "[]",
            "null",
            "{",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":nul}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} x"#,
            r#"{"data":[1]}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\n\"}",
        ] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn objects_may_follow_each_other() {
        let read = |text: &'static str| objects(text).collect::<Vec<_>>();
        assert_eq!(read(r#"{"a":1}{"a":2}"#).len(), 2);
        assert_eq!(read("{\"a\":1}\n{\"a\":2}\n").len(), 2);
        let cut = read(r#"{"a":1}{"a":2"#);
        assert!(cut[0].is_ok() && cut[1] == Err(Unreadable) && cut.len() == 2);
        assert_eq!(read("{}x"), [Ok(Object::default()), Err(Unreadable)]);
        assert_eq!(read(" "), []);
    }

    #[test]
    fn names_are_compared_in_any_order() {
        let read = |text: &'static str| object(text.as_bytes()).expect("an object");
        let row = read(r#"{"a":1,"b":2,"c":3}"#);
        for (old, expected) in [
            (r#"{"b":0}"#, true),
            (r#"{"c":0,"a":0}"#, true),
            (r#"{"a":1,"b":2,"c":3}"#, true),
            (r#"{}"#, true),
            (r#"{"a":0,"d":0}"#, false),
        ] {
            assert_eq!(read(old).names_are_among(&row), expected, "{old}");
        }
        assert!(!row.names_are_among(&read("{}")));
    }
}
