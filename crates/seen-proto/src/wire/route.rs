//! Whom a request is about, read without what it asks: all that a proxy needs to know of it.
//!
//! Items and candidates are stepped over by their length. What is wrong in them is found by whoever answers; what is
//! read here is read as the walkers and prost read it, so that a proxy never routes by another user than the one who
//! is answered for.

use seen_filter::UserId;

use super::WireError;
use super::cursor::{Cursor, DEPTH_MAX, WireType};
use super::fields::Once;
use crate::v1::{DegradedReason, QualityLevel};

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

/// Why an encoded `FilterResponse` is degraded; none where it is not, or cannot be read.
pub fn degraded_reason(raw: &[u8]) -> Option<DegradedReason> {
    let mut cursor = Cursor::new(raw);
    while let Some((tag, wire_type)) = cursor.key().ok()? {
        if tag == 2 && wire_type == WireType::Bytes {
            return reason(cursor.bytes(wire_type).ok()?);
        }
        cursor.skip(tag, wire_type, DEPTH_MAX).ok()?;
    }
    None
}

/// Of an encoded `Quality`.
fn reason(raw: &[u8]) -> Option<DegradedReason> {
    let mut cursor = Cursor::new(raw);
    let (mut is_degraded, mut reason) = (false, DegradedReason::Unspecified);
    while let Some((tag, wire_type)) = cursor.key().ok()? {
        match tag {
            1 => is_degraded = cursor.uint(wire_type).ok()? == QualityLevel::Degraded as u64,
            3 => {
                let number = i32::try_from(cursor.uint(wire_type).ok()?).unwrap_or_default();
                reason = DegradedReason::try_from(number).unwrap_or_default();
            }
            _ => cursor.skip(tag, wire_type, DEPTH_MAX).ok()?,
        }
    }
    is_degraded.then_some(reason)
}
