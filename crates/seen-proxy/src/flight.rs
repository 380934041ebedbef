//! One request on its way.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use seen_api::{Call, Reply};
use seen_cluster::link::{Link, Outgoing};
use seen_cluster::sabotage::defends;
use seen_filter::Tick;
use seen_proto::status::ApiError;
use smallvec::SmallVec;

use crate::choose::Need;
use crate::limit::Class;
use crate::net::Place;
use crate::replica::{Lane, ReplicaId};
use crate::spans::Spans;
use crate::users::Gather;

/// Share of the caller's time that is kept for the way back, as a divisor, and the most of it.
const MARGIN_DIVISOR: u64 = 9;
const MARGIN_US_MAX: u64 = 10_000;
/// What is due is found up to so much later.
const SWEEP_US: u64 = 2_000;

/// When an answer must leave the proxy: so that it has left by 80 of 90 ms.
pub(crate) fn answer_by(now: Tick, timeout_us: u64) -> Tick {
    let margin_us = (timeout_us / MARGIN_DIVISOR).min(MARGIN_US_MAX) + SWEEP_US;
    now.plus_us(timeout_us - margin_us.min(timeout_us / 2))
}

/// Who gets the answer.
pub(crate) enum Sink {
    /// Whoever called.
    Caller(Box<dyn Reply>),
    /// A FilterUsers that was split; the users at these positions of it.
    Part(Arc<Gather>, Vec<u32>),
}

impl Sink {
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Caller(reply) => reply.is_abandoned(),
            Self::Part(gather, _) => gather.is_over(),
        }
    }

    /// Ready once nobody waits any more; see [`Reply::poll_abandoned`].
    pub fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Caller(reply) => reply.poll_abandoned(cx),
            // Parts go to replicas elsewhere, which are not told.
            Self::Part(..) => Poll::Pending,
        }
    }
}

/// A request that was sent to one replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub replica: ReplicaId,
    pub sent: Tick,
    /// True until it is answered or lost.
    pub waits: bool,
    /// True if the replica's breaker wants to know how it ends.
    pub probes: bool,
}

/// A request on its way. The body is kept until it is answered, so that it can be sent again.
pub(crate) struct Flight {
    pub sink: Sink,
    pub call: Call,
    pub body: Bytes,
    pub spans: Spans,
    pub has_token: bool,
    /// Of many users: whether some of them were moved.
    pub group_moved: Option<bool>,
    pub place: Place,
    pub tag: Arc<str>,
    pub class: Class,
    pub cost: u64,
    pub began: Tick,
    /// When the proxy answers itself.
    pub answer_by: Tick,
    /// When a second replica of the slot is asked as well.
    pub hedge_at: Option<Tick>,
    /// When anybody is.
    pub emergency_at: Option<Tick>,
    pub attempts: SmallVec<[Attempt; 3]>,
    /// What a replica said last.
    pub error: Option<ApiError>,
    /// The first flagged answer: the caller's, if nobody is sure.
    pub unsure: Option<Bytes>,
    /// A write was sent, and nobody knows what became of it.
    pub outcome_unknown: bool,
}

impl Flight {
    pub const fn lane(&self) -> Lane {
        Lane::of(self.call)
    }

    pub fn need(&self, place: Place) -> Need {
        Need { place, lane: self.lane(), is_write: self.call.writes() }
    }

    /// Only a Filter may be asked twice at once: it changes nothing, costs little, and somebody waits.
    pub fn hedges(&self) -> bool {
        self.call == Call::Filter || (self.call.writes() && !defends("proxy.hedged_write"))
    }

    pub fn tried(&self) -> SmallVec<[ReplicaId; 4]> {
        self.attempts.iter().map(|attempt| attempt.replica).collect()
    }

    pub fn waits(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.waits)
    }

    /// The attempt at a replica that is still waited for.
    pub fn waiting_at(&mut self, replica: ReplicaId) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.waits && attempt.replica == replica)
    }

    /// When it is to be looked at next.
    pub fn due(&self) -> Tick {
        let times = [self.hedge_at, self.emergency_at].into_iter().flatten();
        times.fold(self.answer_by, Tick::min)
    }
}

/// What is to be done once the state is not locked any more: it may call back.
pub(crate) enum Effect {
    /// A request is to be sent.
    Send(Arc<dyn Link>, Outgoing, ReplicaId),
    /// Somebody is to be answered.
    Finish(Sink, Result<Bytes, ApiError>),
    /// Something is due before anybody would look.
    Look,
}

/// What is to be done.
pub(crate) type Effects = SmallVec<[Effect; 2]>;
