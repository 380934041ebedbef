//! `MarkRequest`, read where it lies.

use seen_filter::{Item, ItemId, Kind, UnixMillis, UserId};

use super::WireError;
use super::cursor::{Cursor, DEPTH_MAX};
use super::fields::{Once, Region, kind, namespace, token};
use crate::limits::{MARK_ITEMS_MAX, MARKED_AT_MS_MAX};

/// An item of a Mark, and when it was read; `None` = storage's clock at the commit.
pub type MarkedItem = (Item, Option<UnixMillis>);

/// A validated `MarkRequest` that borrows the raw message.
#[derive(Clone, Copy, Debug)]
pub struct MarkCall<'a> {
    /// Who has read.
    pub user: UserId,
    /// The history.
    pub namespace: &'a str,
    /// How many items there are, at most [`MARK_ITEMS_MAX`].
    pub count: usize,
    /// The raw session token to merge into the answer's; empty = none. At most
    /// [`crate::limits::TOKEN_BYTES_MAX`] bytes.
    pub token: &'a [u8],
    /// From the first to the last items field.
    region: &'a [u8],
    depth: u32,
}

impl<'a> MarkCall<'a> {
    /// Reads and validates a whole message.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn parse(raw: &'a [u8]) -> Result<Self, WireError> {
        Self::parse_at(raw, DEPTH_MAX)
    }

    /// [`parse`](Self::parse) of a message that lies in another: `depth` levels of nesting are left.
    pub(super) fn parse_at(raw: &'a [u8], depth: u32) -> Result<Self, WireError> {
        let mut call =
            Self { user: UserId::new(0), namespace: "", count: 0, token: &[], region: &[], depth };
        let mut once = Once::default();
        let mut region = Region::default();
        let mut cursor = Cursor::new(raw);
        let mut key_at = 0;
        while let Some((tag, wire_type)) = cursor.key()? {
            match tag {
                1 => {
                    once.claim(tag, "user")?;
                    call.user = UserId::new(cursor.fixed64(wire_type)?);
                }
                2 => {
                    once.claim(tag, "namespace")?;
                    call.namespace = cursor.text(wire_type)?;
                }
                3 => {
                    marked_item(cursor.bytes(wire_type)?, depth)?;
                    region.add(key_at, raw.len() - cursor.left());
                    if region.fields > MARK_ITEMS_MAX {
                        let what = format!("more than {MARK_ITEMS_MAX} items; split the request");
                        return Err(WireError::invalid("items", what));
                    }
                }
                4 => {
                    once.claim(tag, "token")?;
                    call.token = token(cursor.bytes(wire_type)?)?;
                }
                _ => cursor.skip(tag, wire_type, depth)?,
            }
            key_at = raw.len() - cursor.left();
        }
        call.namespace = namespace(call.namespace, "namespace")?;
        call.count = region.fields;
        call.region = region.of(raw);
        Ok(call)
    }

    /// The items in request order.
    pub const fn items(&self) -> MarkItems<'a> {
        MarkItems { message: Cursor::new(self.region), left: self.count, depth: self.depth }
    }
}

/// Iterates over the items of a [`MarkCall`].
#[derive(Clone, Debug)]
pub struct MarkItems<'a> {
    message: Cursor<'a>,
    left: usize,
    depth: u32,
}

impl MarkItems<'_> {
    /// The next item, `None` at the end. Errors cannot occur: [`MarkCall::parse`] has walked the same
    /// bytes.
    fn advance(&mut self) -> Result<Option<MarkedItem>, WireError> {
        while let Some((tag, wire_type)) = self.message.key()? {
            if tag == 3 {
                return marked_item(self.message.bytes(wire_type)?, self.depth).map(Some);
            }
            self.message.skip(tag, wire_type, self.depth)?;
        }
        Ok(None)
    }
}

impl Iterator for MarkItems<'_> {
    type Item = MarkedItem;

    fn next(&mut self) -> Option<MarkedItem> {
        let item = self.advance().ok().flatten();
        self.left = if item.is_some() { self.left.saturating_sub(1) } else { 0 };
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for MarkItems<'_> {}

/// Reads and validates a `MarkItem`.
fn marked_item(raw: &[u8], depth: u32) -> Result<MarkedItem, WireError> {
    let mut once = Once::default();
    let mut cursor = Cursor::new(raw);
    let mut item = Item { kind: Kind::new(0), id: ItemId::new(0) };
    let mut marked_at = None;
    // Prost counts a message as one level of nesting.
    let depth = depth - 1;
    while let Some((tag, wire_type)) = cursor.key()? {
        match tag {
            1 => {
                once.claim(tag, "items.kind")?;
                item.kind = kind(cursor.uint(wire_type)?, "items.kind")?;
            }
            2 => {
                once.claim(tag, "items.id")?;
                item.id = ItemId::new(cursor.fixed64(wire_type)?);
            }
            3 => {
                once.claim(tag, "items.marked_at_ms")?;
                marked_at = Some(marked_at_ms(cursor.uint(wire_type)?)?);
            }
            _ => cursor.skip(tag, wire_type, depth)?,
        }
    }
    Ok((item, marked_at))
}

fn marked_at_ms(ms: u64) -> Result<UnixMillis, WireError> {
    if ms > MARKED_AT_MS_MAX {
        let what = format!("{ms}; at most {MARKED_AT_MS_MAX} (milliseconds, not microseconds)");
        return Err(WireError::invalid("items.marked_at_ms", what));
    }
    Ok(UnixMillis::new(ms))
}
