//! What can be wrong with what the other end sends, and why a connection ends.

use std::io;
use std::time::Duration;

use seen_proto::v1;
use thiserror::Error;

use super::frame::FrameKind;

/// What the other end sent is not of the link.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// A frame is longer than any may be.
    #[error("a frame's length is {bytes} bytes; at most {bytes_max}")]
    FrameTooLong {
        /// What it says.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// A frame without a type.
    #[error("a frame's length is 0 bytes; at least 1, its type")]
    FrameEmpty,
    /// No such type.
    #[error("a frame's type is {kind}; known are 1 to {kind_max}")]
    UnknownKind {
        /// What it says.
        kind: u8,
        /// The highest one.
        kind_max: u8,
    },
    /// A type that has no place here.
    #[error("a frame of type {kind:?} came {when}")]
    Unexpected {
        /// Its type.
        kind: FrameKind,
        /// Where in the conversation.
        when: &'static str,
    },
    /// A payload is too short.
    #[error("{field} is cut: {bytes} bytes of {needed}")]
    Truncated {
        /// Of what.
        field: &'static str,
        /// What there is.
        bytes: usize,
        /// What there must be.
        needed: usize,
    },
    /// A field has a value that means nothing.
    #[error("{field} is {value}; {limit}")]
    Value {
        /// Which.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What it may be.
        limit: &'static str,
    },
    /// A request says that this end's clock shows more than it does.
    #[error(
        "a request reckons with {ahead_us} us more than this clock has shown: it stood still, as on a paused machine; a \
         new connection begins with a new one"
    )]
    ClockAhead {
        /// By how much, in microseconds.
        ahead_us: u64,
    },
    /// A message in pieces is longer than any may be.
    #[error("{what} {id:#x} takes over {bytes} bytes; at most {bytes_max}")]
    MessageTooLong {
        /// A request or a reply.
        what: &'static str,
        /// Whose.
        id: u64,
        /// With the piece that came last.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A piece that does not follow what came before.
    #[error("{what} {id:#x} came {when}")]
    Piece {
        /// A request or a reply.
        what: &'static str,
        /// Whose.
        id: u64,
        /// What is wrong with it.
        when: &'static str,
    },
    /// A message that protobuf does not read.
    #[error("{message} cannot be read: {why}")]
    Protobuf {
        /// Its name.
        message: &'static str,
        /// What protobuf says.
        why: String,
    },
    /// More was sent than was granted, or given back than was taken.
    #[error("credit of {bytes} bytes; at most {granted} are granted")]
    Credit {
        /// Under way, or left.
        bytes: u64,
        /// The grant.
        granted: u64,
    },
}

/// Why a connection was ended, or never came to be.
#[derive(Debug, Error)]
pub enum Cut {
    /// The socket failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The other end sent what is not of the link.
    #[error("the other end does not speak the link: {0}")]
    Broken(#[from] LinkError),
    /// The other end closed it.
    #[error("the other end closed the connection {0}")]
    Closed(&'static str),
    /// It said goodbye, and all that was under way is answered.
    #[error("the other end is ending, and has answered all it had")]
    Drained,
    /// The hello was refused, by this end or the other.
    #[error("refused ({}): {}", .0.reason, .0.message)]
    Refused(Box<v1::LinkRefusal>),
    /// Something took too long.
    #[error("{what} took longer than {limit:?}")]
    Late {
        /// What.
        what: &'static str,
        /// Its bound.
        limit: Duration,
    },
    /// The other end does not read what it is sent.
    #[error("the other end does not read: {bytes} bytes wait; at most {bytes_max}")]
    Unread {
        /// What waits.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl Cut {
    /// A short stable name, used as a metric label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Broken(_) => "broken",
            Self::Closed(_) => "closed",
            Self::Drained => "goodbye",
            Self::Refused(_) => "refused",
            Self::Late { .. } => "late",
            Self::Unread { .. } => "unread",
        }
    }
}
