//! What a namespace promises: false-positive rate, retention, whose time counts. One value of these
//! is shared by the store, the replica and the API; where it is read from is the server's business.

use thiserror::Error;

use crate::ids::{NamespaceId, UnixMillis};

/// Lowest false-positive rate that a namespace may set.
pub const RATE_MIN: f64 = 0.001;
/// Highest false-positive rate that a namespace may set.
pub const RATE_MAX: f64 = 0.1;
/// The false-positive rate of a namespace that sets none.
pub const RATE_DEFAULT: f64 = 0.01;
/// Shortest expiry bucket, in milliseconds.
pub const BUCKET_MS_MIN: u64 = 1_000;
/// Longest name of a namespace, in bytes.
pub const NAME_BYTES_MAX: usize = 48;

/// Whose time is kept when an item is marked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeRule {
    /// The first mark's time stays.
    #[default]
    First,
    /// The last mark's time replaces it.
    Last,
}

/// Rows expire by whole buckets of storage time, and never earlier than promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long a row is kept at least, in milliseconds.
    pub span_ms: u64,
    /// The length of a bucket in milliseconds; a row may live up to this much longer.
    pub bucket_ms: u64,
}

impl Retention {
    /// The bucket of a row committed at this storage time.
    pub fn bucket_at(self, storage_now: UnixMillis) -> u32 {
        u32::try_from(storage_now.get() / self.bucket_ms).unwrap_or(u32::MAX)
    }

    /// The oldest bucket that is not wholly past its promise at this storage time: rows of a lower
    /// one are expired.
    pub fn horizon_at(self, storage_now: UnixMillis) -> u32 {
        let oldest_kept_ms = storage_now.get().saturating_sub(self.span_ms);
        u32::try_from(oldest_kept_ms / self.bucket_ms).unwrap_or(u32::MAX)
    }
}

/// The settings of one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceSettings {
    /// Its number: the order of configuration, from 0.
    pub id: NamespaceId,
    /// Its name: lower-case letters, digits and `_`, beginning with a letter, at most
    /// [`NAME_BYTES_MAX`] bytes. Also names the storage table.
    pub name: String,
    /// Highest share of unread items that a filter may call "seen", layers and growth included.
    pub false_positive_rate: f64,
    /// Expiry by time, or `None` to keep rows for ever.
    pub retention: Option<Retention>,
    /// Expiry by count: only the newest this many items of a user are kept at least.
    pub newest_max: Option<u32>,
    /// Whose time is kept when an item is marked again.
    pub time_rule: TimeRule,
    /// True to keep an index for newest-first listings.
    pub time_index: bool,
}

impl NamespaceSettings {
    /// A namespace with the default settings.
    pub fn new(id: NamespaceId, name: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            false_positive_rate: RATE_DEFAULT,
            retention: None,
            newest_max: None,
            time_rule: TimeRule::First,
            time_index: false,
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`SettingsError`] naming the field, the value and the limit.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let refuse = |field: &'static str, value: String, limit: String| {
            Err(SettingsError { namespace: self.name.clone(), field, value, limit })
        };
        if !valid_name(&self.name) {
            let limit = format!("[a-z][a-z0-9_]*, at most {NAME_BYTES_MAX} bytes");
            return refuse("name", self.name.clone(), limit);
        }
        if !(RATE_MIN..=RATE_MAX).contains(&self.false_positive_rate) {
            let limit = format!("{RATE_MIN} to {RATE_MAX}");
            return refuse("false_positive_rate", self.false_positive_rate.to_string(), limit);
        }
        if let Some(Retention { span_ms, bucket_ms }) = self.retention {
            if bucket_ms < BUCKET_MS_MIN {
                let limit = format!("at least {BUCKET_MS_MIN} ms");
                return refuse("retention.bucket", format!("{bucket_ms} ms"), limit);
            }
            if span_ms < bucket_ms || span_ms / bucket_ms > 10_000 {
                let limit = "1 to 10,000 buckets".to_owned();
                return refuse("retention.span", format!("{span_ms} ms"), limit);
            }
        }
        match self.newest_max {
            Some(0) => refuse("newest_max", "0".to_owned(), "at least 1".to_owned()),
            _ => Ok(()),
        }
    }
}

/// True if `name` may name a namespace, and so a table: it needs no quoting in any SQL dialect.
pub fn valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A namespace setting out of its range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("namespace {namespace:?}: {field} = {value} is out of range (allowed: {limit})")]
pub struct SettingsError {
    /// The namespace's name.
    pub namespace: String,
    /// The field's dotted name.
    pub field: &'static str,
    /// The refused value.
    pub value: String,
    /// What is allowed.
    pub limit: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_never_expires_before_its_span() {
        let retention = Retention { span_ms: 48_000, bucket_ms: 10_000 };
        for committed_ms in [0_u64, 1, 9_999, 10_000, 123_456] {
            let bucket = retention.bucket_at(UnixMillis::new(committed_ms));
            let last_kept = UnixMillis::new(committed_ms + retention.span_ms);
            assert!(bucket >= retention.horizon_at(last_kept), "at {committed_ms}");
            let surely_gone = committed_ms + retention.span_ms + retention.bucket_ms;
            assert!(bucket < retention.horizon_at(UnixMillis::new(surely_gone)));
        }
    }

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        for bad in ["", "Reads", "1st", "a-b", "a;drop table x", "é", &"a".repeat(49)] {
            let settings = NamespaceSettings::new(NamespaceId::new(0), bad);
            assert_eq!(settings.validate().map_err(|e| e.field), Err("name"), "{bad:?}");
        }
        assert!(NamespaceSettings::new(NamespaceId::new(0), "feed_read").validate().is_ok());
    }
}
