//! The values of JSON rows as cells: what a producer wrote as a number, a text of digits, a base64
//! text or a date.
//!
//! Debezium's `precise` mode sends an unsigned 64-bit column as the base64 of its big-endian
//! two's-complement bytes, and the record need not say so (schemas are usually off). Columns of text,
//! `decimal.handling.mode=string` and casts send decimal digits. The two are told from the first
//! character alone, without a schema: base64 stands for six bits a character, the first of which is the
//! sign, and only the letters `A` to `f` have it clear. A base64 text that begins with a digit, `+` or
//! `/` is therefore a negative number, which an unsigned column never holds, and decimal digits never
//! begin with a letter. `1234`, valid as both, is the decimal number. What begins with a letter must be
//! the shortest base64 of a number below 2^64, else it is a text, and a text in a column of ids is a
//! doubt, not a guess.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cell::{Cell, Image};
use crate::json::{Object, Value};
use crate::table::FollowedTable;

/// What Debezium sends for a column whose value its source did not log.
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// How a producer writes numbers as texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Texts {
    /// As digits only.
    Decimal,
    /// As digits, or as base64.
    DecimalOrBase64,
}

/// The values of a row that mean anything. A column that comes twice is none that can be read.
pub(crate) fn image(table: &FollowedTable, row: &Object<'_>, texts: Texts) -> Image {
    let mut image = Image::default();
    for (name, value) in row.members() {
        let Some(role) = table.role_of(name) else { continue };
        let first = image.cell(role) == Cell::Missing;
        image.set(role, if first { cell(value, texts) } else { Cell::Other });
    }
    image
}

/// One value.
pub(crate) fn cell(value: &Value<'_>, texts: Texts) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Whole(number) => Cell::Number(*number),
        Value::Rounded => Cell::Rounded,
        Value::Bool(false) => Cell::Number(0),
        // A TINYINT(1) sent as a boolean may have been any number but 0.
        Value::Bool(true) => Cell::Rounded,
        Value::Text(text) if text.is_empty() => Cell::Empty,
        Value::Text(text) if texts == Texts::DecimalOrBase64 && text == UNAVAILABLE => {
            Cell::Missing
        }
        Value::Text(text) => match decimal(text).or_else(|| date(text)) {
            Some(cell) => cell,
            None if texts == Texts::DecimalOrBase64 => base64(text).unwrap_or(Cell::Text),
            None => Cell::Text,
        },
        Value::Object(_) | Value::List(_) | Value::Skipped => Cell::Other,
    }
}

/// Decimal digits, with a sign and a fraction.
fn decimal(text: &str) -> Option<Cell> {
    // More digits than any 64-bit number has, leading zeros included, are no number of ours.
    const LENGTH_MAX: usize = 64;
    if text.len() > LENGTH_MAX {
        return None;
    }
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(digits) || !all_digits(fraction) {
        return None;
    }
    if fraction.bytes().any(|digit| digit != b'0') {
        return Some(Cell::Rounded);
    }
    let Ok(number) = digits.parse::<i128>() else { return Some(Cell::Other) };
    Some(Cell::Number(if is_negative { -number } else { number }))
}

/// The shortest two's complement of a number from 0 to 2^64-1, as base64.
fn base64(text: &str) -> Option<Cell> {
    // 9 bytes: 64 bits and a sign. They are 12 characters.
    const LENGTH_MAX: usize = 12;
    if text.len() > LENGTH_MAX {
        return None;
    }
    let mut bytes = [0; LENGTH_MAX];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    let number = match bytes.get(..length)? {
        [0] => 0,
        [0, rest @ ..] if rest.first()? & 0x80 != 0 && rest.len() <= 8 => unsigned(rest),
        whole @ [first, ..] if *first != 0 && first & 0x80 == 0 && length <= 8 => unsigned(whole),
        _ => return None,
    };
    Some(Cell::Number(number))
}

fn unsigned(bytes: &[u8]) -> i128 {
    bytes.iter().fold(0, |number, byte| (number << 8) | i128::from(*byte))
}

/// `2023-11-14T22:13:20.123Z`, or with a blank and no zone, which is taken for UTC as the store's own
/// reading of such columns takes it.
fn date(text: &str) -> Option<Cell> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let at =
        |at: usize, allowed: &[u8]| text.as_bytes().get(at).is_some_and(|b| allowed.contains(b));
    let is_shaped = at(4, b"-") && at(7, b"-") && at(10, b"T ") && at(13, b":") && at(16, b":");
    if !is_shaped {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_in_range {
        return None;
    }
    let (millis, zone) = match text.get(19..)?.strip_prefix('.') {
        None => (0, text.get(19..)?),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let digits = format!("{:0<3}", rest.get(..end.min(3))?);
            (digits.parse::<i64>().ok()?, rest.get(end..)?)
        }
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Cell::Millis((seconds - zone_seconds(zone)?) * 1_000 + millis))
}

/// How far a zone's clocks are ahead: none, `Z`, `+05:30`.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |digits: &str| {
        let is_two = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        is_two.then(|| digits.parse::<i64>().ok())?
    };
    Some(sign * (number(hours)? * 3_600 + number(minutes)? * 60))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March, so
/// that a leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let century_days = year.div_euclid(400) * 146_097;
    let year = year.rem_euclid(400);
    century_days + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Cell {
        cell(&Value::Text(Cow::Borrowed(text)), Texts::DecimalOrBase64)
    }

    /// As Java's `BigInteger.toByteArray` does it.
    fn precise(number: u64) -> String {
        let mut bytes = vec![0];
        bytes.extend(number.to_be_bytes());
        while bytes.len() > 1 && bytes[0] == 0 && bytes[1] & 0x80 == 0 {
            bytes.remove(0);
        }
        STANDARD.encode(bytes)
    }

    #[test]
    fn recorded_base64_texts_are_read() {
        for (text, expected) in [
            ("AA==", 0),
            ("AQ==", 1),
            ("AP//////////", u64::MAX.into()),
            ("AIAAAAAAAAAA", 1 << 63),
            ("f/////////8=", i64::MAX.into()),
            ("AYvP5WgK", 1_700_000_000_010),
        ] {
            assert_eq!(read(text), Cell::Number(expected), "{text}");
        }
        for text in ["AAE=", "AAA=", "AB==", "AQ", "/w==", "AQAAAAAAAAAA", "hello", "YWJj?"] {
            assert_eq!(read(text), Cell::Text, "{text}");
        }
        let decimal_only = cell(&Value::Text(Cow::Borrowed("AQ==")), Texts::Decimal);
        assert_eq!(decimal_only, Cell::Text);
    }

    #[test]
    fn texts_of_digits_are_read() {
        for (text, expected) in [
            ("0", Cell::Number(0)),
            ("1234", Cell::Number(1_234)),
            ("123456789012", Cell::Number(123_456_789_012)),
            ("18446744073709551615", Cell::Number(u64::MAX.into())),
            ("-1", Cell::Number(-1)),
            ("7.00", Cell::Number(7)),
            ("7.5", Cell::Rounded),
            ("", Cell::Empty),
            ("+7", Cell::Text),
            ("7.", Cell::Text),
            ("-", Cell::Text),
            ("1e5", Cell::Text),
            (" 7", Cell::Text),
            (&"9".repeat(50), Cell::Other),
            (&"9".repeat(65), Cell::Text),
            (UNAVAILABLE, Cell::Missing),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn dates_are_points_in_time() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14 22:13:20", 1_700_000_000_000),
            ("2023-11-14 22:13:20.1", 1_700_000_000_100),
            ("2023-11-14T23:13:20.123456+01:00", 1_700_000_000_123),
            ("2024-02-29 00:00:00", 1_709_164_800_000),
            ("1969-12-31 23:59:59", -1_000),
        ] {
            assert_eq!(read(text), Cell::Millis(expected), "{text}");
        }
        for text in
            ["0000-00-00 00:00:00", "2023-11-14", "2023-11-14T22:13:20+1", "2023-13-01 00:00:00"]
        {
            assert_eq!(read(text), Cell::Text, "{text}");
        }
    }

    #[test]
    fn a_column_that_comes_twice_is_not_read() {
        let row = crate::json::object(br#"{"user_id":1,"USER_ID":2,"kind":true}"#).expect("a row");
        let image = image(&FollowedTable::own("db", "t"), &row, Texts::Decimal);
        assert_eq!(image.cell(crate::cell::Role::User), Cell::Other);
        assert_eq!(image.cell(crate::cell::Role::Kind), Cell::Rounded);
        assert_eq!(image.cell(crate::cell::Role::Item), Cell::Missing);
    }

    proptest! {
        #[test]
        fn both_ways_to_write_a_number_are_told_apart(number: u64, shift in 0..64_u32) {
            let number = number >> shift;
            prop_assert_eq!(read(&precise(number)), Cell::Number(number.into()));
            prop_assert_eq!(read(&number.to_string()), Cell::Number(number.into()));
        }

        #[test]
        fn any_text_is_some_cell(text in ".{0,40}") {
            read(&text);
        }
    }
}
