//! Whom a request is about, read without what it asks: all that a proxy needs to know of it.
//!
//! Items and candidates are stepped over by their length. What is wrong in them is found by whoever answers; what is
//! read here is read as the walkers and prost read it, so that a proxy never routes by another user than the one who
//! is answered for.

use seen_filter::UserId;

use super::WireError;
use super::cursor::{Cursor, DEPTH_MAX, WireType};
use super::fields::Once;

/// Which request a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteShape {
    /// `FilterRequest`.
    Filter,
    /// `MarkRequest`.
    Mark,
    /// `UnmarkRequest`.
    Unmark,
    /// `ForgetRequest`.
    Forget,
    /// `HistoryRequest`.
    History,
    /// `ExplainRequest`.
    Explain,
}

impl RouteShape {
    /// The names of the fields that may be sent once, by number less one; "" = repeated, or none.
    const fn singular(self) -> &'static [&'static str] {
        match self {
            Self::Filter => &["user", "", "", "token", "on_unknown", "confirm"],
            Self::Mark | Self::Unmark => &["user", "namespace", "", "token"],
            Self::Forget => &["user", "namespace", "all_namespaces", "token"],
            Self::History => &[
                "user",
                "namespace",
                "order",
                "from_ms",
                "until_ms",
                "kind",
                "page_size",
                "page_token",
            ],
            Self::Explain => &["user", "namespace", "kind", "id", "token"],
        }
    }

    /// The number of the session token's field; 0 = it has none.
    const fn token(self) -> u32 {
        match self {
            Self::Filter | Self::Mark | Self::Unmark | Self::Forget => 4,
            Self::Explain => 5,
            Self::History => 0,
        }
    }
}

/// Whom a request is about. Borrows the raw message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteCall<'a> {
    /// Whose history.
    pub user: UserId,
    /// The history, of several the first; empty = none is named.
    pub namespace: &'a str,
    /// True if the request brings a session token.
    pub has_token: bool,
}

impl<'a> RouteCall<'a> {
    /// Reads a message of this shape.
    ///
    /// # Errors
    /// [`WireError`], never of the kind `Invalid`. A message that prost reads is refused only for a singular field that
    /// is sent twice.
    pub fn parse(shape: RouteShape, raw: &'a [u8]) -> Result<Self, WireError> {
        let mut call = Self { user: UserId::new(0), namespace: "", has_token: false };
        let singular = shape.singular();
        let mut once = Once::default();
        let mut named = false;
        let mut cursor = Cursor::new(raw);
        while let Some((tag, wire_type)) = cursor.key()? {
            if let Some(name) = singular.get(tag as usize - 1).filter(|name| !name.is_empty()) {
                once.claim(tag, name)?;
            }
            match tag {
                1 => call.user = UserId::new(cursor.fixed64(wire_type)?),
                // The first of several decides.
                2 if !named => {
                    named = true;
                    call.namespace = cursor.text(wire_type)?;
                }
                // The other arm of a oneof, of which the last one counts.
                3 if shape == RouteShape::Forget => {
                    cursor.uint(wire_type)?;
                    call.namespace = "";
                }
                _ if tag == shape.token() => call.has_token = !cursor.bytes(wire_type)?.is_empty(),
                _ => cursor.skip(tag, wire_type, DEPTH_MAX)?,
            }
        }
        Ok(call)
    }
}

/// True if an encoded `FilterResponse` says that its answer is degraded. Bytes that cannot be read are none.
pub fn is_degraded_filter_response(raw: &[u8]) -> bool {
    nested_level(raw).is_some_and(|level| level == crate::v1::QualityLevel::Degraded as u64)
}

fn nested_level(raw: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(raw);
    while let Some((tag, wire_type)) = cursor.key().ok()? {
        if tag == 2 && wire_type == WireType::Bytes {
            let mut quality = Cursor::new(cursor.bytes(wire_type).ok()?);
            while let Some((tag, wire_type)) = quality.key().ok()? {
                if tag == 1 {
                    return quality.uint(wire_type).ok();
                }
                quality.skip(tag, wire_type, DEPTH_MAX).ok()?;
            }
            return None;
        }
        cursor.skip(tag, wire_type, DEPTH_MAX).ok()?;
    }
    None
}
