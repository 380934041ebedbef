//! What a call's headers say besides its message: the time allowed, the pool that is to answer, and
//! the caller's trace.

use bytes::Bytes;
use http::HeaderMap;
use seen_proto::status::ApiError;

use crate::calls::{Call, CallMeta, Tag, TraceContext};
use crate::deadline::timeout_us;

/// Names the pool that is to answer.
pub const TAG_HEADER: &str = "seen-tag";
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 48;
/// The caller's trace, by the W3C's Trace Context.
pub const TRACE_HEADER: &str = "traceparent";

/// Length of a `traceparent` of the version that is written today.
const TRACE_BYTES: usize = 55;

/// What the headers of a unary call say.
///
/// # Errors
/// A timeout or tag that is none; see [`timeout_us`].
pub fn call_meta(call: Call, headers: &HeaderMap) -> Result<CallMeta, ApiError> {
    let timeout_us = timeout_us(headers, call.timeout_ms_default())?;
    Ok(CallMeta { timeout_us, tag: tag(headers)?, trace: trace(headers) })
}

/// The tag; empty if there is none.
///
/// # Errors
/// If it is too long, or not of visible ASCII characters.
pub fn tag(headers: &HeaderMap) -> Result<Tag, ApiError> {
    let Some(tag) = headers.get(TAG_HEADER).map(|value| value.as_bytes()) else {
        return Ok(Tag::new());
    };
    if tag.len() > TAG_BYTES_MAX {
        let what = format!("{} bytes; at most {TAG_BYTES_MAX}", tag.len());
        return Err(ApiError::invalid(TAG_HEADER, what));
    }
    if !tag.iter().all(u8::is_ascii_graphic) {
        return Err(ApiError::invalid(TAG_HEADER, "holds more than visible ASCII characters"));
    }
    Ok(Bytes::copy_from_slice(tag))
}

/// The caller's trace. One that cannot be read is as none, as the W3C asks.
pub fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let text = headers.get(TRACE_HEADER)?.as_bytes();
    let (now, later) = text.split_at_checked(TRACE_BYTES)?;
    let [version] = hex(now.get(..2)?)?;
    // Later versions may append fields; the first one, which has none, may not.
    let longer_allowed = version != 0 && later.first() == Some(&b'-');
    let dashes = [2, 35, 52].iter().all(|at| now.get(*at) == Some(&b'-'));
    if version == 0xff || !dashes || !(later.is_empty() || longer_allowed) {
        return None;
    }
    let trace_id: [u8; 16] = hex(now.get(3..35)?)?;
    let span_id: [u8; 8] = hex(now.get(36..52)?)?;
    let [flags] = hex(now.get(53..)?)?;
    (trace_id != [0; 16] && span_id != [0; 8]).then_some(TraceContext { trace_id, span_id, flags })
}

fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_tag_is_short_and_visible() {
        assert_eq!(tag(&HeaderMap::new()), Ok(Tag::new()));
        assert_eq!(tag(&headers(TAG_HEADER, "push")), Ok(Tag::from_static(b"push")));
        assert!(tag(&headers(TAG_HEADER, &"x".repeat(48))).is_ok());
        for bad in ["x".repeat(49).as_str(), "a b", "é"] {
            let error = tag(&headers(TAG_HEADER, bad)).expect_err("no tag");
            assert_eq!(error.violations[0].field, "seen-tag", "{bad:?}");
        }
    }

    #[test]
    fn a_trace_is_read_as_the_w3c_says() {
        let of = |text: &str| trace(&headers(TRACE_HEADER, text));
        let id = "0af7651916cd43dd8448eb211c80319c";
        let good = of(&format!("00-{id}-b7ad6b7169203331-01")).expect("a trace");
        assert_eq!((good.trace_id[0], good.trace_id[15]), (0x0a, 0x9c));
        assert_eq!((good.span_id[0], good.span_id[7], good.flags), (0xb7, 0x31, 1));
        assert_eq!(of(&format!("cc-{id}-b7ad6b7169203331-01-later")), Some(good));
        for bad in [
            String::new(),
            format!("00-{id}-b7ad6b7169203331-0"),
            format!("00-{id}-b7ad6b7169203331-01-"),
            format!("00-{id}-b7ad6b7169203331-01.x"),
            format!("cc-{id}-b7ad6b7169203331-01x"),
            format!("ff-{id}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00_{id}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(of(&bad), None, "{bad:?}");
        }
    }
}
