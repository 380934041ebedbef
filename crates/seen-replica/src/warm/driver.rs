//! A warm-up: from every live peer of the slot in turn, until each has given what it has. Which users a peer holds depends on
//! which ones were bound to it meanwhile, so that one peer is not enough.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::{Duration, sleep, timeout};

use super::error::TransferFailure;
use super::frame::{FrameKind, FrameSink, FrameSource};
use super::progress::{Progress, ProgressView};
use super::receiver::{Receiver, Took};
use super::wire::{Ask, End, EndKind};
use super::{dialect, lines};
use crate::replica::Replica;
use crate::rules::SlotSet;

/// Attempts at one donor.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before a donor is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often the own feed, and then the peers, are looked at until they are there.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The live peers of the own slot.
pub trait Donors: Send + Sync {
    /// Takes frames to a donor.
    type Sink: FrameSink;
    /// Brings its frames.
    type Source: FrameSource;

    /// Names of those that are ready and reachable at this moment, the best one first, oneself left out.
    fn live(&self) -> Vec<String>;

    /// Opens a way to one of them.
    fn open(
        &self,
        name: &str,
    ) -> impl Future<Output = io::Result<(Self::Sink, Self::Source)>> + Send;
}

/// Bounds of a warm-up.
#[derive(Clone, Debug)]
pub struct WarmupOptions {
    /// Whose users are wanted.
    pub slots: SlotSet,
    /// How many of each donor's users, hottest first, in thousandths.
    pub share_permille: u16,
    /// A donor that gives nothing for so long is given up.
    pub silence_max: Duration,
    /// How long to wait for the own feed to begin; without it nothing can be taken (rules R3 and R7).
    pub feed_wait_max: Duration,
    /// How long to wait for a first live peer: whoever starts has to find out first who is there.
    pub donors_wait_max: Duration,
}

impl WarmupOptions {
    /// Everything of these slots.
    pub const fn of(slots: SlotSet) -> Self {
        let seconds = Duration::from_secs;
        Self {
            slots,
            share_permille: 1_000,
            silence_max: seconds(5),
            feed_wait_max: seconds(30),
            donors_wait_max: seconds(2),
        }
    }
}

/// What a warm-up came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The figures at the end.
    pub progress: ProgressView,
    /// Donors that gave all they had.
    pub donors: u32,
    /// Streams that were given up, by [`TransferFailure::label`].
    pub failures: BTreeMap<&'static str, u64>,
    /// What became of the entries, by [`super::Taken::label`].
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Memory was full before the end.
    pub full: bool,
}

/// Takes users from the live peers until each has given all, or memory is full. A stream that breaks is begun again with
/// the next peer: what it had brought stays. Without a live peer it ends soon: the replica starts cold.
pub async fn warm_up<D: Donors>(
    replica: &Arc<Replica>,
    donors: &D,
    options: &WarmupOptions,
    progress: &Arc<Progress>,
) -> Summary {
    let mut summary = Summary::default();
    // Whatever ends this, nobody waits for it any longer.
    let over = Over(progress);
    let _ = timeout(options.feed_wait_max, until(|| replica.tried_all())).await;
    let _ = timeout(options.donors_wait_max, until(|| !donors.live().is_empty())).await;
    let mut attempts: BTreeMap<String, u32> = BTreeMap::new();
    let mut done: Vec<String> = Vec::new();
    loop {
        let live = donors.live();
        let left = live.iter().filter(|name| !done.contains(name));
        let left = left.filter(|name| attempts.get(*name).is_none_or(|n| *n < ATTEMPTS_MAX));
        // Whoever was tried least comes first, then the best.
        let Some(name) = left.min_by_key(|name| attempts.get(*name).copied().unwrap_or(0)) else {
            break;
        };
        let tried = attempts.entry(name.clone()).or_default();
        *tried += 1;
        if *tried > 1 {
            sleep(RETRY_PAUSE).await;
        }
        progress.set_donors(done.len(), done.len().max(live.len()));
        let mut receiver = Receiver::new(Arc::clone(replica), Arc::clone(progress));
        let result = take_from(donors, name, options, &mut receiver).await;
        for (outcome, count) in receiver.outcomes() {
            *summary.outcomes.entry(outcome).or_default() += count;
        }
        match result {
            Ok(took) => {
                tracing::info!(donor = name, ?took, "warmed by a peer");
                summary.donors += 1;
                summary.full |= took == Took::Full;
                done.push(name.clone());
            }
            Err(failure) => {
                replica.metrics.transfer_failed(&failure);
                tracing::warn!(donor = name, error = %failure, "a warm-up stream was given up");
                *summary.failures.entry(failure.label()).or_default() += 1;
                if failure.is_lasting() {
                    attempts.insert(name.clone(), ATTEMPTS_MAX);
                }
            }
        }
        if summary.full {
            break;
        }
    }
    drop(over);
    summary.progress = progress.view();
    summary
}

/// Ends the progress, also where the warm-up is dropped.
struct Over<'a>(&'a Progress);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        sleep(LOOK_EVERY).await;
    }
}

/// What this replica asks donors for.
pub fn ask(replica: &Replica, slots: SlotSet, share_permille: u16) -> Ask {
    Ask {
        dialect: dialect(replica),
        receiver: replica.incarnation,
        slots,
        share_permille,
        namespaces: lines(replica),
        users: Vec::new(),
    }
}

async fn take_from<D: Donors>(
    donors: &D,
    name: &str,
    options: &WarmupOptions,
    receiver: &mut Receiver,
) -> Result<Took, TransferFailure> {
    let silent = |_| TransferFailure::Silent { ms: options.silence_max.as_millis() as u64 };
    let opened = timeout(options.silence_max, donors.open(name)).await.map_err(silent)?;
    let (mut sink, mut source) = opened?;
    let ask = ask(receiver.replica(), options.slots, options.share_permille).encode();
    timeout(options.silence_max, sink.send(FrameKind::Ask, Bytes::from(ask)))
        .await
        .map_err(silent)??;
    loop {
        let next = timeout(options.silence_max, source.next()).await.map_err(silent)?;
        let Some((kind, payload)) = next? else {
            return Err(TransferFailure::Broken("the donor closed it before its end".to_owned()));
        };
        match receiver.take(kind, &payload)? {
            Took::More => yield_now().await,
            took => return Ok(took),
        }
    }
}

/// Takes a whole stream from where it lies, such as a file.
///
/// # Errors
/// [`TransferFailure`]; what was installed by then stays.
pub async fn load<S: FrameSource>(
    source: &mut S,
    receiver: &mut Receiver,
) -> Result<End, TransferFailure> {
    while let Some((kind, payload)) = source.next().await? {
        match receiver.take(kind, &payload)? {
            Took::More => yield_now().await,
            Took::Full => return Ok(receiver.answer(EndKind::Stopped)),
            Took::End(_) => return Ok(receiver.answer(EndKind::Complete)),
        }
    }
    Err(TransferFailure::Torn)
}
