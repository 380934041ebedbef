//! Page tokens: where a page of History ended. Opaque to callers, checked, and bound to the listing
//! that they came from, so that a token of another listing cannot skip rows silently.
//!
//! Bytes: version u8 = 1, the last row's time u64, kind u8, id u64, crc32 u32; little-endian. The
//! checksum runs over the listing's parameters and then over all that is before it.

use crc32fast::Hasher;
use seen_filter::{Item, UnixMillis};

use super::history::{HistoryCall, HistoryOrder};
use crate::limits::PAGE_TOKEN_BYTES_MAX;
use crate::status::{ApiError, ErrorKind};

const VERSION: u8 = 1;
const BYTES: usize = 1 + 8 + 1 + 8 + 4;
const _: () = assert!(BYTES <= PAGE_TOKEN_BYTES_MAX);

/// The last row of a page: the next one begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageCursor {
    /// In the order of storage's own key.
    Key(Item),
    /// Newest first.
    Recent(UnixMillis, Item),
}

pub(super) fn encode(call: &HistoryCall, cursor: PageCursor) -> Vec<u8> {
    let (at, item) = match cursor {
        PageCursor::Key(item) => (UnixMillis::new(0), item),
        PageCursor::Recent(at, item) => (at, item),
    };
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.push(VERSION);
    bytes.extend(at.get().to_le_bytes());
    bytes.push(item.kind.get());
    bytes.extend(item.id.get().to_le_bytes());
    bytes.extend(checksum(call, &bytes).to_le_bytes());
    bytes
}

pub(super) fn decode(call: &HistoryCall, raw: &[u8]) -> Result<Option<PageCursor>, ApiError> {
    if raw.is_empty() {
        return Ok(None);
    }
    let parts = read(raw).filter(|parts| {
        let body = &raw[..BYTES - 4];
        parts.checksum == checksum(call, body)
    });
    let Some(Parts { at, item, .. }) = parts else {
        let what = "page_token: damaged, or of another listing; send `next_page_token` as it was \
                    received, with all other fields unchanged, or none to begin anew";
        return Err(ApiError::new(ErrorKind::PageTokenGarbage, what));
    };
    Ok(Some(match call.order {
        HistoryOrder::Key => PageCursor::Key(item),
        HistoryOrder::NewestFirst => PageCursor::Recent(at, item),
    }))
}

struct Parts {
    at: UnixMillis,
    item: Item,
    checksum: u32,
}

fn read(raw: &[u8]) -> Option<Parts> {
    let (&version, rest) = raw.split_first()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (&kind, rest) = rest.split_first()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let checksum = u32::from_le_bytes(rest.try_into().ok()?);
    let at = UnixMillis::new(u64::from_le_bytes(*at));
    let item = Item::new(kind, u64::from_le_bytes(*id));
    (version == VERSION).then_some(Parts { at, item, checksum })
}

/// Over everything that makes the listing what it is; the page size may change between pages.
fn checksum(call: &HistoryCall, body: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&call.user.get().to_le_bytes());
    hasher.update(&call.from.get().to_le_bytes());
    hasher.update(&[call.until.is_some().into(), call.kind.is_some().into()]);
    hasher.update(&call.until.unwrap_or_default().get().to_le_bytes());
    hasher.update(&[call.kind.unwrap_or_default().get(), call.order as u8]);
    hasher.update(call.namespace.as_bytes());
    hasher.update(body);
    hasher.finalize()
}
