//! Warm-up: a starting replica takes its users from live peers of its slot instead of reading storage, and follows the change
//! feed meanwhile (rule R3; coherence rows 29-33, 56, 60).
//!
//! The receiver asks; the donor walks over its users, hottest first, and gives each clean entry whole, its position before its
//! bits. What comes is installed at once, under the same conditions as a build from storage. So a stream may end anywhere: what it
//! brought is right, and the next donor goes on; what is in memory already is passed over.
//!
//! [`Donor`] gives, [`Receiver`] takes, [`warm_up`] drives; [`FrameSink`] and [`FrameSource`] carry frames, over a connection
//! ([`serve`]) or through a file ([`BytesSink`], [`load`]). [`build_listed`] warms from storage, for given users.

mod donor;
mod driver;
mod error;
mod frame;
mod listed;
mod passing;
mod progress;
pub mod push;
mod reader;
mod receiver;
mod turns;
mod wire;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use seen_cluster::sabotage::defends;
use tokio::task::yield_now;

pub use donor::Donor;
pub use driver::{Donors, Summary, WarmupOptions, ask, load, warm_up};
pub use error::TransferFailure;
pub use frame::{
    BytesSink, BytesSource, Frame, FrameKind, FrameSink, FrameSource, PAYLOAD_BYTES_MAX,
};
pub use listed::{Listed, build_listed};
pub use passing::{Passed, Passing, pick};
pub use progress::{Progress, ProgressView, Taken};
pub use receiver::{Receiver, Took};
pub use turns::DonorLimits;
pub use wire::{
    ASK_USERS_MAX, Ask, Dialect, End, EndKind, Header, NamespaceLine, STREAM_VERSIONS, Versions,
};

use crate::replica::Replica;
use crate::settings::namespace_digest;

/// One connection at the replica's end: gives if it is asked, and takes if it is given (by a tool that warms it by hand). An
/// `End` tells the sender what was installed.
///
/// # Errors
/// [`TransferFailure`].
pub async fn serve<I: FrameSource, O: FrameSink>(
    donor: &Donor,
    source: &mut I,
    sink: &mut O,
) -> Result<End, TransferFailure> {
    let Some((kind, payload)) = source.next().await? else {
        return Err(TransferFailure::Torn);
    };
    if kind == FrameKind::Ask {
        return match Ask::decode(&payload) {
            Ok(ask) => donor.give(&ask, sink).await,
            Err(failure) => push::decline(sink, failure).await,
        };
    }
    let replica = donor.replica();
    let mut receiver = Receiver::new(Arc::clone(replica), Arc::new(Progress::new()));
    let mut first = Some((kind, payload));
    let result = loop {
        let next = match first.take() {
            Some(frame) => Some(frame),
            None => source.next().await?,
        };
        let Some((kind, payload)) = next else { break Err(TransferFailure::Torn) };
        match receiver.take(kind, &payload) {
            Ok(Took::More) => yield_now().await,
            Ok(Took::Full) => break Ok(EndKind::Stopped),
            Ok(Took::End(_)) => break Ok(EndKind::Complete),
            Err(failure) => break Err(failure),
        }
    };
    let kind = match &result {
        Ok(kind) => *kind,
        Err(TransferFailure::Torn | TransferFailure::Broken(_)) => EndKind::Stopped,
        Err(_) => EndKind::Incompatible,
    };
    let answer = receiver.answer(kind);
    sink.send(FrameKind::End, Bytes::from(answer.encode())).await?;
    match result {
        Ok(_) => Ok(answer),
        Err(failure) => {
            replica.metrics.transfer_failed(&failure);
            Err(failure)
        }
    }
}

fn dialect(replica: &Replica) -> Dialect {
    Dialect::own(replica.key.id(), replica.cluster)
}

/// The namespaces as this replica holds them.
fn lines(replica: &Replica) -> Vec<NamespaceLine> {
    let settings = replica.namespaces.iter().map(|namespace| &namespace.rules.settings().namespace);
    let line = |settings: &seen_filter::NamespaceSettings| NamespaceLine {
        number: settings.id,
        digest: namespace_digest(settings),
        name: settings.name.clone(),
    };
    settings.map(line).collect()
}

/// Row 32: bits that were made in another way are zero bits to everyone here.
fn same_dialect(replica: &Replica, theirs: Dialect) -> Result<(), TransferFailure> {
    let own = dialect(replica);
    let differs = [
        ("cluster name", own.cluster != theirs.cluster),
        ("layout of entries", own.algorithm != theirs.algorithm),
        ("version of the hash", own.hash_version != theirs.hash_version),
        ("key of the hash", own.key_id != theirs.key_id),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((what, _)) if defends("hash.checked") => Err(TransferFailure::Dialect { what }),
        _ => Ok(()),
    }
}
