//! The giving side: one stream a receiver, hottest users first, each entry under rule R3 (position first, bits second, clean
//! ones only), within a bounded share of the CPU.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use seen_filter::{Incarnation, NamespaceId, Tick, UserId};
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::error::TransferFailure;
use super::frame::{FrameKind, FrameSink};
use super::lines;
use super::turns::{DonorLimits, Turn, Turns};
use super::wire::{Ask, End, EndKind, Header, STREAM_VERSIONS};
use super::writer::{EntryWriter, alive_frame, header_frame};
use crate::replica::Replica;
use crate::rules::{Input, Outcome, Walk};

/// Users between two looks at the clock.
const USERS_PER_LOOK: usize = 32;
/// Looks at the clock in one turn, at most: whatever the clock says, others get theirs.
const LOOKS_PER_TURN: usize = 8;

/// How often it is looked at whether the own feed has proved itself fresh.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often a donor that finds nothing to give says that it is still at work: whoever waits gives a silent one up.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Gives a replica's entries to others.
pub struct Donor {
    replica: Arc<Replica>,
    limits: DonorLimits,
    turns: tokio::sync::Mutex<Turns>,
    receivers: Mutex<BTreeSet<Incarnation>>,
}

impl Donor {
    /// A donor of this replica's entries. One is enough for all streams, which share its limits.
    pub fn new(replica: Arc<Replica>, limits: DonorLimits) -> Self {
        let turns = tokio::sync::Mutex::new(Turns::new(limits));
        Self { replica, limits, turns, receivers: Mutex::default() }
    }

    /// The replica whose entries these are.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Gives what is asked for, to the end. Dropping the future stops it.
    ///
    /// # Errors
    /// [`TransferFailure`], if the frames cannot be sent, or nothing can be given: the receiver is told as well.
    pub async fn give<S: FrameSink>(
        &self,
        ask: &Ask,
        sink: &mut S,
    ) -> Result<End, TransferFailure> {
        if let Err(failure) = super::same_dialect(&self.replica, ask.dialect) {
            decline(sink, EndKind::Incompatible).await?;
            return Err(failure);
        }
        let namespaces = self.shared(ask);
        if namespaces.is_empty() {
            decline(sink, EndKind::Incompatible).await?;
            return Err(TransferFailure::Namespaces);
        }
        let Some(_seat) = self.take_seat(ask.receiver) else {
            decline(sink, EndKind::Busy).await?;
            return Err(TransferFailure::Declined(EndKind::Busy));
        };
        let mut alive = Alive::begin();
        let is_fresh = self.proves_fresh(&namespaces, &mut alive, sink).await?;
        let begun = is_fresh.then(|| Stream::begin(&self.replica, ask, &namespaces)).flatten();
        let Some(mut stream) = begun else {
            decline(sink, EndKind::Busy).await?;
            return Err(TransferFailure::Declined(EndKind::Busy));
        };
        while self.work(&mut stream, Stream::count).await {
            alive.say(sink).await?;
            yield_now().await;
        }
        stream.announce(ask.share_permille);
        let header = stream.header(ask, &namespaces);
        sink.send(FrameKind::Entry, header_frame(&header)).await?;
        loop {
            let more = self.work(&mut stream, Stream::fill).await;
            while let Some(frame) = stream.writer.pop() {
                self.replica.metrics.given_bytes.increment(frame.len() as u64);
                sink.send(FrameKind::Entry, frame).await?;
            }
            if !more {
                break;
            }
            alive.say(sink).await?;
            yield_now().await;
        }
        let end = stream.writer.end(EndKind::Complete, stream.left_out);
        self.replica.metrics.given_users.increment(end.users);
        sink.send(FrameKind::End, Bytes::from(end.encode())).await?;
        Ok(end)
    }

    /// Waits until the own feed has proved since now that nothing was outstanding. Whoever asks follows it already, and
    /// compares positions: a donor that reads on in a log which was cut off meanwhile, and does not know, would
    /// name places beyond what it has seen of the one that is there now (coherence row 20).
    async fn proves_fresh<S: FrameSink>(
        &self,
        namespaces: &[usize],
        alive: &mut Alive,
        sink: &mut S,
    ) -> Result<bool, TransferFailure> {
        let asked = self.replica.ticker.now();
        let held = || namespaces.iter().map(|at| &self.replica.namespaces[*at].rules);
        // A fence that was begun just before comes back first; one whose feed takes longer than that is stale.
        let stale_us = held().map(|rules| rules.settings().feed_stale_us_max).max().unwrap_or(0);
        let until = asked.plus_us(stale_us.saturating_mul(2));
        while !held().all(|rules| rules.fresh_since(asked)) {
            if self.replica.ticker.now() >= until {
                return Ok(false);
            }
            alive.say(sink).await?;
            sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }

    /// One stretch of work, when it is this stream's turn. False at the end.
    async fn work(&self, stream: &mut Stream, part: fn(&mut Stream, Tick) -> bool) -> bool {
        let ticker = self.replica.ticker;
        let mut turns = self.turns.lock().await;
        let us = loop {
            match turns.next(ticker.now()) {
                Turn::Work(us) => break us,
                Turn::Rest(until) => sleep_until(ticker.instant(until)).await,
            }
        };
        let began = ticker.now();
        let more = part(stream, began.plus_us(us));
        turns.worked(ticker.now().since_us(began));
        more
    }

    /// The namespaces that both ends hold in the same way, under the same number.
    fn shared(&self, ask: &Ask) -> Vec<usize> {
        let own = lines(&self.replica);
        let both = own.iter().filter(|line| ask.namespaces.contains(line));
        both.map(|line| usize::from(line.number.get())).collect()
    }

    fn take_seat(&self, receiver: Incarnation) -> Option<Seat<'_>> {
        let mut receivers = self.receivers.lock();
        let free = receivers.len() < self.limits.streams_max && receivers.insert(receiver);
        // Not made where it is not free: it would give the other stream's seat back.
        free.then(|| Seat { receivers: &self.receivers, receiver })
    }
}

/// When a donor last said that it is at work.
struct Alive(Instant);

impl Alive {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Says so again if it is time, and lets go what was gathered.
    async fn say<S: FrameSink>(&mut self, sink: &mut S) -> Result<(), TransferFailure> {
        if self.0.elapsed() >= ALIVE_EVERY {
            sink.send(FrameKind::Entry, alive_frame()).await?;
            sink.flush().await?;
            self.0 = Instant::now();
        }
        Ok(())
    }
}

async fn decline<S: FrameSink>(sink: &mut S, kind: EndKind) -> Result<(), TransferFailure> {
    Ok(sink.send(FrameKind::End, Bytes::from(End::empty(kind).encode())).await?)
}

/// A receiver's only stream.
struct Seat<'a> {
    receivers: &'a Mutex<BTreeSet<Incarnation>>,
    receiver: Incarnation,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.receivers.lock().remove(&self.receiver);
    }
}

/// One stream under way.
struct Stream {
    replica: Arc<Replica>,
    /// The walks, by namespace. None where the users are named.
    walks: VecDeque<(usize, Walk)>,
    /// How many of them have counted their users.
    counted: usize,
    /// Users met and not given yet, hottest first.
    met: VecDeque<(usize, UserId, u8)>,
    found: Vec<(UserId, u8)>,
    users: u64,
    hot_users: u64,
    bytes: u64,
    /// Users that may still be met.
    left: u64,
    writer: EntryWriter,
    left_out: u64,
}

impl Stream {
    /// `None` while too many walks are under way.
    fn begin(replica: &Arc<Replica>, ask: &Ask, namespaces: &[usize]) -> Option<Self> {
        let mut stream = Self {
            replica: Arc::clone(replica),
            walks: VecDeque::new(),
            counted: 0,
            met: VecDeque::new(),
            found: Vec::new(),
            users: 0,
            hot_users: 0,
            bytes: 0,
            left: u64::MAX,
            writer: EntryWriter::new(),
            left_out: 0,
        };
        if !ask.users.is_empty() {
            for &at in namespaces {
                stream.met.extend(ask.users.iter().map(|user| (at, *user, 1)));
            }
            stream.users = stream.met.len() as u64;
            return Some(stream);
        }
        for &at in namespaces {
            let walk = replica.namespaces[at].rules.begin_walk(ask.slots)?;
            stream.walks.push_back((at, walk));
        }
        Some(stream)
    }

    /// Counts on. False once all walks have counted.
    fn count(&mut self, until: Tick) -> bool {
        for _ in 0..LOOKS_PER_TURN {
            let Some((at, walk)) = self.walks.get_mut(self.counted) else { return false };
            if !self.replica.namespaces[*at].rules.count_on(walk) {
                self.counted += 1;
            }
            if self.replica.ticker.now() >= until {
                break;
            }
        }
        true
    }

    /// What was counted, and how much of it is wanted.
    fn announce(&mut self, share_permille: u16) {
        for (at, walk) in &self.walks {
            self.users += walk.users();
            self.hot_users += walk.hot_users();
            let totals = self.replica.namespaces[*at].rules.totals();
            self.bytes += totals.bytes * walk.users() / totals.users.max(1);
        }
        if self.walks.is_empty() {
            // The users are named.
            return;
        }
        let share = |of: u64| of.saturating_mul(u64::from(share_permille)) / 1_000;
        if share_permille == 0 {
            // A look at what there is.
            self.left = 0;
        } else if share_permille < 1_000 {
            self.left = share(self.users);
            (self.users, self.bytes) = (self.left, share(self.bytes));
            self.hot_users = self.hot_users.min(self.left);
        }
    }

    fn header(&self, ask: &Ask, namespaces: &[usize]) -> Header {
        let own = lines(&self.replica);
        Header {
            // There is one: others are no asks.
            version: STREAM_VERSIONS.common(ask.versions).unwrap_or(STREAM_VERSIONS.oldest),
            dialect: super::dialect(&self.replica),
            donor: self.replica.incarnation,
            users: self.users,
            hot_users: self.hot_users,
            bytes: self.bytes,
            namespaces: own
                .into_iter()
                .filter(|line| namespaces.contains(&usize::from(line.number.get())))
                .collect(),
        }
    }

    /// Fills frames until one is ready or the time is up. False once everything is in frames.
    fn fill(&mut self, until: Tick) -> bool {
        for _ in 0..LOOKS_PER_TURN {
            for _ in 0..USERS_PER_LOOK {
                if self.left == 0 || (self.met.is_empty() && !self.meet()) {
                    self.writer.flush();
                    return false;
                }
                // One step that met nobody took as long as some that did.
                let Some((namespace, user, heat)) = self.met.pop_front() else { break };
                self.left -= 1;
                self.give(namespace, user, heat);
            }
            if self.writer.has_ready() || self.replica.ticker.now() >= until {
                break;
            }
        }
        true
    }

    /// One step of the walks, the namespaces in turns. False at the end of all walks.
    fn meet(&mut self) -> bool {
        let Some((at, mut walk)) = self.walks.pop_front() else { return false };
        let rules = &self.replica.namespaces[at].rules;
        let more = rules.walk_on(&mut walk, &mut self.found);
        self.met.extend(self.found.drain(..).map(|(user, heat)| (at, user, heat)));
        match more {
            true => self.walks.push_back((at, walk)),
            false => rules.end_walk(&walk),
        }
        true
    }

    fn give(&mut self, namespace: usize, user: UserId, heat: u8) {
        match self.replica.step(namespace, self.replica.ticker.now(), Input::Donate { user }) {
            Outcome::Donated(bytes) => {
                self.writer.push((NamespaceId::new(namespace as u16), user), heat, &bytes);
            }
            _ => self.left_out += 1,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for (at, walk) in &self.walks {
            self.replica.namespaces[*at].rules.end_walk(walk);
        }
    }
}
