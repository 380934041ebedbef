//! One seam for all calls: bytes in, bytes out.

use std::any::Any;
use std::task::{Context, Poll};

use bytes::Bytes;
use seen_proto::limits::{FORGET_TIMEOUT_MS_DEFAULT, PUSH_TIMEOUT_MS_DEFAULT, TIMEOUT_MS_DEFAULT};
use seen_proto::status::ApiError;

/// What is asked. The numbers are those on the link and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Call {
    /// A FilterRequest, answered by a FilterResponse.
    Filter = 1,
    /// A MarkRequest, answered by a MarkResponse.
    Mark = 2,
    /// An UnmarkRequest, answered by an UnmarkResponse.
    Unmark = 3,
    /// A ForgetRequest, answered by a ForgetResponse.
    Forget = 4,
    /// A HistoryRequest, answered by a HistoryResponse.
    History = 5,
    /// An ExplainRequest, answered by an ExplainResponse.
    Explain = 6,
    /// One FilterUsersRequest of a stream, answered by a FilterUsersResponse.
    FilterUsers = 7,
}

impl Call {
    /// Every call.
    pub const ALL: [Call; 7] = [
        Self::Filter,
        Self::Mark,
        Self::Unmark,
        Self::Forget,
        Self::History,
        Self::Explain,
        Self::FilterUsers,
    ];

    /// The call with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|call| *call as u8 == number)
    }

    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Mark => "mark",
            Self::Unmark => "unmark",
            Self::Forget => "forget",
            Self::History => "history",
            Self::Explain => "explain",
            Self::FilterUsers => "filter_users",
        }
    }

    /// True if it changes a history: it is never asked twice at once, and repeated only where nothing was done.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Mark | Self::Unmark | Self::Forget)
    }

    /// Time to answer where the caller sends no deadline, in milliseconds.
    pub const fn timeout_ms_default(self) -> u32 {
        match self {
            Self::Forget => FORGET_TIMEOUT_MS_DEFAULT,
            Self::FilterUsers => PUSH_TIMEOUT_MS_DEFAULT,
            _ => TIMEOUT_MS_DEFAULT,
        }
    }
}

/// The tag of a request: which pool is to answer it. Empty = the namespace's default.
pub type Tag = Bytes;

/// The caller's trace, by the W3C's Trace Context: passed on, and joined where tracing is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub span_id: [u8; 8],
    /// Its flags; bit 0 = sampled.
    pub flags: u8,
}

/// What comes with a request besides its bytes.
#[derive(Clone, Debug, Default)]
pub struct CallMeta {
    /// How long the caller waits from now on, in microseconds. Never 0: such a call is refused before.
    pub timeout_us: u64,
    /// Which pool is to answer.
    pub tag: Tag,
    /// The caller's trace, if it has one.
    pub trace: Option<TraceContext>,
}

/// Where an answer goes. Dropped without one, the caller is told INTERNAL.
pub trait Reply: Send {
    /// Gives the answer: the message's bytes, or why there is none.
    fn send(self: Box<Self>, answer: Result<Bytes, ApiError>);

    /// True once nobody waits any more. May be false though nobody does.
    fn is_abandoned(&self) -> bool {
        false
    }

    /// Ready once nobody waits any more; wakes the task then. May be pending for ever though nobody does.
    fn poll_abandoned(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Whoever answers calls.
pub trait Calls: Clone + Send + Sync + 'static {
    /// Begins to answer, and answers through `reply` now or later, on this thread or another, always before the
    /// call's time is over. Never blocks. Call it on a tokio runtime.
    fn call(&self, call: Call, meta: &CallMeta, body: Bytes, reply: Box<dyn Reply>);

    /// Told of a call that was refused before it was asked, so that it is counted with the others.
    fn refused(&self, _error: &ApiError) {}

    /// Told that a stream of calls begins; what this returns is dropped when it ends.
    fn stream_begins(&self) -> Option<Box<dyn Any + Send>> {
        None
    }
}
