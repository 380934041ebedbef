//! Callers that mark and filter through every proxy, and hold each answer against what they know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use seen_client::{
    Client, ClientOptions, FilterAnswer, FilterCall, MarkCall, OptionsError, Session, WhenAway,
};
use seen_proto::model::{OnUnknown, Quality};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::DegradedReason;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::{self, User};
use super::stage::BigUser;
use super::tally::Tally;
use super::watchdog::Watchdog;
use crate::shutdown::Stop;

/// When callers give up.
pub(super) const GIVE_UP: Duration = Duration::from_millis(90);
/// How long a caller waits for one proxy before it asks another one as well, as callers with several proxies do.
const SECOND_PROXY_AFTER: Duration = Duration::from_millis(45);
/// Of so many Filters one is asked without a token.
const TOKENLESS_EVERY: u64 = 4;
/// How often calls are begun, and for how long at most they are made up for when that was missed.
const TICK: Duration = Duration::from_millis(5);
const MADE_UP_FOR: Duration = Duration::from_millis(50);
/// The kind of all items.
const KIND: u8 = 1;
/// Users who are asked about for no other reason than that replicas hold them, and how many at once.
const BYSTANDERS: u64 = 3_000;
const BYSTANDERS_AT_ONCE: usize = 16;
/// An item that nobody marks.
const NEVER: u64 = 1 << 50;
/// Items that one call of the last look asks about.
const LOOK_ITEMS: usize = 1_000;
/// Users who are looked at at once.
const LOOKS_AT_ONCE: usize = 8;
/// How often the last look repeats a question that storage could not answer.
const LOOK_ATTEMPTS: u32 = 100;

/// What the callers do.
#[derive(Clone, Debug)]
pub(super) struct LoadOptions {
    /// Where the proxies are.
    pub proxies: Vec<String>,
    /// The history.
    pub namespace: String,
    /// Users.
    pub users: u64,
    /// Filters a second at first, of all callers together.
    pub filters_per_s: u32,
    /// Marks a second at first; there are always so many of them to so many Filters.
    pub marks_per_s: u32,
    /// Where the random choices begin.
    pub seed: u64,
}

/// The callers.
pub(super) struct Load {
    options: LoadOptions,
    clients: Vec<Client>,
    users: Vec<User>,
    pub(super) tally: Tally,
    watchdog: Watchdog,
    filters_per_s: AtomicU32,
    /// Filters that were begun at that rate.
    begun: AtomicU64,
}

/// True if a write that ended so was not done, and will not be.
fn is_certainly_undone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Draining | ErrorKind::Overloaded)
}

/// A short name of why an answer is flagged.
fn reason_label(reason: DegradedReason) -> &'static str {
    match reason {
        DegradedReason::Unspecified => "unspecified",
        DegradedReason::StorageUnavailable => "storage unavailable",
        DegradedReason::Deadline => "deadline",
        DegradedReason::Overloaded => "overloaded",
        DegradedReason::TokenNotCovered => "token not covered",
        DegradedReason::FeedStale => "feed stale",
        DegradedReason::Contested => "contested",
        DegradedReason::ReplicaUnreachable => "replica unreachable",
    }
}

/// Random numbers that come again with the same seed (splitmix64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        (seen_filter::hash::mix(self.0) % end.max(1) as u64) as usize
    }
}

impl Load {
    /// Callers, ready to begin.
    ///
    /// # Errors
    /// An address that is none.
    pub(super) fn new(options: LoadOptions, watchdog: Watchdog) -> Result<Arc<Self>, OptionsError> {
        let clients = options.proxies.iter().map(|url| Client::new(ClientOptions::new(url)));
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        // Not the first numbers: those are somebody's on a database that is in use.
        let users = (0..options.users).map(|n| User::new(options.seed.wrapping_add(n))).collect();
        let filters_per_s = AtomicU32::new(options.filters_per_s);
        let (tally, begun) = (Tally::default(), AtomicU64::new(0));
        Ok(Arc::new(Self { options, clients, users, tally, watchdog, filters_per_s, begun }))
    }

    /// How many Filters are begun in a second.
    pub(super) fn filters_per_s(&self) -> u32 {
        self.filters_per_s.load(Ordering::Relaxed)
    }

    /// How many marks are.
    pub(super) fn marks_per_s(&self) -> u32 {
        let (filters, marks) = (self.options.filters_per_s.max(1), self.options.marks_per_s);
        let marks = u64::from(self.filters_per_s()) * u64::from(marks) / u64::from(filters);
        u32::try_from(marks).unwrap_or(u32::MAX)
    }

    /// So many Filters from now on, and marks in proportion.
    pub(super) fn set_filters_per_s(&self, rate: u32) {
        self.filters_per_s.store(rate, Ordering::Relaxed);
    }

    /// How many were begun at all.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Runs until `stop`, and then until every call that was begun is over.
    pub(super) async fn run(self: Arc<Self>, stop: Stop) {
        let mut callers = JoinSet::new();
        callers.spawn(Arc::clone(&self).paced(true, stop.clone()));
        callers.spawn(Arc::clone(&self).paced(false, stop.clone()));
        callers.spawn(async move { self.watchdog.watch_turns(&stop).await });
        while callers.join_next().await.is_some() {}
    }

    /// Begins calls at their rate, whatever becomes of those before: as users come.
    async fn paced(self: Arc<Self>, reads: bool, stop: Stop) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut draws = Draws(self.options.seed ^ u64::from(reads));
        let mut calls = JoinSet::new();
        let (mut count, mut due, mut last) = (0_u64, 0.0, Instant::now());
        while !stop.is_requested() {
            ticks.tick().await;
            while calls.try_join_next().is_some() {}
            let per_s = if reads { self.filters_per_s() } else { self.marks_per_s() };
            due += last.elapsed().min(MADE_UP_FOR).as_secs_f64() * f64::from(per_s.max(1));
            last = Instant::now();
            while due >= 1.0 {
                due -= 1.0;
                count += 1;
                calls.spawn(Arc::clone(&self).one(reads, count, &mut draws));
            }
        }
        while calls.join_next().await.is_some() {}
    }

    /// The call of this number.
    fn one(
        self: Arc<Self>,
        reads: bool,
        count: u64,
        draws: &mut Draws,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (user, client) = (draws.below(self.users.len()), draws.below(self.clients.len()));
        let seed = draws.below(usize::MAX) as u64;
        let with_token = !count.is_multiple_of(TOKENLESS_EVERY);
        async move {
            match reads {
                true => {
                    self.begun.fetch_add(1, Ordering::Relaxed);
                    self.filter(user, client, with_token, Draws(seed)).await;
                }
                false => self.mark(user, client).await,
            }
        }
    }

    /// Asks about a user with a long history. True if the answer was sure; what is wrong with it is counted.
    pub(super) async fn ask_big(&self, big: BigUser) -> bool {
        let step = (big.items / 200).max(1) as usize;
        let read = (1..=big.items).step_by(step).count();
        let never = (0..200).map(|n| ledger::NEVER_FROM + n);
        let candidates: Vec<u64> = (1..=big.items).step_by(step).chain(never).collect();
        let question = ledger::Question { candidates, read };
        let call = FilterCall::new(&self.options.namespace)
            .items(KIND, question.candidates.iter().copied())
            .on_unknown(OnUnknown::Show)
            .when_away(WhenAway::ShowAll);
        let began = Instant::now();
        let answer = self.asked(0, &Session::new(big.user), call).await;
        let ended = Instant::now();
        let starved = self.watchdog.starved_between(began, ended);
        self.tally.count(|counts| counts.in_time(ended - began, starved));
        let Ok(answer) = answer else { return false };
        if answer.is_flagged() {
            return false;
        }
        let (missed, _) = question.wrong(&answer.unseen);
        self.tally.count(|counts| counts.false_negatives += missed as u64);
        true
    }

    async fn mark(&self, user: usize, client: usize) {
        let user = &self.users[user];
        let item = user.next_item();
        let call = MarkCall::new(&self.options.namespace).item(KIND, item).timeout(GIVE_UP);
        let began = Instant::now();
        let mut marked = self.clients[client].mark(&user.session, call.clone()).await;
        if marked.as_ref().is_err_and(|error| is_certainly_undone(error.kind)) {
            let call = call.timeout(GIVE_UP.saturating_sub(began.elapsed()));
            marked = self.other(client).mark(&user.session, call).await;
        }
        let ended = Instant::now();
        let starved = self.watchdog.starved_between(began, ended);
        self.tally.count(|counts| counts.in_time(ended - began, starved));
        match marked {
            Ok(_) => {
                user.acknowledged(item);
                self.tally.count(|counts| counts.marks += 1);
            }
            Err(error) => self.tally.count(|counts| {
                *counts.marks_failed.entry(error.kind.label()).or_default() += 1;
            }),
        }
    }

    async fn filter(&self, user: usize, client: usize, with_token: bool, mut draws: Draws) {
        let user = &self.users[user];
        let question = user.question(with_token, &mut |end| draws.below(end));
        let call = FilterCall::new(&self.options.namespace)
            .items(KIND, question.candidates.iter().copied())
            .on_unknown(OnUnknown::Show)
            .when_away(WhenAway::ShowAll);
        let stranger = Session::new(user.stranger);
        let session = if with_token { &user.session } else { &stranger };
        let began = Instant::now();
        let answer = self.asked(client, session, call).await;
        let ended = Instant::now();
        let starved = self.watchdog.starved_between(began, ended);
        self.tally.count(|counts| {
            counts.filters += 1;
            counts.took(ended - began);
            counts.in_time(ended - began, starved);
            if let Ok(FilterAnswer {
                quality: Quality::Degraded { reason, .. }, fallback, ..
            }) = &answer
            {
                let of = if fallback.is_some() { &mut counts.made_up } else { &mut counts.flagged };
                *of += 1;
                *counts.flagged_why.entry(reason_label(*reason)).or_default() += 1;
                counts.flagged_starved += u64::from(starved);
            }
            match answer {
                Err(error) => *counts.refused.entry(error.kind.label()).or_default() += 1,
                Ok(answer) if answer.is_flagged() => {}
                Ok(answer) => {
                    let (missed, wrongly_seen) = question.wrong(&answer.unseen);
                    match with_token {
                        true => counts.false_negatives += missed as u64,
                        false => counts.false_negatives_tokenless += missed as u64,
                    }
                    counts.never += (question.candidates.len() - question.read) as u64;
                    counts.false_positives += wrongly_seen as u64;
                }
            }
        });
    }

    /// Asks one proxy, and another one as well where the first fails or takes long. The first answer counts.
    async fn asked(
        &self,
        client: usize,
        session: &Session,
        call: FilterCall,
    ) -> Result<FilterAnswer, ApiError> {
        let began = Instant::now();
        let strict = call.clone().when_away(WhenAway::Error).timeout(GIVE_UP);
        let first = self.clients[client].filter(session, strict);
        tokio::pin!(first);
        let soon = tokio::time::timeout(SECOND_PROXY_AFTER, &mut first).await;
        if let Ok(Ok(answer)) = soon {
            return Ok(answer);
        }
        let left = GIVE_UP.saturating_sub(began.elapsed());
        let second = self.other(client).filter(session, call.timeout(left));
        if soon.is_ok() {
            return second.await;
        }
        tokio::pin!(second);
        tokio::select! {
            Ok(answer) = &mut first => Ok(answer),
            answer = &mut second => answer,
        }
    }

    /// Another proxy than this one.
    fn other(&self, client: usize) -> &Client {
        &self.clients[(client + 1) % self.clients.len()]
    }

    /// Has users asked about of whom nobody looks at the answers, so that replicas hold many.
    pub(super) async fn bystanders(&self) {
        let first = self.options.seed.wrapping_add(self.options.users);
        let mut asked = JoinSet::new();
        for number in 0..BYSTANDERS {
            if asked.len() >= BYSTANDERS_AT_ONCE {
                asked.join_next().await;
            }
            let client = self.clients[number as usize % self.clients.len()].clone();
            let call = FilterCall::new(&self.options.namespace).items(KIND, [NEVER]);
            let session = Session::new(first.wrapping_add(number));
            asked.spawn(async move { client.filter(&session, call).await });
        }
        while asked.join_next().await.is_some() {}
    }

    /// Asks storage itself about acknowledged marks: those since the last time, or every one. How many there were, and how
    /// many are not there.
    ///
    /// # Errors
    /// Storage cannot be asked.
    pub(super) async fn look(&self, every: bool) -> Result<(u64, u64), ApiError> {
        let looks = self.users.iter().map(|user| async move {
            let items = if every { user.all() } else { user.since_last() };
            let mut missing = 0;
            for some in items.chunks(LOOK_ITEMS) {
                missing += self.missing(user, some).await?;
            }
            Ok::<_, ApiError>((items.len() as u64, missing))
        });
        let looks: Vec<_> = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).collect().await;
        let (mut all, mut missing) = (0, 0);
        for look in looks {
            let (looked, absent) = look?;
            all += looked;
            missing += absent;
        }
        Ok((all, missing))
    }

    async fn missing(&self, user: &User, items: &[u64]) -> Result<u64, ApiError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let call = FilterCall::new(&self.options.namespace)
                .items(KIND, items.iter().copied())
                .confirm(true)
                .timeout(Duration::from_secs(10));
            match self.clients[attempt as usize % self.clients.len()]
                .filter(&user.session, call)
                .await
            {
                Ok(answer) if !answer.is_flagged() => return Ok(answer.unseen.len() as u64),
                Ok(_) if attempt < LOOK_ATTEMPTS => {}
                // What is not known is neither there nor missing.
                Ok(_) => return Err(ApiError::new(ErrorKind::Unavailable, "no sure answer")),
                Err(error) if attempt >= LOOK_ATTEMPTS => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
