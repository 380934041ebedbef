//! What an option is: its key, the values it allows and its meaning, stated once. From this come the
//! range checks, the suggestions for misspelt keys, the example file and the table of options.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::error::OutOfRange;
use super::units::{size, span};

/// Which values an option takes.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// A share or rate from the first to the second.
    Share(f64, f64),
    /// A size in bytes from the first to the second.
    Size(u64, u64),
    /// A span of time from the first to the second.
    Span(Duration, Duration),
    /// True or false.
    Flag,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Free text; what it must look like.
    Text(&'static str),
    /// Text that is never shown.
    Secret,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(least, most) => write!(f, "{least} to {most}"),
            Self::Share(least, most) => write!(f, "{least} to {most}"),
            Self::Size(least, most) => {
                write!(f, "{} to {}", size::format(least), size::format(most))
            }
            Self::Span(least, most) => {
                write!(f, "{} to {}", span::format(least), span::format(most))
            }
            Self::Flag => f.write_str("true or false"),
            Self::OneOf(words) => f.write_str(&words.join(", ")),
            Self::Text(shape) => f.write_str(shape),
            Self::Secret => f.write_str("any text"),
        }
    }
}

impl Allowed {
    /// True if `value`, as it is serialized, lies in the range. Shapes that the types already hold
    /// (words, addresses) pass.
    fn admits(self, value: &Value) -> bool {
        match self {
            Self::Count(least, most) => value.as_u64().is_some_and(|n| (least..=most).contains(&n)),
            // A NaN is serialized as null, and so refused.
            Self::Share(least, most) => value.as_f64().is_some_and(|x| (least..=most).contains(&x)),
            Self::Size(least, most) => value
                .as_str()
                .and_then(|text| size::parse(text).ok())
                .is_some_and(|bytes| (least..=most).contains(&bytes)),
            Self::Span(least, most) => value
                .as_str()
                .and_then(|text| span::parse(text).ok())
                .is_some_and(|time| (least..=most).contains(&time)),
            Self::Flag | Self::OneOf(_) | Self::Text(_) | Self::Secret => true,
        }
    }
}

/// One option of a section.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    /// Its key within the section.
    pub key: &'static str,
    /// The values it takes.
    pub allowed: Allowed,
    /// What it does, in a sentence or two.
    pub help: &'static str,
    /// For an option that is unset by default: a value to show in the example file.
    pub unset: Option<&'static str>,
}

/// An option that has a default.
pub(super) const fn option(key: &'static str, allowed: Allowed, help: &'static str) -> OptionInfo {
    OptionInfo { key, allowed, help, unset: None }
}

/// An option that is unset by default.
pub(super) const fn optional(
    key: &'static str,
    allowed: Allowed,
    help: &'static str,
    example: &'static str,
) -> OptionInfo {
    OptionInfo { key, allowed, help, unset: Some(example) }
}

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// A table of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct SectionInfo {
    /// Its name, as in `[name]`.
    pub name: &'static str,
    /// What it is about.
    pub help: &'static str,
    /// Its options, in the order in which they are shown.
    pub options: &'static [OptionInfo],
}

impl SectionInfo {
    /// Checks every option of `section` (whose table is called `table`, with its index where there
    /// are several) against its range.
    pub(super) fn check(&self, table: &str, section: &impl Serialize) -> Result<(), OutOfRange> {
        let values = serde_json::to_value(section).unwrap_or(Value::Null);
        for option in self.options {
            let Some(value) = values.get(option.key) else {
                continue; // An option that is unset has no range to break.
            };
            if !option.allowed.admits(value) {
                return Err(OutOfRange {
                    key: format!("{table}.{}", option.key),
                    value: plain(value),
                    allowed: option.allowed.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// A value as people write it, without quotes around text.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
