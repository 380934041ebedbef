//! When the caller gives up: the `grpc-timeout` header, or the call's default.

use http::HeaderMap;
use seen_proto::limits::TIMEOUT_MS_MAX;
use seen_proto::status::{ApiError, ErrorKind};

/// The header's name.
const HEADER: &str = "grpc-timeout";
/// Most digits of its number, by the gRPC specification.
const DIGITS_MAX: usize = 8;

/// How long the caller waits, in microseconds, from 1 on. Longer times than [`TIMEOUT_MS_MAX`] are cut to it.
///
/// # Errors
/// If the header is there and is not of the form that the gRPC specification gives it, or allows no
/// time at all: nobody waits for the answer (row 36).
pub fn timeout_us(headers: &HeaderMap, default_ms: u32) -> Result<u64, ApiError> {
    let us = match headers.get(HEADER) {
        None => u64::from(default_ms) * 1_000,
        Some(value) => value.to_str().ok().and_then(parse_us).ok_or_else(|| {
            let what = "not 1 to 8 digits and a unit of H, M, S, m, u or n; for example 90m";
            ApiError::invalid(HEADER, what)
        })?,
    };
    if us == 0 {
        let what = "the deadline had passed before the call was begun; nothing was done";
        return Err(ApiError::new(ErrorKind::DeadlineExceeded, what));
    }
    Ok(us.min(u64::from(TIMEOUT_MS_MAX) * 1_000))
}

fn parse_us(text: &str) -> Option<u64> {
    let unit_at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(unit_at)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(number * 3_600_000_000),
        "M" => Some(number * 60_000_000),
        "S" => Some(number * 1_000_000),
        "m" => Some(number * 1_000),
        "u" => Some(number),
        "n" => Some(number / 1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_the_specification_says() {
        let of = |text: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, http::HeaderValue::from_bytes(text).unwrap());
            timeout_us(&headers, 90).ok()
        };
        assert_eq!(of(b"90m"), Some(90_000));
        assert_eq!(of(b"1S"), Some(1_000_000));
        assert_eq!(of(b"99999999H"), Some(60_000_000));
        assert_eq!(of(b"1500n"), Some(1));
        for past in ["0m", "999n", "00000000H"] {
            assert_eq!(of(past.as_bytes()), None, "{past:?}");
        }
        for bad in ["", "m", "90", "90x", "-1m", "123456789m", "9 m", "9é"] {
            assert_eq!(of(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(timeout_us(&HeaderMap::new(), 90), Ok(90_000));
    }
}
