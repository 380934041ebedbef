//! The Rust client of `seen`.
//!
//! ```no_run
//! use seen_client::{Client, ClientOptions, FilterCall, MarkCall, Session, WhenAway};
//!
//! # async fn page() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(ClientOptions::new("http://127.0.0.1:7420"))?;
//! let session = Session::new(42);
//! let feed = FilterCall::new("feed_read").items(1, [1001, 1002, 1003]).when_away(WhenAway::ShowAll);
//! let answer = client.filter(&session, feed).await?;
//! for position in answer.unseen {
//!     let shown = [1001, 1002, 1003][position as usize];
//!     client.mark(&session, MarkCall::new("feed_read").item(1, shown)).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`]: one or several HTTP/2 connections, opened when they are first needed. Cheap to clone.
//! - [`Session`]: one user's token. Every answer is merged into it and every call carries it, so that
//!   what the session has marked is never shown to it as unread without a flag (rule R5).
//! - Deadlines: every call has one; it is sent as `grpc-timeout` and kept here as well.
//! - Retries: only where the error table says that they help, only while the deadline allows, and at
//!   most one for ten calls ([`ClientOptions::retry_percent_max`]). A write is repeated only once the
//!   attempt before it has ended: the server answered it, or its time is up (coherence row 38).
//!   Nothing is ever sent twice at the same time.
//! - [`WhenAway`]: what a Filter answers when the service does not: show everything, hide everything,
//!   or fail. An answer made up here is flagged.
//! - [`MarkBatcher`]: many marks over one stream, acknowledged one by one.
//! - [`StringKey`] and [`string_id`]: ids for items that are named by strings. Among `n` strings of
//!   one kind the odds that any two share an id are about `n^2 / 2^65`: 1 in 37 million for a million
//!   strings, 1 in 37 for a billion.
//!
//! What the client holds is bounded: a call's state is its caller's future; a batcher has limits in
//! items and bytes; the retry budget is a few bytes.

mod admin;
mod batcher;
mod budget;
mod call;
mod channels;
mod client;
mod failure;
mod filter;
mod history;
mod options;
mod push;
mod session;
mod write;

pub use admin::Admin;
pub use batcher::{BatcherOptions, MarkBatcher, MarkTicket};
pub use client::{Client, ConnectError};
pub use filter::{FilterAnswer, FilterCall, WhenAway};
pub use history::{ExplainCall, HistoryCall, HistoryPage, HistoryPages};
pub use options::{ClientOptions, OptionsError, Timeouts};
pub use push::{PushAnswer, PushCall, PushFailure};
pub use seen_filter::{Item, StringKey, string_id};
pub use seen_proto::limits;
pub use seen_proto::model::{HistoryOrder, OnUnknown, Quality};
pub use seen_proto::status::{ApiError, Blame, ErrorKind, Violation};
pub use seen_proto::v1;
pub use session::Session;
pub use write::{ForgetScope, MarkCall, UnmarkCall};
