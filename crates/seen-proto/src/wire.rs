//! The hot requests, read where they lie: one pass over the raw bytes validates a message, and its
//! ids are then handed out as slices of it. No message is built and no id is copied.
//!
//! A walk accepts exactly what prost accepts and the limits allow, with one exception: a singular
//! field that is sent twice is refused. Protobuf lets the last one win, and two parsers on the way
//! (a proxy that routes by the first `user`, a replica that answers for the last) would disagree.

mod cursor;
mod envelope;
mod error;
mod fields;
mod filter;
mod mark;
mod positions;
mod response;
mod route;

pub use envelope::{PushHead, StreamCall};
pub use error::WireError;
pub use filter::{FilterCall, Names, Segment, Segments};
pub use mark::{MarkCall, MarkItems, MarkedItem};
pub use response::{
    encode_filter_response, encode_mark_response, encode_stream_answer, encode_stream_error,
    stream_answer_len,
};
pub use route::{RouteCall, RouteShape, degraded_reason};
