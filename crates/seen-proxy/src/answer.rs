//! The proxy's own word, where no replica's came in time.

use bytes::Bytes;
use seen_api::Call;
use seen_cluster::sabotage::defends;
use seen_filter::verdicts::Verdicts;
use seen_proto::limits::CANDIDATES_MAX;
use seen_proto::model::{OnUnknown, Quality};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::DegradedReason;
use seen_proto::wire::{FilterCall, encode_filter_response};

use crate::flight::{Flight, Sink};
use crate::metrics::Own;
use crate::users;

/// What the caller is told of a request that no replica answered.
pub(crate) fn own(flight: &Flight, why: Own) -> Result<Bytes, ApiError> {
    let waits = flight.waits();
    if flight.call.writes() && (flight.outcome_unknown || waits) {
        let what = "the replica did not answer in time, or was lost; the write may have been done";
        return Err(ApiError::new(ErrorKind::OutcomeUnknown, what));
    }
    match (&flight.error, flight.call) {
        // All that were asked refuse for want of room: the caller is to slow down.
        (Some(error), _) if error.kind == ErrorKind::Overloaded => Err(error.clone()),
        (_, Call::Filter) => flagged(&flight.body, why),
        // One that was split says itself whom it could not answer.
        (None, Call::FilterUsers) if matches!(flight.sink, Sink::Caller(_)) => {
            users::nobody_answered(&flight.body, reason(why))
        }
        (Some(error), _) => Err(error.clone()),
        (None, _) => Err(without_answer(why)),
    }
}

fn without_answer(why: Own) -> ApiError {
    match why {
        Own::Deadline => ApiError::new(ErrorKind::DeadlineExceeded, "no replica answered in time"),
        Own::Unreachable => {
            let what = "no replica of the user's slot can be reached, nor another one";
            ApiError::new(ErrorKind::Unavailable, what)
        }
        Own::Overloaded => {
            let what = "a replica failed, and too many requests are being repeated; try again";
            ApiError::new(ErrorKind::Unavailable, what)
        }
    }
}

fn reason(why: Own) -> DegradedReason {
    match why {
        Own::Deadline => DegradedReason::Deadline,
        Own::Unreachable => DegradedReason::ReplicaUnreachable,
        Own::Overloaded => DegradedReason::Overloaded,
    }
}

/// A Filter's answer of which nothing is known: all candidates as the caller wants them then.
fn flagged(body: &[u8], why: Own) -> Result<Bytes, ApiError> {
    let call = FilterCall::parse(body)?;
    let reason = reason(why);
    let shown = match call.on_unknown {
        OnUnknown::Show => call.candidates.min(CANDIDATES_MAX),
        OnUnknown::Hide => 0,
    };
    let quality = match defends("proxy.flag") {
        true => Quality::Degraded { rate: 0.0, reason, unknown: call.candidates as u32 },
        false => Quality::Exact,
    };
    let mut out = Vec::with_capacity(2 * shown + 32);
    encode_filter_response(&mut out, &Verdicts::first(shown), &quality, &[]);
    Ok(out.into())
}
