//! What one line says.

use std::io::Write as _;
use std::time::UNIX_EPOCH;

use seen_filter::{Item, UnixMillis, UserId};
use seen_proto::limits::MARKED_AT_MS_MAX;

use super::Event;

/// The form of a line, for people.
pub const LINE_FORM: &str = "user, item[, kind], time; separated by tabs or commas; the time in \
seconds (below 100,000,000,000) or milliseconds since 1970, or RFC 3339";

/// Whole numbers from here on are milliseconds (1973 and later); lower ones are seconds (until the
/// year 5138).
const MILLISECONDS_FROM: u64 = 100_000_000_000;
/// The columns of a line.
const FIELDS_MIN: usize = 3;
const FIELDS_MAX: usize = 4;

/// The event of a line; `None` for an empty line or a comment.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(line: &[u8]) -> Result<Option<Event>, String> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let separator = if line.contains('\t') { '\t' } else { ',' };
    let mut fields = [""; FIELDS_MAX];
    let mut count = 0;
    for field in line.split(separator) {
        if let Some(place) = fields.get_mut(count) {
            let field = field.trim();
            let inner = field.strip_prefix('"').and_then(|field| field.strip_suffix('"'));
            *place = inner.unwrap_or(field);
        }
        count += 1;
    }
    let (kind, time) = match count {
        FIELDS_MIN => (0, fields[2]),
        FIELDS_MAX => (number(fields[2], "kind", u8::MAX.into())? as u8, fields[3]),
        _ => return Err(format!("{count} columns; {FIELDS_MIN} or {FIELDS_MAX}")),
    };
    Ok(Some(Event {
        user: UserId::new(number(fields[0], "user", u64::MAX)?),
        item: Item::new(kind, number(fields[1], "item", u64::MAX)?),
        at: UnixMillis::new(parse_time(time)?),
    }))
}

/// True if a line looks like the names of columns.
pub(super) fn is_heading(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    let first = line.split(|byte| matches!(byte, b'\t' | b',')).next().unwrap_or_default();
    let letters = first.iter().any(u8::is_ascii_alphabetic);
    letters && !first.iter().any(|byte| byte.is_ascii_digit())
}

fn number(text: &str, field: &str, most: u64) -> Result<u64, String> {
    // `parse` alone would allow a plus sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if digits { text.parse::<u64>().ok() } else { None };
    value
        .filter(|value| *value <= most)
        .ok_or_else(|| format!("{field} is no whole number from 0 to {most}"))
}

/// A whole number as a time in milliseconds: it is one, or one in seconds.
pub(super) fn millis_of(whole: u64) -> u64 {
    if whole < MILLISECONDS_FROM { whole * 1_000 } else { whole }
}

/// Writes the line that [`HistoryFile`](super::HistoryFile) reads as this event, with all four columns.
pub fn write_line(text: &mut Vec<u8>, event: &Event) {
    let Event { user, item, at } = event;
    let (seconds, millis) = (at.get() / 1_000, at.get() % 1_000);
    // Writing to memory cannot fail.
    let _ = match at.get() {
        at if at >= MILLISECONDS_FROM => writeln!(text, "{user}\t{}\t{}\t{at}", item.id, item.kind),
        // As a whole number it would be taken for seconds.
        _ => writeln!(text, "{user}\t{}\t{}\t{seconds}.{millis:03}", item.id, item.kind),
    };
}

/// A time in milliseconds since 1970, from any of the forms that a line may have it in.
///
/// # Errors
/// What is wrong with it.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let wrong =
        || "time is neither seconds nor milliseconds nor RFC 3339, up to the year 9999".to_owned();
    let parsed = match text.split_once('.') {
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let whole: u64 = text.parse().map_err(|_| wrong())?;
            millis_of(whole)
        }
        Some((seconds, fraction))
            if !fraction.is_empty()
                && [seconds, fraction]
                    .iter()
                    .all(|part| part.bytes().all(|byte| byte.is_ascii_digit())) =>
        {
            let seconds: u64 = seconds.parse().map_err(|_| wrong())?;
            let digits = format!("{fraction:0<3.3}");
            let thousandths: u64 = digits.parse().map_err(|_| wrong())?;
            seconds
                .checked_mul(1_000)
                .and_then(|ms| ms.checked_add(thousandths))
                .ok_or_else(wrong)?
        }
        _ => {
            let time = humantime::parse_rfc3339_weak(text).map_err(|_| wrong())?;
            let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
            u64::try_from(since.as_millis()).map_err(|_| wrong())?
        }
    };
    if parsed > MARKED_AT_MS_MAX { Err(wrong()) } else { Ok(parsed) }
}
