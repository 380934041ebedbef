//! One record of a topic.

/// A record as it lies in a topic: bytes that nobody has looked at yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The record's place in its partition.
    pub offset: i64,
    /// The record's time in milliseconds since 1970, where it has one.
    pub timestamp_ms: Option<i64>,
    /// The key; `None` is no key at all, which is not an empty one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in their order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}
