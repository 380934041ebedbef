//! What a proxy says around a message, and what it means here: read in one place, whether it came over a socket or from a proxy
//! of this process.

use bytes::Bytes;
use seen_api::{Call, CallMeta, Calls, Reply, TraceContext};
use seen_cluster::link::message::TRACE_BYTES;
use seen_cluster::link::{self, Flags, Outgoing};
use seen_cluster::map::key_check;
use seen_filter::{HASH_VERSION, Incarnation};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1;

use crate::calls::ReplicaCalls;
use crate::replica::Replica;
use crate::service::filter::{Moved, ReadMode};

/// The call with this number.
pub(super) fn call(number: u8) -> Result<Call, ApiError> {
    Call::from_number(number).ok_or_else(|| {
        let what = format!("no call has the number {number}; upgrade this replica");
        ApiError::new(ErrorKind::InvalidArgument, what)
    })
}

/// How a read is to be answered.
pub(super) fn mode(flags: Flags, moved: Option<link::Moved>) -> ReadMode {
    let moved = moved.map(|moved| Moved {
        incarnation: Incarnation::new(moved.incarnation),
        seq: moved.sequence,
    });
    ReadMode { emergency: flags.contains(Flags::EMERGENCY), moved }
}

/// What comes with a call besides its message.
pub(super) fn meta(timeout_us: u64, trace: Option<&[u8; TRACE_BYTES]>) -> CallMeta {
    CallMeta { timeout_us, tag: Bytes::new(), trace: trace.map(trace_of) }
}

fn trace_of(bytes: &[u8; TRACE_BYTES]) -> TraceContext {
    let mut trace = TraceContext { trace_id: [0; 16], span_id: [0; 8], flags: bytes[24] };
    trace.trace_id.copy_from_slice(&bytes[..16]);
    trace.span_id.copy_from_slice(&bytes[16..24]);
    trace
}

impl ReplicaCalls {
    /// Answers a proxy of this process, as [`ReplicaLink`](super::ReplicaLink) answers those elsewhere.
    pub fn answer(&self, request: &Outgoing, reply: Box<dyn Reply>) {
        match call(request.call) {
            Ok(call) => {
                let mode = mode(request.flags, request.moved);
                let meta = meta(request.timeout_us.into(), request.trace.as_ref());
                let span = self.tracer.joined(call, meta.trace.as_ref());
                self.call_in(mode, call, &meta, request.body.clone(), reply, span);
            }
            Err(error) => {
                self.refused(&error);
                reply.send(Err(error));
            }
        }
    }
}

impl Replica {
    /// Who it is in this slot.
    pub fn identity(&self, pool: String, slot: u32, program: String) -> v1::ReplicaIdentity {
        v1::ReplicaIdentity {
            incarnation: self.incarnation.get(),
            program,
            cluster: self.cluster,
            pool,
            slot,
            hash_version: u32::from(HASH_VERSION),
            settings: self.settings_digest(),
            slot_key_check: key_check(&self.key.slot_key()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_claims_become_the_mode_of_a_read() {
        assert_eq!(mode(Flags::NONE, None), ReadMode::default());
        assert_eq!(mode(Flags::HEDGE, None), ReadMode::default(), "a hedge is a read as any");
        let moved = link::Moved { incarnation: 5, sequence: 6 };
        let both = mode(Flags::EMERGENCY.with(Flags::HEDGE), Some(moved));
        let claim = Moved { incarnation: Incarnation::new(5), seq: 6 };
        assert_eq!(both, ReadMode { emergency: true, moved: Some(claim) });
    }

    #[test]
    fn a_trace_comes_out_as_it_went_in() {
        let bytes: [u8; TRACE_BYTES] = std::array::from_fn(|at| at as u8);
        let trace = meta(1, Some(&bytes)).trace.expect("a trace");
        assert_eq!((trace.trace_id[15], trace.span_id[0], trace.flags), (15, 16, 24));
        assert_eq!(meta(1, None).trace, None);
    }

    #[test]
    fn a_call_of_a_later_version_is_refused() {
        assert_eq!(call(Call::Explain as u8), Ok(Call::Explain));
        assert!(call(99).expect_err("none").message.contains("99"));
    }
}
