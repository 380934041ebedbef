//! Bringing entries of a stream to a replica, frame by frame: each stands for itself, and is answered by what was installed.

use bytes::Bytes;
use seen_cluster::link::transfer::{TransferClient, TransferFrame};
use seen_filter::{NamespaceId, UserId};
use seen_replica::link::LinkPeer;
use seen_replica::warm::{
    BytesSource, End, EndKind, FrameKind, FrameSink, FrameSource, Passed, Passing, TransferFailure,
    pick, push,
};
use tokio::io::AsyncRead;

use super::outcomes::{HELD_OR_REFUSED, INSTALLED, NOT_CLEAN, Outcomes, TOO_LARGE};
use super::peer::{Meant, Own};
use super::shown::Shown;
use crate::cli::CliError;

/// What a file holds.
pub(super) struct Found<'a> {
    /// The payload of its first frame.
    pub head: Bytes,
    /// Users that are meant, those in pieces left out.
    pub users: u64,
    namespace: Option<NamespaceId>,
    meant: &'a Meant,
    own: Option<&'a Own>,
}

impl Found<'_> {
    fn is_meant(&self, namespace: NamespaceId, user: UserId) -> bool {
        self.namespace.is_none_or(|meant| meant == namespace)
            && match (&self.meant.slots, self.own) {
                (Some(slots), Some(own)) => own.is_of(slots, user),
                _ => true,
            }
    }
}

/// Reads a file to its end: whether it is whole, and how many of its users are meant.
pub(super) async fn look_through<'a, R: AsyncRead + Unpin + Send>(
    flag: &str,
    file: R,
    meant: &'a Meant,
    own: Option<&'a Own>,
) -> Result<Found<'a>, CliError> {
    let mut source = BytesSource(file);
    let mut passing = Passing::new();
    let mut found = Found { head: Bytes::new(), users: 0, namespace: None, meant, own };
    let whole = async {
        loop {
            let (kind, payload) = next(&mut source).await?;
            match passing.take(kind, &payload)? {
                Passed::Head => {
                    found.namespace = namespace(&passing, meant)?;
                    found.head = payload;
                }
                Passed::Entries(_) => {
                    let (_, users) =
                        pick(&payload, |namespace, user| found.is_meant(namespace, user))?;
                    found.users += users;
                }
                Passed::Piece(_) | Passed::Alive => {}
                Passed::End(_) => return Ok::<_, CliError>(()),
            }
        }
    };
    whole.await.map_err(|error| format!("{flag}: {error}; nothing was brought"))?;
    found.users = meant.share_of(found.users);
    Ok(found)
}

/// The number that the file's donor gave to the namespace that is meant.
fn namespace(passing: &Passing, meant: &Meant) -> Result<Option<NamespaceId>, CliError> {
    let Some(name) = &meant.namespace else { return Ok(None) };
    let lines = passing.header().map(|header| header.namespaces.as_slice()).unwrap_or_default();
    match lines.iter().find(|line| line.name == *name) {
        Some(line) => Ok(Some(line.number)),
        None => {
            let names: Vec<_> = lines.iter().map(|line| line.name.as_str()).collect();
            Err(format!("--namespace {name}: it holds {}", names.join(", ")).into())
        }
    }
}

/// Brings a file that was looked through.
pub(super) async fn file<R: AsyncRead + Unpin + Send>(
    flag: &str,
    file: R,
    target: &mut TransferClient,
    to: &str,
    found: &Found<'_>,
    outcomes: &mut Outcomes,
) -> Result<(), CliError> {
    let mut source = BytesSource(file);
    let mut left = found.users;
    let keep = |namespace, user| {
        let keep = left > 0 && found.is_meant(namespace, user);
        left -= u64::from(keep);
        keep
    };
    stream(flag, &mut source, (to, target), keep, outcomes).await
}

/// Brings what another replica gives.
pub(super) async fn from_peer(
    own: &Own,
    (from, donor): (&str, TransferClient),
    (to, target): (&str, &mut TransferClient),
    meant: &Meant,
    dry_run: bool,
    outcomes: &mut Outcomes,
) -> Result<(), CliError> {
    let flag = format!("--from {from}");
    let named = |error: TransferFailure| format!("{flag}: {error}");
    let mut donor = LinkPeer::over(donor);
    // First a look, which its donor answers by a head and an end.
    ask(&mut donor, own, meant, 0).await.map_err(named)?;
    let mut passing = Passing::new();
    loop {
        let (kind, payload) = next(&mut donor).await.map_err(named)?;
        match passing.take(kind, &payload).map_err(named)? {
            Passed::Head => probe(target, to, &payload).await?,
            Passed::Entries(_) | Passed::Piece(_) | Passed::Alive => {}
            Passed::End(_) => break,
        }
    }
    outcomes.expected = meant.share_of(passing.header().map_or(0, |header| header.users));
    if dry_run {
        return Ok(());
    }
    ask(&mut donor, own, meant, meant.share_permille()).await.map_err(named)?;
    stream(&flag, &mut donor, (to, target), |_, _| true, outcomes).await
}

async fn ask(
    donor: &mut LinkPeer,
    own: &Own,
    meant: &Meant,
    share_permille: u16,
) -> Result<(), TransferFailure> {
    let ask = Bytes::from(own.ask(meant, share_permille).encode());
    Ok(donor.send(FrameKind::Ask, ask).await?)
}

async fn stream<S: FrameSource>(
    flag: &str,
    source: &mut S,
    (to, target): (&str, &mut TransferClient),
    mut keep: impl FnMut(NamespaceId, UserId) -> bool,
    outcomes: &mut Outcomes,
) -> Result<(), CliError> {
    let named = |error: TransferFailure| format!("{flag}: {error}; what was brought stays");
    let mut passing = Passing::new();
    let mut shown = Shown::new("brought", outcomes.expected);
    let mut head = Bytes::new();
    loop {
        let (kind, payload) = next(source).await.map_err(named)?;
        match passing.take(kind, &payload).map_err(named)? {
            Passed::Head => head = payload,
            Passed::Entries(_) => {
                let (entries, users) = pick(&payload, &mut keep).map_err(named)?;
                if users == 0 {
                    continue;
                }
                outcomes.brought += users;
                match push::payload(&head, &entries) {
                    None => outcomes.count(TOO_LARGE, users),
                    Some(ask) => {
                        let answer = push(target, to, &ask).await?;
                        outcomes.bytes += answer.bytes;
                        outcomes.count(INSTALLED, answer.users);
                        outcomes.count(HELD_OR_REFUSED, answer.left_out);
                    }
                }
                shown.set(outcomes.brought, outcomes.bytes);
            }
            Passed::Alive => {}
            Passed::Piece(last) => outcomes.count(TOO_LARGE, u64::from(last)),
            Passed::End(end) => {
                shown.end();
                outcomes.count(NOT_CLEAN, end.left_out);
                return match end.kind {
                    EndKind::Complete => Ok(()),
                    kind => Err(named(TransferFailure::Declined(kind)).into()),
                };
            }
        }
    }
}

/// Whether the replica would take entries of this stream.
pub(super) async fn probe(
    target: &mut TransferClient,
    to: &str,
    head: &[u8],
) -> Result<(), CliError> {
    let ask = push::probe(head).ok_or(TransferFailure::Torn)?;
    push(target, to, &ask).await.map(|_| ())
}

async fn push(target: &mut TransferClient, to: &str, ask: &[u8]) -> Result<End, CliError> {
    let named = |what: String| format!("--to {to}: {what}");
    target.ask(ask).await.map_err(|cut| named(cut.to_string()))?;
    let payload = match target.next().await.map_err(|cut| named(cut.to_string()))? {
        TransferFrame::End(payload) => payload,
        TransferFrame::Entry(_) => {
            return Err(
                named("it answers by entries: use the same program at both ends".into()).into()
            );
        }
    };
    let end = End::decode(&payload).map_err(|error| named(error.to_string()))?;
    match end.kind {
        EndKind::Complete => Ok(end),
        EndKind::Incompatible => {
            let what = "incompatible: it is of another cluster, hashes in another way, or shares no namespace of the \
                        same name, number and settings with whoever gives";
            Err(named(what.to_owned()).into())
        }
        kind => Err(named(TransferFailure::Declined(kind).to_string()).into()),
    }
}

async fn next<S: FrameSource>(source: &mut S) -> Result<(FrameKind, Bytes), TransferFailure> {
    source.next().await?.ok_or(TransferFailure::Torn)
}
