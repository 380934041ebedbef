//! How requests travel from a proxy to a replica: frames over one long-lived connection, many in one system call.
//!
//! There is one connection for each thread of a proxy, replica and [lane](v1::LinkLane). Whoever connects says
//! [hello](v1::LinkHello) and is welcomed or refused; then it sends requests as long as it has credit, and the other
//! end answers each exactly once, in any order.
//!
//! What two versions of the program may say to each other: they speak the newest version of the link that both know. What the other
//! one need not know has no new version: fields of the protobuf messages, types of frames from
//! [`frame::OPTIONAL_KIND_MIN`] on and the two highest flags are left out by whoever does not know them.
//!
//! - [`frame`], [`message`], [`decoder`]: the bytes, without any I/O.
//! - [`check_hello`]: who may talk to whom.
//! - [`LinkClient`]: the end that asks. It connects again until it is dropped, remembers no request, and never waits.
//! - [`serve`]: the end that answers, through a [`LinkService`].
//! - [`transfer`]: users' entries from replica to replica, over connections of their own.

mod assembly;
mod client;
mod clock;
mod control;
pub mod decoder;
mod error;
pub mod frame;
mod hello;
pub mod message;
mod metrics;
mod outbox;
mod server;
mod socket;
pub mod transfer;

use std::task::{Context, Poll};

use bytes::Bytes;
use seen_proto::status::ApiError;
use seen_proto::v1;

pub use client::{ClientOptions, Connector, HelloSource, LinkClient};
pub use error::{Cut, LinkError};
pub use hello::{HelloExpectation, check_hello, negotiate, newest_common, refusal};
pub use message::{Flags, Moved, Outgoing, RequestId};
pub use metrics::METRICS;
pub use server::{Incoming, LinkService, Replier, ServerOptions, serve, serve_tcp};
pub use socket::Socket;

/// The oldest version of the link that this program speaks.
pub const VERSION_MIN: u32 = 1;
/// The newest version of the link that this program speaks.
pub const VERSION_MAX: u32 = 1;

/// Why a request was not sent. Certainly nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotSent {
    /// There is no connection.
    Closed,
    /// The replica has as much to do as it granted.
    NoCredit,
    /// The replica is ending.
    Draining,
    /// As much as may wait to be written waits already.
    Full,
    /// The request is larger than [`message::REQUEST_BYTES_MAX`].
    TooLarge,
}

impl NotSent {
    /// Every reason.
    pub const ALL: [NotSent; 5] =
        [Self::Closed, Self::NoCredit, Self::Draining, Self::Full, Self::TooLarge];

    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::NoCredit => "no_credit",
            Self::Draining => "draining",
            Self::Full => "full",
            Self::TooLarge => "too_large",
        }
    }
}

/// A way to a replica.
pub trait Link: Send + Sync {
    /// Sends a request, or says at once why not; never waits. What was sent is answered through the
    /// [`LinkEvents`], once, or is lost when they tell [`LinkChange::Down`].
    ///
    /// # Errors
    /// [`NotSent`].
    fn submit(&self, request: &Outgoing) -> Result<(), NotSent>;

    /// True if the other end is this process: it lives as long as whoever asks, and its silence says nothing.
    fn is_local(&self) -> bool {
        false
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message's bytes.
    Message(Bytes),
    /// There is none.
    Error(ApiError),
}

/// What becomes of a way to a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkChange {
    /// It is open from now on.
    Up {
        /// Who is at the other end.
        identity: v1::ReplicaIdentity,
        /// How it fares.
        state: v1::ReplicaState,
        /// Bytes of requests that may be under way at once.
        credit_bytes: u64,
    },
    /// The replica says how it fares: on change, and now and then.
    State(v1::ReplicaState),
    /// Anything was heard of the replica. Told at most once a millisecond.
    Life,
    /// The replica is ending: it takes nothing more, and answers what it has.
    Draining,
    /// The replica, or whoever is in its place, will not talk. [`LinkChange::Down`] follows.
    Refused(v1::LinkRefusal),
    /// It is closed, or could not be opened, and why, for people. What was sent and not answered is lost. Tried
    /// again; this is told for each attempt.
    Down(String),
}

/// Who is told what comes back. Called on the connection's task, in order: be short, never block.
pub trait LinkEvents: Send + Sync + 'static {
    /// A request was answered. Each is answered at most once; the id may be of one that nobody waits for any more.
    fn answered(&self, id: RequestId, answer: Answer);
    /// The way itself changed.
    fn changed(&self, change: LinkChange);

    /// Ready once nobody waits for this request's answer any more; wakes the task then. May be pending for ever though nobody
    /// does. Asked by whoever answers in the same process: no frame tells it.
    fn poll_abandoned(&self, _id: RequestId, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
