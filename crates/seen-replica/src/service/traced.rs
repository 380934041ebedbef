//! What the spans of traced calls say here. Users and items are never named.

use seen_api::Span;
use seen_api::trace::{NAMESPACE, OUTCOME};
use seen_filter::StoreError;
use seen_proto::status::ErrorKind;
use seen_proto::wire::FilterCall;

use super::filter::ReadMode;
use crate::rules::Doubt;

/// How many candidates a Filter names, or items a write.
pub(super) const ITEMS: &str = "seen.items";
/// Why storage is asked.
const DOUBT: &str = "seen.doubt";

/// What a Filter asks.
pub(super) fn describe(span: &Span, mode: ReadMode, call: &FilterCall<'_>) {
    span.note(ITEMS, || call.candidates as i64);
    span.note(NAMESPACE, || call.namespaces.as_slice().join(","));
    if mode.emergency {
        span.note("seen.emergency", || true);
    }
    if mode.moved.is_some() {
        span.note("seen.moved", || true);
    }
}

/// Storage is asked about so many items.
pub(super) fn checking(span: &Span, doubt: Option<Doubt>, items: usize) -> Span {
    let asks = span.child("storage.check");
    asks.note(ITEMS, || items as i64);
    if let Some(doubt) = doubt {
        asks.note(DOUBT, || doubt.label());
    }
    asks
}

/// Storage answered, or did not.
pub(super) fn ended(asks: &Span, error: Option<&StoreError>) {
    match error {
        Some(error) => asks.failed(ErrorKind::from(error.kind).label(), "storage gave no answer"),
        None => asks.note(OUTCOME, || "ok"),
    }
    asks.end();
}
