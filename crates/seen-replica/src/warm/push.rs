//! Entries that a tool brings, over a connection on which only asks go to the replica: each ask carries the stream's head
//! and one frame of entries, and is answered by an end that says what was installed. So each stands for itself.

use std::sync::Arc;

use bytes::Bytes;

use super::error::TransferFailure;
use super::frame::{FrameKind, FrameSink, PAYLOAD_BYTES_MAX};
use super::progress::Progress;
use super::receiver::Receiver;
use super::wire::{End, EndKind};
use crate::replica::Replica;

const MAGIC: [u8; 4] = *b"SPSH";

/// The ask that brings a frame of entries. `head` is the payload of the stream's first frame, `entries` that of another; `None` if
/// both do not fit, or the frame holds a part of an entry only: such users are built from storage.
pub fn payload(head: &[u8], entries: &[u8]) -> Option<Bytes> {
    let whole = entries.first() == Some(&super::writer::tag::ENTRIES);
    let head_len = u16::try_from(head.len()).ok()?;
    let bytes = [&MAGIC[..], &head_len.to_le_bytes(), head, entries].concat();
    (whole && bytes.len() <= PAYLOAD_BYTES_MAX).then(|| Bytes::from(bytes))
}

/// An ask that brings no entry: its answer tells whether any would be taken. `None` if the head does not fit.
pub fn probe(head: &[u8]) -> Option<Bytes> {
    payload(head, &[super::writer::tag::ENTRIES])
}

/// True if an ask brings entries.
pub fn is_push(ask: &[u8]) -> bool {
    ask.starts_with(&MAGIC)
}

/// Takes what an ask brings, and answers it.
///
/// # Errors
/// [`TransferFailure`]; the sender was told, if it can be.
pub async fn take<S: FrameSink>(
    replica: &Arc<Replica>,
    ask: &[u8],
    sink: &mut S,
) -> Result<End, TransferFailure> {
    let mut receiver = Receiver::new(Arc::clone(replica), Arc::new(Progress::new()));
    if let Err(failure) = take_frames(&mut receiver, ask) {
        replica.metrics.transfer_failed(&failure);
        return decline(sink, failure).await;
    }
    // Memory that is full takes no more: who sends on would only have others evicted for it.
    let kind = if receiver.is_full() { EndKind::Stopped } else { EndKind::Complete };
    let answer = receiver.answer(kind);
    sink.send(FrameKind::End, Bytes::from(answer.encode())).await?;
    Ok(answer)
}

fn take_frames(receiver: &mut Receiver, ask: &[u8]) -> Result<(), TransferFailure> {
    let rest = ask.get(MAGIC.len()..).ok_or(TransferFailure::Torn)?;
    let (head_len, rest) = rest.split_first_chunk::<2>().ok_or(TransferFailure::Torn)?;
    let head_len = usize::from(u16::from_le_bytes(*head_len));
    let (head, entries) = rest.split_at_checked(head_len).ok_or(TransferFailure::Torn)?;
    receiver.take(FrameKind::Entry, head)?;
    receiver.take(FrameKind::Entry, entries)?;
    Ok(())
}

/// Tells the other end that nothing comes of it.
///
/// # Errors
/// The failure that was given.
pub async fn decline<S: FrameSink>(
    sink: &mut S,
    failure: TransferFailure,
) -> Result<End, TransferFailure> {
    let kind = match &failure {
        TransferFailure::Torn | TransferFailure::Broken(_) => EndKind::Stopped,
        _ => EndKind::Incompatible,
    };
    sink.send(FrameKind::End, Bytes::from(End::empty(kind).encode())).await?;
    Err(failure)
}
