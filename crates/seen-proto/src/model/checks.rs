//! The checks that several requests share.

use seen_filter::settings::NAME_BYTES_MAX;
use seen_filter::{Item, Kind};

use super::OnUnknown;
use crate::limits::{GROUPS_MAX, KIND_MAX, NAMESPACES_MAX, TIMEOUT_MS_MAX, TOKEN_BYTES_MAX};
use crate::status::ApiError;
use crate::v1;

/// A namespace's name, bounded so that it may be repeated in an error.
pub(super) fn namespace(name: String) -> Result<String, ApiError> {
    match name.len() {
        0 => Err(ApiError::invalid("namespace", "empty; name a history")),
        bytes if bytes > NAME_BYTES_MAX => {
            let what = format!("a name of {bytes} bytes; names have at most {NAME_BYTES_MAX}");
            Err(ApiError::invalid("namespace", what))
        }
        _ => Ok(name),
    }
}

/// One to [`NAMESPACES_MAX`] names.
pub(super) fn namespaces(names: Vec<String>) -> Result<Vec<String>, ApiError> {
    if names.is_empty() || names.len() > NAMESPACES_MAX {
        let what = format!("{} names; send 1 to {NAMESPACES_MAX}", names.len());
        return Err(ApiError::invalid("namespaces", what));
    }
    names.into_iter().map(namespace).collect()
}

/// A session token's bytes, bounded.
pub(super) fn token(bytes: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    if bytes.len() > TOKEN_BYTES_MAX {
        let len = bytes.len();
        let what = format!("{len} bytes; at most {TOKEN_BYTES_MAX}; send the newest token only");
        return Err(ApiError::invalid("token", what));
    }
    Ok(bytes)
}

/// A kind in its range.
pub(super) fn kind(raw: u32, field: &'static str) -> Result<Kind, ApiError> {
    u8::try_from(raw)
        .map(Kind::new)
        .map_err(|_| ApiError::invalid(field, format!("{raw}; kinds are 0 to {KIND_MAX}")))
}

/// All items of the groups in order; sizes are checked before anything is allocated for them.
pub(super) fn items(groups: &[v1::ItemGroup], items_max: usize) -> Result<Vec<Item>, ApiError> {
    if groups.len() > GROUPS_MAX {
        let what = format!("{} groups; at most {GROUPS_MAX}; join those of one kind", groups.len());
        return Err(ApiError::invalid("items", what));
    }
    let count: usize = groups.iter().map(|group| group.ids.len()).sum();
    if count > items_max {
        let what = format!("{count} ids in all; at most {items_max}; split the request");
        return Err(ApiError::invalid("items", what));
    }
    let mut items = Vec::with_capacity(count);
    for group in groups {
        let kind = kind(group.kind, "items.kind")?;
        items.extend(group.ids.iter().map(|id| Item::new(kind.get(), *id)));
    }
    Ok(items)
}

/// A time to answer in milliseconds; 0 stands for `default_ms`.
pub(super) fn timeout_ms(raw_ms: u32, default_ms: u32) -> Result<u32, ApiError> {
    match raw_ms {
        0 => Ok(default_ms),
        ms if ms <= TIMEOUT_MS_MAX => Ok(ms),
        ms => Err(ApiError::invalid("timeout_ms", format!("{ms}; at most {TIMEOUT_MS_MAX}"))),
    }
}

/// What to answer where nothing is known.
pub(super) fn on_unknown(raw: i32) -> Result<OnUnknown, ApiError> {
    OnUnknown::from_wire(raw).map_err(|what| ApiError::invalid("on_unknown", what))
}
