//! A warm-up: from every live peer of the slot in turn, until each has given what it has. Which users a peer holds depends on
//! which ones were bound to it meanwhile, so that one peer is not enough.

use seen_filter::VirtualSet;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::error::TransferFailure;
use super::frame::{FrameKind, FrameSink, FrameSource};
use super::progress::{Progress, ProgressView};
use super::receiver::{Receiver, Took};
use super::wire::{Ask, End, EndKind, STREAM_VERSIONS};
use super::{dialect, lines};
use crate::replica::Replica;

/// Attempts at one donor. To be told that it is busy is none.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before a busy donor is asked again; doubled each time, and half of it differs between replicas.
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause of that kind.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(2);
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
    pub slots: VirtualSet,
    /// How many of each donor's users, hottest first, in thousandths.
    pub share_permille: u16,
    /// A donor that gives nothing for so long is given up.
    pub silence_max: Duration,
    /// How long to wait for the own feed to begin; without it nothing can be taken (rules R3 and R7).
    pub feed_wait_max: Duration,
    /// How long to wait for a first live peer: whoever starts has to find out first who is there.
    pub donors_wait_max: Duration,
    /// How long to ask each donor on that is busy with others, before it is given up.
    pub busy_wait_max: Duration,
    /// The longest pause before the first ask: replicas that start together do not ask at the same moment (coherence row 33).
    pub start_jitter_max: Duration,
}

impl WarmupOptions {
    /// Everything of these slots.
    pub const fn of(slots: VirtualSet) -> Self {
        let seconds = Duration::from_secs;
        Self {
            slots,
            share_permille: 1_000,
            silence_max: seconds(5),
            feed_wait_max: seconds(30),
            donors_wait_max: seconds(2),
            busy_wait_max: seconds(30),
            start_jitter_max: Duration::from_millis(200),
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
    /// How often a donor was busy with others.
    pub busy: u64,
    /// Streams that were given up, by [`TransferFailure::label`].
    pub failures: BTreeMap<&'static str, u64>,
    /// What became of the entries, by [`super::Taken::label`].
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Memory was full before the end.
    pub full: bool,
}

/// What was tried at the donors of a warm-up.
struct Tried {
    donors: BTreeMap<String, Attempts>,
    /// Since when a donor has had something else to do whenever it was asked.
    busy_since: BTreeMap<String, Instant>,
    /// Tells the pauses of replicas apart.
    seed: u64,
    pauses: u64,
}

/// What was tried at one donor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Attempts {
    /// It has given all, or is given up.
    done: bool,
    /// How often it was busy: whoever is not comes first.
    busy: u32,
    failed: u32,
}

impl Tried {
    fn new(replica: &Replica) -> Self {
        let (donors, seed) = (BTreeMap::new(), replica.incarnation.get());
        Self { donors, busy_since: BTreeMap::new(), seed, pauses: 0 }
    }

    fn of(&mut self, name: &str) -> &mut Attempts {
        self.donors.entry(name.to_owned()).or_default()
    }

    /// Whom to ask next: whoever was tried least, then the best.
    fn next<'a>(&self, live: &'a [String]) -> Option<(&'a String, Attempts)> {
        let tried = |name: &String| self.donors.get(name).copied().unwrap_or_default();
        let left = live.iter().map(|name| (name, tried(name))).filter(|(_, tried)| !tried.done);
        left.min_by_key(|(_, tried)| *tried)
    }

    fn failed(&mut self, name: &str, lasting: bool) {
        let tried = self.of(name);
        tried.failed += 1;
        tried.done |= lasting || tried.failed >= ATTEMPTS_MAX;
    }

    /// A donor is busy. False if it was waited for long enough.
    fn busy(&mut self, name: &str, wait_max: Duration) -> bool {
        let since = *self.busy_since.entry(name.to_owned()).or_insert_with(Instant::now);
        let tried = self.of(name);
        tried.busy += 1;
        tried.done = since.elapsed() >= wait_max;
        !tried.done
    }

    /// Waits between half of `pause` and all of it.
    async fn pause(&mut self, pause: Duration) {
        self.pauses += 1;
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let share = (hasher.hash_one((self.seed, self.pauses)) % 1_024) as u32;
        sleep(pause / 2 + pause / 2 * share / 1_024).await;
    }

    /// Waits before a donor at which this was tried is asked again.
    async fn before(&mut self, tried: Attempts) {
        if tried.busy > 0 {
            let doubled = BUSY_PAUSE * (1 << (tried.busy - 1).min(8));
            self.pause(doubled.min(BUSY_PAUSE_MAX)).await;
        } else if tried.failed > 0 {
            self.pause(RETRY_PAUSE).await;
        }
    }
}

/// Takes users from the live peers until each has given all, or memory is full. A stream that breaks is begun again with
/// the next peer: what it had brought stays. A peer that is busy is asked again after the others, for a while. Without a live peer
/// it ends soon: the replica starts cold.
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
    let mut tried = Tried::new(replica);
    tried.pause(options.start_jitter_max).await;
    let mut done = 0;
    loop {
        let live = donors.live();
        let Some((name, before)) = tried.next(&live) else { break };
        tried.before(before).await;
        progress.set_donors(done, done.max(live.len()));
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
                done += 1;
                tried.of(name).done = true;
            }
            Err(TransferFailure::Declined(EndKind::Busy))
                if tried.busy(name, options.busy_wait_max) =>
            {
                tracing::debug!(donor = name, "busy with others; it is asked again");
                summary.busy += 1;
            }
            Err(failure) => {
                replica.metrics.transfer_failed(&failure);
                tracing::warn!(donor = name, error = %failure, "a warm-up stream was given up");
                *summary.failures.entry(failure.label()).or_default() += 1;
                tried.failed(name, failure.is_lasting());
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
pub fn ask(replica: &Replica, slots: VirtualSet, share_permille: u16) -> Ask {
    Ask {
        versions: STREAM_VERSIONS,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_donor_is_waited_for_by_itself() {
        let (donors, busy_since) = (BTreeMap::new(), BTreeMap::new());
        let mut tried = Tried { donors, busy_since, seed: 1, pauses: 0 };
        let wait_max = Duration::from_secs(30);
        assert!(tried.busy("first", wait_max));
        // It gives what it has; meanwhile the other one begins with something else.
        sleep(wait_max + Duration::from_secs(10)).await;
        assert!(tried.busy("second", wait_max), "it was not waited for yet");
        sleep(wait_max).await;
        assert!(!tried.busy("second", wait_max), "for long enough");
    }
}
