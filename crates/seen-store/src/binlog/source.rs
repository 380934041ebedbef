//! The task behind one reader: keeps a connection to the shard's primary, reads its log, and fills
//! the reader's queue. What is in the queue counts as told: a new connection goes on after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mysql_async::BinlogStream;
use mysql_async::binlog::events::Event;
use seen_filter::{
    FeedCursor, FeedError, FeedEvent, FeedId, FeedStart, GapScope, NamespaceId, Shard,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connect::{Session, Trouble};
use super::event::{LogEvent, is_whole};
use super::lag::Lag;
use super::meaning::Subject;
use super::place::{LogPlace, Place};
use super::probe::{Probe, Standing};
use super::reader::Queued;
use super::translate::{Stop, Translator};
use super::{BinlogOptions, BinlogShard};
use crate::metrics::FEED_GAPS;
use crate::mysql::ServerAddress;

/// How long the news that only foreign transactions were committed may wait.
const QUIET: Duration = Duration::from_millis(20);
/// First pause before a new connection, and the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A connection that says nothing for this many heartbeats is dead, but not sooner than this.
const SILENT_HEARTBEATS: u32 = 5;
const SILENT_MIN: Duration = Duration::from_secs(1);

/// What the readers of one feed share.
pub(super) struct Shared {
    pub options: BinlogOptions,
    pub subjects: HashMap<FeedId, Subject>,
    pub shards: HashMap<Shard, ShardState>,
    pub lags: HashMap<FeedId, Arc<Lag>>,
    pub closed: watch::Sender<bool>,
}

/// One shard, and what its readers know of it together.
pub(super) struct ShardState {
    pub config: BinlogShard,
    /// 0 until the server's history is found to have been rewound; from then on a random part of all
    /// its timelines, so that numbers of before are incomparable (coherence row 53).
    pub salt: watch::Sender<u64>,
}

impl Shared {
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }
}

pub(super) fn closed() -> FeedError {
    FeedError { message: "the change feed is closed".to_owned(), retry_helps: false }
}

/// Tells the opener where reading begins, or why it does not.
pub(super) type Started = oneshot::Sender<Result<FeedCursor, FeedError>>;

/// Starts a task that fills the queue returned. The feed and its shard must be known.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    feed: FeedId,
    start: FeedStart,
    started: Option<Started>,
) -> mpsc::Receiver<Queued> {
    let (queue, receiver) = mpsc::channel(shared.options.queue_events_max.max(1));
    if let (Some(subject), Some(shard)) =
        (shared.subjects.get(&feed), shared.shards.get(&feed.shard))
    {
        let place = match start {
            FeedStart::Head => None,
            FeedStart::At(cursor) => Some(Place::of(cursor, LogPlace::ByNumber)),
        };
        let source = Source {
            shared: Arc::clone(shared),
            feed,
            queue,
            started,
            subject: subject.clone(),
            translator: None,
            place,
            gap: None,
            primary: shard.config.primary.clone(),
            numbers: shard.config.namespace_ids.clone(),
            salt: shard.salt.subscribe(),
            closed: shared.closed.subscribe(),
            lag: shared.lags.get(&feed).cloned().unwrap_or_default(),
            progress: false,
            head_at: None,
        };
        tokio::spawn(source.run());
    }
    receiver
}

/// Why a connection ended.
enum End {
    /// Nobody reads any more.
    Closed,
    /// The primary is elsewhere now.
    Moved,
    Trouble(Trouble),
    /// The log does not go on from where reading stopped.
    Gap(&'static str),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What may happen while a log is followed.
enum News {
    End(End),
    Log(Option<Result<Event, mysql_async::Error>>),
    /// A heartbeat came, and nothing after it.
    Idle,
    /// Foreign transactions have waited for long enough.
    Quiet,
    /// Nothing came for too long.
    Dead,
}

/// When what happens while a log is followed.
struct Times {
    dead_at: Instant,
    quiet_at: Option<Instant>,
    /// The last event was a heartbeat.
    idle: bool,
}

struct Source {
    shared: Arc<Shared>,
    feed: FeedId,
    queue: mpsc::Sender<Queued>,
    started: Option<Started>,
    subject: Subject,
    /// What reads the log; made with the first connection.
    translator: Option<Translator>,
    /// Where to begin; `None` for the head.
    place: Option<Place>,
    /// A gap to tell of before reading goes on from the head.
    gap: Option<&'static str>,
    primary: watch::Receiver<Option<ServerAddress>>,
    /// Empty while the shard is not in use.
    numbers: watch::Receiver<HashMap<u16, NamespaceId>>,
    salt: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    lag: Arc<Lag>,
    /// True if the last connection read anything.
    progress: bool,
    /// When the place was read from the server, if it is its head.
    head_at: Option<Instant>,
}

impl Source {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            self.progress = false;
            let had_gap = self.gap.is_some();
            let end = self.connection().await;
            self.lag.lost();
            if self.progress {
                pause = PAUSE_MIN;
            }
            match end {
                End::Closed => return,
                End::Moved => continue,
                End::Gap(reason) => {
                    self.begin_gap(reason);
                    if !had_gap {
                        continue;
                    }
                }
                End::Trouble(trouble) => {
                    if !self.report(trouble) {
                        return;
                    }
                }
            }
            let jitter = rand::random_range(0.5..1.0);
            tokio::select! {
                () = gone(self.queue.clone(), self.closed.clone()) => return,
                () = sleep(pause.mul_f64(jitter)) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Tells the reader what is wrong; false if that was the opener, who is gone with it.
    fn report(&mut self, trouble: Trouble) -> bool {
        let (message, retry_helps) = match trouble {
            Trouble::Refused(message) => (message, false),
            Trouble::Lost(message) | Trouble::NoPlace(message) => (message, true),
        };
        let error = FeedError { message: format!("{}: {message}", self.feed), retry_helps };
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(error));
            return false;
        }
        // A connection that had worked may simply be made anew.
        if !self.progress || !retry_helps {
            let _ = self.queue.try_send(Queued::Trouble(error));
        }
        true
    }

    fn begin_gap(&mut self, reason: &'static str) {
        tracing::warn!(feed = %self.feed, reason, "the binary log does not go on where reading stopped");
        if reason == "rewound"
            && let Some(shard) = self.shared.shards.get(&self.feed.shard)
        {
            shard.salt.send_replace(rand::random_range(1..=u64::MAX));
        }
        self.gap = Some(reason);
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self) -> End {
        let within = Duration::from_millis(self.shared.options.connect_timeout_ms);
        let gone = gone(self.queue.clone(), self.closed.clone());
        // Dropping a half-made connection loses nothing: nothing has been told yet.
        let begun = tokio::select! {
            () = gone => return End::Closed,
            begun = async {
                let address = self.address().await;
                (timeout(within, self.begin(&address)).await, address)
            } => begun,
        };
        let (begun, address) = begun;
        let mut stream = match begun {
            Ok(Ok(stream)) => stream,
            Ok(Err(end)) => return end,
            Err(_) => {
                let ms = within.as_millis();
                return Trouble::Lost(format!("{address} did not answer within {ms} ms")).into();
            }
        };
        if self.tell(false, self.head_at).await.is_err() {
            return End::Closed;
        }
        self.gap = None;
        self.follow(&mut stream, &address).await
    }

    /// The primary's address, once it is known.
    async fn address(&mut self) -> ServerAddress {
        match self.primary.wait_for(Option::is_some).await.map(|address| address.clone()) {
            Ok(Some(address)) => address,
            // It will never be known.
            _ => std::future::pending().await,
        }
    }

    /// Connects, decides where to go on, and asks for the log. What is to be told first is in the
    /// translator.
    async fn begin(&mut self, address: &ServerAddress) -> Result<BinlogStream, End> {
        let shared = Arc::clone(&self.shared);
        let Some(shard) = shared.shards.get(&self.feed.shard) else { return Err(End::Closed) };
        // Known by now, also of a shard that was not in reach when the feed was made.
        self.subject.numbers = super::numbers_of(&shard.config, self.feed.namespace);
        let mut session = Session::open(&shared.options, &shard.config, address).await?;
        let head_at = Instant::now();
        self.head_at = None;
        let salt = *self.salt.borrow_and_update();
        let head = session.facts.head(salt);
        let known = match &self.translator {
            Some(translator) => Some(translator.place.clone()),
            None => self.place.clone(),
        };
        let landmark = self.translator.as_ref().and_then(|translator| translator.landmark);
        if let (None, Some(mut place)) = (self.gap, known) {
            session.facts.check(&mut place, salt).map_err(End::Gap)?;
            if let Some(row) = landmark
                && !session.has_landmark(&shard.config, &row).await?
            {
                return Err(End::Gap("rewound"));
            }
            let translator = self.translator(place, &session);
            translator.restart();
        } else {
            let gap = self.gap;
            let translator = self.translator(head.clone(), &session);
            translator.jump(head, gap);
            self.head_at = Some(head_at);
        }
        let place = self.translator.as_ref().map(|t| t.place.clone());
        let Some(place) = place else { return Err(End::Closed) };
        let stream = session.dump(&place, shared.options.heartbeat_ms).await;
        stream.map_err(|trouble| self.without_place(trouble))
    }

    /// The translator, told what this connection's server is like.
    fn translator(&mut self, place: Place, session: &Session) -> &mut Translator {
        let subject = &self.subject;
        let salt = *self.salt.borrow();
        let translator =
            self.translator.get_or_insert_with(|| Translator::new(subject.clone(), place.clone()));
        translator.place = place;
        translator.know(&session.facts, salt, &subject.numbers);
        translator
    }

    /// What it means that the server does not have the place.
    fn without_place(&self, trouble: Trouble) -> End {
        match trouble {
            Trouble::NoPlace(message) => {
                let by_cursor = self
                    .translator
                    .as_ref()
                    .is_none_or(|translator| translator.place.log == LogPlace::ByNumber);
                tracing::debug!(feed = %self.feed, message, "the server refuses to go on");
                End::Gap(if by_cursor || message.contains("purge") { "purged" } else { "rewound" })
            }
            trouble => End::Trouble(trouble),
        }
    }

    /// Reads the log until the connection ends.
    async fn follow(&mut self, stream: &mut BinlogStream, address: &ServerAddress) -> End {
        let heartbeat = Duration::from_millis(self.shared.options.heartbeat_ms);
        let silent = (heartbeat * SILENT_HEARTBEATS).max(SILENT_MIN);
        let mut probe = Probe::new(silent);
        let mut times = Times { dead_at: Instant::now() + silent, quiet_at: None, idle: false };
        loop {
            let told = match self.news(stream, address, &times).await {
                News::End(end) => return end,
                News::Idle => {
                    times.idle = false;
                    let at = Instant::now();
                    match self.standing(&mut probe, address).await {
                        Standing::Fresh => {
                            self.nothing_follows();
                            self.tell(true, Some(at)).await
                        }
                        Standing::Unproven => self.tell(true, None).await,
                        Standing::Stuck => {
                            let text = format!("{address} sends a log that it does not write");
                            return Trouble::Lost(text).into();
                        }
                    }
                }
                News::Quiet => self.tell(true, None).await,
                News::Dead => {
                    let ms = silent.as_millis();
                    return Trouble::Lost(format!("{address} said nothing for {ms} ms")).into();
                }
                News::Log(None) => {
                    return Trouble::Lost(format!("{address} ended the log")).into();
                }
                News::Log(Some(Err(error))) => return self.without_place(error.into()),
                News::Log(Some(Ok(event))) => {
                    let taken = self.take(&event);
                    // Also what was told before the event that could not be taken.
                    let told = self.tell(false, None).await;
                    times.dead_at = Instant::now() + silent;
                    match taken {
                        Ok(is_idle) => times.idle = is_idle,
                        Err(end) => return end,
                    }
                    told
                }
            };
            if told.is_err() {
                return End::Closed;
            }
            let has_quiet = self.translator.as_ref().is_some_and(Translator::has_quiet);
            let quiet_at = times.quiet_at.unwrap_or_else(|| Instant::now() + QUIET);
            times.quiet_at = has_quiet.then_some(quiet_at);
        }
    }

    fn nothing_follows(&self) {
        if let Some(translator) = &self.translator {
            self.lag.idle(translator.place.done);
        }
    }

    /// Waits for the next thing to happen.
    async fn news(
        &mut self,
        stream: &mut BinlogStream,
        address: &ServerAddress,
        times: &Times,
    ) -> News {
        let elsewhere =
            |now: &Option<ServerAddress>| now.as_ref().is_some_and(|now| now != address);
        tokio::select! {
            biased;
            () = self.queue.closed() => News::End(End::Closed),
            _ = self.closed.wait_for(|closed| *closed) => News::End(End::Closed),
            Ok(_) = self.primary.wait_for(elsewhere) => News::End(End::Moved),
            // Moved to servers that are not known here, or found to be wrong.
            Ok(_) = self.numbers.wait_for(HashMap::is_empty) => News::End(End::Moved),
            Ok(()) = self.salt.changed() => News::End(End::Gap("timeline")),
            // Without a share of the scheduler's budget: "not ready" must mean that nothing came.
            next = tokio::task::coop::unconstrained(stream.next()) => News::Log(next),
            () = std::future::ready(()), if times.idle => News::Idle,
            () = sleep_until(times.quiet_at.unwrap_or(times.dead_at)), if times.quiet_at.is_some() => {
                News::Quiet
            }
            () = sleep_until(times.dead_at) => News::Dead,
        }
    }

    /// Takes one event of the log; true if the server had nothing more when it sent it.
    fn take(&mut self, event: &Event) -> Result<bool, End> {
        let Some(translator) = &mut self.translator else { return Err(End::Closed) };
        if !is_whole(event) {
            let text = "an event of the log is damaged: its checksum is wrong";
            return Err(Trouble::Lost(text.to_owned()).into());
        }
        let log_event = LogEvent::from(event);
        match translator.take(log_event) {
            Ok(()) => {}
            Err(Stop::Rewound) => return Err(End::Gap("rewound")),
            Err(Stop::Refused(why)) => return Err(Trouble::Refused(why).into()),
        }
        let is_heartbeat = matches!(log_event.event_type, 27 | 41);
        // The first events are only about the log; the server's refusal may still follow them.
        let is_of_the_log = !matches!(log_event.event_type, 4 | 15 | 163);
        self.progress |= is_heartbeat || is_of_the_log;
        let is_idle = is_heartbeat && !translator.is_within();
        if !is_idle && is_of_the_log {
            self.lag.read(translator.place.done, event.header().timestamp());
        }
        Ok(is_idle)
    }

    /// What a heartbeat is worth.
    async fn standing(&self, probe: &mut Probe, address: &ServerAddress) -> Standing {
        match &self.translator {
            Some(translator) => {
                probe.heartbeat(&self.shared.options, address, &translator.place).await
            }
            None => Standing::Unproven,
        }
    }

    /// Queues what the translator has made; `idle` is when the server had nothing more, if it had not.
    async fn tell(&mut self, quiet_too: bool, mut idle: Option<Instant>) -> Result<(), ()> {
        let Some(translator) = &mut self.translator else { return Ok(()) };
        if quiet_too {
            translator.tell_quiet();
        }
        if let Some(started) = self.started.take() {
            let _ = started.send(Ok(translator.place.cursor()));
        }
        let mut events = std::mem::take(&mut translator.out).into_iter().peekable();
        while let Some((event, after)) = events.next() {
            if let FeedEvent::Gap { scope, reason } = event {
                metrics::counter!(FEED_GAPS, "reason" => reason).increment(1);
                let user = matches!(scope, GapScope::User(_));
                tracing::debug!(feed = %self.feed, reason, user, "events may be missing");
            }
            let idle = if events.peek().is_none() { idle.take() } else { None };
            let queued = Queued::Event { event, after, idle };
            self.queue.send(queued).await.map_err(|_| ())?;
        }
        if let Some(idle) = idle {
            // Where the queue is full, the reader is not idle.
            let _ = self.queue.try_send(Queued::Idle(idle));
        }
        Ok(())
    }
}

/// Resolves when nobody reads any more.
async fn gone(queue: mpsc::Sender<Queued>, mut closed: watch::Receiver<bool>) {
    tokio::select! {
        () = queue.closed() => {}
        _ = closed.wait_for(|closed| *closed) => {}
    }
}
