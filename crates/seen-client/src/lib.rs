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
//!   most one for twenty calls ([`ClientOptions::retry_percent_max`]). A write is repeated only once the
//!   attempt before it has ended: the server answered it, or its time is up (coherence row 38).
//!   Nothing is ever sent twice at the same time.
//! - [`WhenAway`]: what a Filter answers when the service does not: show everything, hide everything,
//!   or fail. An answer made up here is flagged.
//! - [`Client::filter_stream`]: many filters over one stream, for many users, answered in any order.
//! - [`MarkBatcher`]: many marks over one stream, acknowledged one by one.
//! - Traces: with the feature `opentelemetry` every call but those over streams that many share carries the trace of
//!   the span that is current, so that the service's spans are shown under it.
//! - [`StringKey`] and [`string_id()`]: ids for items that are named by strings. Among `n` strings of
//!   one kind the odds that any two share an id are about `n^2 / 2^65`: 1 in 37 million for a million
//!   strings, 1 in 37 for a billion.
//!
//! What the client holds is bounded: a call's state is its caller's future; a batcher has limits in
//! items and bytes, a stream of filters one in questions; the retry budget is a few bytes.
//!
//! # Many filters over one stream
//!
//! A caller that fills pages for many people at once need not make a call for each: it asks over one
//! stream under numbers of its own, and takes the replies as they come.
//!
//! ```no_run
//! use seen_client::{Client, FilterCall, FilterStreamOptions, Session, WhenAway};
//!
//! # async fn pages(client: Client, sessions: Vec<Session>) -> Result<(), Box<dyn std::error::Error>> {
//! let (asks, mut replies) = client.filter_stream(FilterStreamOptions::default())?;
//! let asking = async move {
//!     for (page, session) in (0..).zip(&sessions) {
//!         let call = FilterCall::new("feed_read").items(1, 1000..1400).when_away(WhenAway::ShowAll);
//!         asks.ask(page, session, call).await?;
//!     }
//!     Ok::<_, seen_client::ApiError>(())
//! };
//! let taking = async {
//!     while let Some(reply) = replies.next().await {
//!         println!("page {}: {:?}", reply.request_id, reply.answer);
//!     }
//! };
//! tokio::join!(asking, taking).0?;
//! # Ok(())
//! # }
//! ```
//!
//! Each question has its session, its deadline and its [`WhenAway`], as a single call has. Exactly one
//! reply comes to each, by its deadline: when the stream cannot be had, breaks or is silent, everything
//! that was open is answered as it declared, and the stream is opened again for what is asked next.
//! Questions are not repeated. At most [`FilterStreamOptions::questions_max`] are open, counted until
//! their replies are taken, so that a caller who asks and takes in one task must not ask for more than
//! that in between.

mod admin;
mod batcher;
mod budget;
mod call;
mod channels;
mod client;
mod failure;
mod filter;
mod filter_stream;
mod history;
mod link;
mod options;
mod push;
mod session;
mod trace;
mod write;

pub use admin::Admin;
pub use batcher::{BatcherOptions, MarkBatcher, MarkTicket};
pub use client::{Client, ConnectError};
pub use filter::{FilterAnswer, FilterCall, WhenAway};
pub use filter_stream::{FilterAsks, FilterReplies, FilterReply, FilterStreamOptions};
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
