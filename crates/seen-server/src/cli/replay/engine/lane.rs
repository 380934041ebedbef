//! One thread that generates load: its users, each with the events still to come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use seen_client::{Client, FilterCall, Item, MarkCall, Session};
use seen_filter::UserId;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time;

use super::reader::Step;
use super::{ERRORS_MAX, Example, LOOKAHEAD_EVENTS_MAX, LaneOptions, rank};
use crate::cli::CliError;
use crate::cli::calls::described;
use crate::cli::replay::figures::Verdict;
use crate::cli::replay::truth::{Page, Truth};

/// How far behind its rate a thread may fall and still make up for it.
const BURST_MAX: Duration = Duration::from_millis(100);
/// Items of a user that an example shows.
const EXAMPLE_ITEMS: usize = 2;

/// One thread that generates load.
pub(super) struct Lane {
    own: LaneOptions,
    client: Client,
    users: RefCell<AHashMap<UserId, User>>,
    /// Events that wait in `users`.
    waiting: Cell<usize>,
    waiting_max: usize,
    room: Notify,
    next_start: Cell<time::Instant>,
}

/// One user.
struct User {
    steps: VecDeque<Step>,
    /// True while a task works its events off.
    running: bool,
    truth: Truth,
    session: Session,
}

impl Lane {
    pub(super) fn new(own: LaneOptions, client: Client) -> Self {
        let waiting_max = LOOKAHEAD_EVENTS_MAX / own.options.threads;
        Self {
            own,
            client,
            users: RefCell::default(),
            waiting: Cell::new(0),
            waiting_max,
            room: Notify::new(),
            next_start: Cell::new(time::Instant::now()),
        }
    }

    /// Works all events off. Those of one user stay in order: one task at a time has a user.
    pub(super) async fn run(
        self,
        mut events: mpsc::Receiver<Vec<Step>>,
    ) -> Result<Option<Example>, CliError> {
        let lane = Rc::new(self);
        let tasks_max = lane.own.options.concurrency.div_ceil(lane.own.options.threads);
        let mut ready: VecDeque<UserId> = VecDeque::new();
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut open = true;
        loop {
            while tasks.len() < tasks_max
                && let Some(user) = ready.pop_front()
            {
                tasks.spawn_local(Rc::clone(&lane).work_off(user));
            }
            let room = lane.waiting.get() < lane.waiting_max;
            tokio::select! {
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    done.map_err(|error| format!("a replayed user's task failed: {error}"))?;
                }
                chunk = events.recv(), if open && room => match chunk {
                    Some(chunk) => lane.take(chunk, &mut ready),
                    None => open = false,
                },
                () = lane.room.notified(), if open && !room => {}
                else => break,
            }
            if lane.own.progress.gave_up() {
                // Dropping the receiver ends the reader.
                break;
            }
        }
        Ok(lane.example())
    }

    fn take(&self, chunk: Vec<Step>, ready: &mut VecDeque<UserId>) {
        self.waiting.set(self.waiting.get() + chunk.len());
        let mut users = self.users.borrow_mut();
        let seed = self.own.options.seed;
        for step in chunk {
            let user = users.entry(step.user).or_insert_with(|| User {
                steps: VecDeque::new(),
                running: false,
                truth: Truth::new(seed, step.user.get()),
                session: Session::new(step.user.get()),
            });
            user.steps.push_back(step);
            if !user.running {
                user.running = true;
                ready.push_back(step.user);
            }
        }
    }

    /// Works off what there is of one user, until there is nothing more.
    async fn work_off(self: Rc<Self>, user: UserId) {
        while let Some((step, page, session)) = self.next(user) {
            self.pace().await;
            if self.own.stop.is_requested() || self.own.progress.gave_up() {
                return;
            }
            self.filter(&step, page, &session).await;
            self.mark(&step, &session).await;
            self.own.progress.figures.event();
        }
    }

    /// The user's next event with a page drawn for it.
    fn next(&self, user: UserId) -> Option<(Step, Page, Session)> {
        let mut users = self.users.borrow_mut();
        let user = users.get_mut(&user)?;
        let Some(step) = user.steps.pop_front() else {
            user.running = false;
            return None;
        };
        self.waiting.set(self.waiting.get() - 1);
        if self.waiting.get() < self.waiting_max {
            self.room.notify_one();
        }
        let options = &self.own.options;
        let kind = step.item.kind.get();
        let page = user.truth.page(options.candidates, &self.own.universe, step.universe_len, kind);
        Some((step, page, user.session.clone()))
    }

    /// Waits for this event's turn, where the rate is limited.
    async fn pace(&self) {
        let Some(rate) = self.own.options.rate else { return };
        let own_rate = rate / self.own.options.threads as f64;
        let start = self.next_start.get();
        // What could not be started in time is made up for, but not by a burst.
        let earliest = time::Instant::now() - BURST_MAX;
        let next = start + Duration::from_secs_f64(1.0 / own_rate);
        self.next_start.set(next.max(earliest));
        time::sleep_until(start).await;
    }

    async fn filter(&self, step: &Step, page: Page, session: &Session) {
        let mut call = FilterCall::new(&self.own.options.namespace);
        for run in page.candidates.chunk_by(|(a, _), (b, _)| a.kind == b.kind) {
            let kind = run.first().map_or(0, |(item, _)| item.kind.get());
            call = call.items(kind, run.iter().map(|(item, _)| item.id.get()));
        }
        let begin = Instant::now();
        match self.client.filter(session, call).await {
            Ok(answer) => {
                let flagged = answer.is_flagged();
                let verdict = Verdict::of(&page.candidates, &answer.unseen, flagged);
                self.own.progress.figures.filtered(step.user, begin.elapsed(), &verdict);
            }
            Err(error) => self.failed("Filter", error),
        }
    }

    async fn mark(&self, step: &Step, session: &Session) {
        let (kind, id) = (step.item.kind.get(), step.item.id.get());
        let call = MarkCall::new(&self.own.options.namespace).item_at(kind, id, step.at.get());
        let begin = Instant::now();
        let outcome = self.client.mark(session, call).await;
        let took = begin.elapsed();
        let mut users = self.users.borrow_mut();
        let Some(user) = users.get_mut(&step.user) else { return };
        match outcome {
            Ok(()) => {
                let first = user.truth.count() == 0;
                user.truth.read(step.item);
                self.own.progress.figures.marked(took, first);
            }
            Err(error) => {
                user.truth.uncertain(step.item);
                drop(users);
                self.failed("Mark", error);
            }
        }
    }

    /// Counts a failed call, and gives up when there are too many.
    fn failed(&self, call: &str, error: seen_client::ApiError) {
        if self.own.progress.figures.failed(call, &error) == ERRORS_MAX {
            let last = described(error);
            let what = format!("{ERRORS_MAX} calls failed, giving up; the last one: {last}");
            self.own.progress.give_up(what);
        }
    }

    /// A user of this thread for trying the other commands on.
    fn example(&self) -> Option<Example> {
        let mut users = self.users.borrow_mut();
        let (id, user) = users.iter_mut().max_by_key(|(_, user)| rank(user.truth.count()))?;
        let read: Vec<Item> = (0..EXAMPLE_ITEMS).filter_map(|n| user.truth.latest(n)).collect();
        let kind = read.first()?.kind.get();
        let unread = user.truth.unread(&self.own.universe.items(), kind);
        Some(Example { user: id.get(), count: user.truth.count(), read, unread })
    }
}
