//! How spans of time and sizes are written in a configuration: with their unit (`"30m"`, `"1GiB"`),
//! and printed so that reading them back gives the same number.

/// A span of time as a string with its unit. For `#[serde(with = "span")]`.
pub mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Reads `90ms`, `30s`, `1h 30m`, `48h`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Duration, String> {
        humantime::parse_duration(text).map_err(|e| {
            format!("{text:?} is no span of time ({e}); write e.g. \"90ms\" or \"48h\"")
        })
    }

    /// Writes a span so that [`parse`] gives it back exactly.
    pub fn format(span: Duration) -> String {
        humantime::format_duration(span).to_string()
    }

    /// Serializes as text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format(*span))
    }

    /// Deserializes from text.
    ///
    /// # Errors
    /// The deserializer's, or that the text is no span.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// A span that may be absent. For `#[serde(with = "span_or_none")]`.
pub mod span_or_none {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Serializes as text, or as nothing.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::span::serialize(span, to),
            None => to.serialize_none(),
        }
    }

    /// Deserializes from text; absence is the field's `#[serde(default)]`.
    ///
    /// # Errors
    /// The deserializer's, or that the text is no span.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::span::parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// A size in bytes as a string with its unit. For `#[serde(with = "size")]`.
pub mod size {
    use bytesize::ByteSize;
    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

    /// Reads `64KiB`, `1.5GiB`, `10MB`, or a plain number of bytes.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<u64, String> {
        match text.parse::<ByteSize>() {
            Ok(size) => Ok(size.as_u64()),
            Err(_) => Err(format!("{text:?} is no size; write e.g. \"64KiB\" or \"1GiB\"")),
        }
    }

    /// Writes a size so that [`parse`] gives it back exactly: in the largest binary unit that
    /// divides it. (`ByteSize` itself would round.)
    pub fn format(bytes: u64) -> String {
        match UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("{}{name}", bytes / unit),
            None => format!("{bytes}B"),
        }
    }

    /// Serializes as text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format(*bytes))
    }

    struct SizeVisitor;

    impl Visitor<'_> for SizeVisitor {
        type Value = u64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a size such as \"64KiB\", or a number of bytes")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            parse(text).map_err(E::custom)
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
            Ok(bytes)
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
        }
    }

    /// Deserializes from text or from a number of bytes.
    ///
    /// # Errors
    /// The deserializer's, or that the text is no size.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        from.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{size, span};

    #[test]
    fn what_is_printed_reads_back_exactly() {
        for bytes in [0, 1, 1023, 1024, 1_500_000_000, 3 << 20, 1 << 30, (1 << 40) + 1, 7 << 40] {
            assert_eq!(size::parse(&size::format(bytes)), Ok(bytes));
        }
        for ms in [0, 1, 90, 1_500, 5_400_000, 48 * 3_600_000, 400 * 86_400_000] {
            let exact = Duration::from_millis(ms);
            assert_eq!(span::parse(&span::format(exact)), Ok(exact));
        }
    }

    #[test]
    fn a_span_without_a_unit_is_refused() {
        assert!(span::parse("30").is_err_and(|e| e.contains("\"90ms\"")));
        assert!(size::parse("many").is_err_and(|e| e.contains("\"64KiB\"")));
    }
}
