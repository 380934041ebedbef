//! The handlers of the calls. The hot ones take a request where it lies, a deadline, and a buffer
//! for the reply's bytes; whoever carries those bytes (tonic, a leaner front or a proxy's link
//! elsewhere) is none of their business.

pub mod admin;
pub mod filter;
pub mod listing;
mod traced;
pub mod users;
pub mod write;

use bytes::Bytes;
use seen_filter::{StoreError, StoreErrorKind, Tick};
use seen_proto::model::Quality;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::token::{ClusterId, Element, Token};
use smallvec::SmallVec;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::oneshot;

use crate::replica::Replica;
use crate::rules::Claim;

/// Share of the time allowed that is kept for the way back, as a divisor, and its bounds. Timers ring
/// up to a millisecond late: with less than that an answer would leave after its deadline.
const MARGIN_DIVISOR: u64 = 10;
const MARGIN_US_MIN: u64 = 1_000;
const MARGIN_US_MAX: u64 = 5_000;

/// What became of a hot call.
pub enum Handled {
    /// The reply's bytes are in the buffer.
    Written,
    /// Storage is asked; the future ends before the deadline.
    Pending(Pin<Box<dyn Future<Output = Result<Bytes, ApiError>> + Send>>),
}

impl Replica {
    /// The latest moment at which an answer must leave, given when the caller gives up.
    pub(crate) fn answer_by(&self, now: Tick, deadline: Tick) -> Tick {
        let allowed_us = deadline.since_us(now);
        let margin_us = (allowed_us / MARGIN_DIVISOR).clamp(MARGIN_US_MIN, MARGIN_US_MAX);
        now.plus_us(allowed_us.saturating_sub(margin_us))
    }

    /// What a request's token claims.
    ///
    /// # Errors
    /// If it is no token of this cluster.
    pub(crate) fn claims(&self, token: &[u8]) -> Result<SmallVec<[Claim; 4]>, ApiError> {
        if token.is_empty() {
            return Ok(SmallVec::new());
        }
        let token = Token::decode(token, ClusterId::new(self.cluster))?;
        Ok(token.elements().iter().map(claim_of).collect())
    }

    /// Waits for storage's answer, no longer than until `answer_by`.
    pub(crate) async fn within<T>(
        &self,
        answer_by: Tick,
        reply: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout_at(self.ticker.instant(answer_by), reply).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(StoreError::new(StoreErrorKind::Unavailable, "the process is shutting down"))
            }
            Err(_) => {
                Err(StoreError::new(StoreErrorKind::Expired, "storage did not answer in time"))
            }
        }
    }
}

/// Keeps the token's elements as the rules see them.
fn claim_of(element: &Element) -> Claim {
    match element {
        Element::Write(write) => Claim {
            feed: write.feed,
            writer: write.incarnation,
            seq: write.seq.get(),
            stamp: write.stamp,
            wildcard: false,
        },
        Element::Wildcard(wildcard) => Claim {
            feed: seen_filter::FeedId::default(),
            writer: wildcard.incarnation,
            seq: wildcard.seq.get(),
            stamp: None,
            wildcard: true,
        },
    }
}

/// The rate at which several namespaces together call an unread item "seen".
pub(crate) fn joint_rate(rates: impl Iterator<Item = f64>) -> f64 {
    // In this form a single rate comes out as it went in.
    rates.fold(0.0, |joint, rate| joint + rate - joint * rate)
}

/// Undegraded quality of an answer with this joint rate.
pub(crate) fn sound(rate: f64) -> Quality {
    if rate > 0.0 { Quality::Filtered { rate } } else { Quality::Exact }
}

/// A store's failure as the caller of a write is told.
pub(crate) fn write_error(error: StoreError) -> ApiError {
    ApiError::new(ErrorKind::from(error.kind), error.message)
}
