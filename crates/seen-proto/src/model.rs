//! The requests outside the hot path, validated once at the door: past it only these types travel.
//! Names of namespaces and raw tokens are bounded here and resolved by the handler, which knows the
//! configuration and the cluster.

mod admin;
mod answer;
mod calls;
mod checks;
mod history;
mod page_token;
mod push;

pub use admin::{DrainCall, EvictCall, RebuildCall};
pub use answer::{OnUnknown, Quality};
pub use calls::{ExplainCall, ForgetCall, ForgetScope, UnmarkCall};
pub use history::{HistoryCall, HistoryOrder};
pub use page_token::PageCursor;
pub use push::{PushAnswers, PushCall, PushRows};
