//! A small world as a `stateright` model: what has happened before, what may happen once each, and
//! everything that follows from it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "sabotage")]
use seen_replica::rules::Rule;
use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::landmark::{Landmark, Reached};
use crate::world::build::Build;
use crate::world::write::{Op, OpState};
use crate::world::{Action, Clock, Config, Promise, Story, World, hash_of};

/// States, counted as often as they are reached, at which a search is given up: a small world must be
/// small enough to be tried to its end.
const REACHED_MAX: usize = 600_000;
/// How many builds each replica runs before all heals. A store that is late again and again makes
/// replicas build again and again, without end.
const BUILDS: u32 = 3;

/// A small world in which everything is tried.
#[derive(Clone, Debug)]
pub struct SmallWorld {
    /// Its name.
    pub name: &'static str,
    /// It has at least so many states: what did not happen proves nothing.
    pub states_min: usize,
    /// What must be reached in it.
    pub shows: &'static [Landmark],
    config: Config,
    /// What has happened before.
    before: Vec<Action>,
    /// What happens once each, at any moment and in any order.
    once: Vec<Action>,
    /// Replicas to which the feed delivers.
    fed: Vec<u8>,
    /// Batches may end anywhere, also before what is complete is said.
    cut: bool,
    /// Several writes may share a commit.
    grouped: bool,
    /// Replicas whose writes are committed and acknowledged at once, since only others are of
    /// interest.
    prompt: Vec<u8>,
    /// Other things may come between a read, its point check, and the answer.
    slow_reads: bool,
    /// Replicas follow what the map of slots gives them, each at its own pace.
    mapped: bool,
    /// The last build of each replica that may go on before all heals.
    builds: u32,
    pub(crate) reached: Arc<Reached>,
}

impl SmallWorld {
    /// A world in which both replicas follow the feed and batches are whole.
    pub(crate) fn new(config: Config, before: &[Action], once: &[Action]) -> Self {
        Self {
            name: "",
            states_min: 0,
            shows: &[],
            config: Config {
                clock: Clock::PerReplica,
                pages: 1,
                partitions: 1,
                untold: true,
                ..config
            },
            before: before.to_vec(),
            once: once.to_vec(),
            fed: vec![0, 1],
            cut: false,
            grouped: false,
            prompt: Vec::new(),
            slow_reads: false,
            mapped: false,
            builds: BUILDS,
            reached: Arc::default(),
        }
    }

    /// The same, with a name, how many states it has at least, and what must be reached.
    #[must_use]
    pub(crate) fn named(
        self,
        name: &'static str,
        states_min: usize,
        shows: &'static [Landmark],
    ) -> Self {
        Self { name, states_min, shows, ..self }
    }

    /// The same, with batches cut anywhere.
    #[must_use]
    pub(crate) fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// The same, with writes that may share a commit.
    #[must_use]
    pub(crate) fn grouped(self) -> Self {
        Self { grouped: true, ..self }
    }

    /// The same, with writes of these replicas that are done at once.
    #[must_use]
    pub(crate) fn prompt(self, prompt: &[u8]) -> Self {
        Self { prompt: prompt.to_vec(), ..self }
    }

    /// The same, with point checks that other things overtake.
    #[must_use]
    pub(crate) fn slow_reads(self) -> Self {
        Self { slow_reads: true, ..self }
    }

    /// The same, with replicas that learn, sooner or later, that their fences are written.
    #[must_use]
    pub(crate) fn told_of_fences(mut self) -> Self {
        self.config.untold = false;
        self
    }

    /// The same, with so many partitions of the feed.
    #[must_use]
    pub(crate) fn partitions(mut self, partitions: usize) -> Self {
        self.config.partitions = partitions;
        self
    }

    /// The same, with builds that read this many pages.
    #[must_use]
    pub(crate) fn pages(mut self, pages: u64) -> Self {
        self.config.pages = pages;
        self
    }

    /// The same, with no more than this many builds at each replica before all heals.
    #[must_use]
    pub(crate) fn builds(self, builds: u32) -> Self {
        Self { builds, ..self }
    }

    /// The same, with a feed that only these replicas hear.
    #[must_use]
    pub(crate) fn fed(self, fed: &[u8]) -> Self {
        Self { fed: fed.to_vec(), ..self }
    }

    /// The same, with replicas that follow what the map of slots gives them.
    #[must_use]
    pub(crate) fn mapped(self) -> Self {
        Self { mapped: true, ..self }
    }

    /// The same, without the lines that defend a rule.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        self.config.sabotage = Some(rule);
        self
    }

    /// How far it is bounded.
    pub fn bounds(&self) -> String {
        let once: Vec<String> = self.once.iter().map(|action| format!("{action:?}")).collect();
        let builds = self.builds;
        format!("once each: {}; builds of a replica before all heals: {builds}", once.join(", "))
    }

    /// The world after these actions, and whether each of them did anything.
    fn play(&self, actions: &[Action], tell: bool) -> (World, bool) {
        let mut world = World::new(self.config);
        if tell {
            world.story = Some(Story::default());
        }
        for action in &self.before {
            world.act(*action);
        }
        let mut moved = true;
        for action in actions {
            moved = world.act(*action);
        }
        (world, moved)
    }

    /// The story of these actions.
    fn tell(&self, actions: &[Action]) -> String {
        let (mut world, _) = self.play(actions, true);
        if world.violation.is_none() {
            world.heal();
        }
        world.story.unwrap_or_default().to_string()
    }

    /// What of `once` has not happened in these actions.
    fn left(&self, actions: &[Action]) -> Vec<usize> {
        let mut left: Vec<usize> = (0..self.once.len()).collect();
        for action in actions {
            if let Some(at) = left.iter().position(|at| self.once[*at] == *action) {
                left.remove(at);
            }
        }
        left
    }

    fn state(&self, actions: Vec<Action>) -> Option<State> {
        let (mut world, moved) = self.play(&actions, false);
        if !moved {
            return None;
        }
        let left = self.left(&actions);
        let fingerprint = hash_of(&(world.fingerprint(), &left));
        let mut next: Vec<Action> = left.iter().map(|at| self.once[*at]).collect();
        let consequences = world.consequences(self);
        if let Some(at_once) = world.at_once(self) {
            next = vec![at_once];
        } else {
            if consequences.is_empty() {
                // Perhaps this is the end: what cannot happen any more must not hide it.
                next.retain(|action| self.play(&[&actions[..], &[*action]].concat(), false).1);
            }
            next.extend(consequences);
        }
        if world.violation.is_some() {
            next.clear();
        } else if next.is_empty() || (left.is_empty() && world.may_rest(&next)) {
            world.heal();
        }
        self.reached.add(world.reached);
        let broken = world.violation.map(|violation| violation.promise);
        Some(State { fingerprint, actions, next: next.into(), broken })
    }
}

/// The actions so far, and what may come.
#[derive(Clone, Debug)]
pub struct State {
    fingerprint: u64,
    actions: Vec<Action>,
    next: Arc<[Action]>,
    broken: Option<Promise>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl Model for SmallWorld {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.state(Vec::new()).into_iter().collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend_from_slice(&state.next);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut actions = last.actions.clone();
        actions.push(action);
        self.state(actions)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let promises = Promise::ALL.map(|promise| {
            let label = promise.label();
            match promise {
                Promise::KnownIsSeen => Property::always(label, |_, state: &State| {
                    state.broken != Some(Promise::KnownIsSeen)
                }),
                Promise::RemovedIsUnread => Property::always(label, |_, state: &State| {
                    state.broken != Some(Promise::RemovedIsUnread)
                }),
                Promise::Converges => Property::always(label, |_, state: &State| {
                    state.broken != Some(Promise::Converges)
                }),
                Promise::ComesToRest => Property::always(label, |_, state: &State| {
                    state.broken != Some(Promise::ComesToRest)
                }),
            }
        });
        promises.into_iter().chain(Landmark::ALL.iter().map(|mark| mark.property())).collect()
    }
}

impl World {
    /// What may follow from what is under way.
    fn consequences(&self, small: &SmallWorld) -> Vec<Action> {
        let mut next = Vec::new();
        let some = |count: usize| (0..count as u8).collect::<Vec<u8>>();
        let committable = self.committable().len();
        for op in some(committable) {
            next.push(Action::Commit { op, with: 0 });
        }
        if small.grouped && committable > 1 {
            next.push(Action::Commit { op: 0, with: 3 });
        }
        some(self.acknowledgeable().len())
            .into_iter()
            .for_each(|op| next.push(Action::Committed { op }));
        if self.storage.visible < self.storage.head() {
            next.push(Action::Show);
        }
        let checked = self.reads.iter().filter(|read| read.is_checked()).count();
        for read in some(self.reads.len() - checked) {
            next.push(Action::Check { read });
        }
        some(checked).into_iter().for_each(|read| next.push(Action::Checked { read }));
        let unread = |build: &&Build| !build.is_read(self.config.pages);
        for (at, build) in self.builds.iter().filter(unread).enumerate() {
            if build.is_early(small.builds) {
                let stale = self.storage.visible.saturating_sub(self.oldest_page(build));
                (0..=stale as u8)
                    .for_each(|stale| next.push(Action::Page { build: at as u8, stale }));
            }
        }
        let read = self.builds.iter().filter(|build| build.is_read(self.config.pages)).count();
        some(read).into_iter().for_each(|build| next.push(Action::Install { build }));
        let given = self.transfers.iter().filter(|transfer| transfer.is_given()).count();
        for transfer in some(self.transfers.len() - given) {
            next.push(Action::Donate { transfer });
        }
        for transfer in some(given) {
            next.push(Action::Transferred { transfer, torn: false });
        }
        let (writable, tellable) = self.fences_open();
        some(writable).into_iter().for_each(|fence| next.push(Action::WriteFence { fence }));
        some(tellable).into_iter().for_each(|fence| next.push(Action::FenceWritten { fence }));
        for partition in 0..self.config.partitions as u8 {
            if self.unproduced(usize::from(partition)) > 0 {
                next.push(Action::Produce { partition, rows: 1 });
            }
            for replica in if small.mapped { 0..2 } else { 0..0 } {
                let (at, of) = (usize::from(replica), usize::from(partition));
                if self.must_unfollow(at, of) {
                    next.push(Action::Unfollowed { replica, partition });
                }
                if self.must_open(at, of) {
                    next.push(Action::Open { replica, partition });
                }
            }
            for replica in small.fed.iter().copied() {
                self.deliveries((replica, partition), small.cut, &mut next);
            }
        }
        next
    }

    /// True if nothing is left to come but writes that may as well never land (row 11).
    fn may_rest(&self, next: &[Action]) -> bool {
        let lands_late = |action: &Action| match action {
            Action::Commit { op, .. } => {
                self.committable().get(usize::from(*op)).is_some_and(|op| op.state == OpState::Lost)
            }
            _ => false,
        };
        next.iter().all(lands_late)
    }

    /// What must happen before anything else does.
    fn at_once(&self, small: &SmallWorld) -> Option<Action> {
        if !small.slow_reads
            && let Some(read) = self.reads.first()
        {
            return Some(match read.is_checked() {
                true => Action::Checked { read: 0 },
                false => Action::Check { read: 0 },
            });
        }
        let prompt = |op: &Op| small.prompt.contains(&(op.replica as u8));
        let commit = self.committable().iter().position(|op| prompt(op));
        let ack = || self.acknowledgeable().iter().position(|op| prompt(op));
        let commit = commit.map(|op| Action::Commit { op: op as u8, with: 0 });
        commit.or_else(|| ack().map(|op| Action::Committed { op: op as u8 }))
    }

    fn deliveries(&self, (replica, partition): (u8, u8), cut: bool, next: &mut Vec<Action>) {
        let deliver = |rows, complete| Action::Feed { replica, partition, rows, complete };
        let (at, of) = (usize::from(replica), usize::from(partition));
        if self.is_behind(at, of) {
            next.push(deliver(1, true));
            if cut {
                next.push(deliver(1, false));
            }
        }
        if self.is_silent(at, of) {
            next.push(deliver(0, true));
        }
    }
}

/// How far a search is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Distinct states so far.
    pub states: usize,
    /// How often states were reached.
    pub reached: usize,
    /// The longest story so far.
    pub depth: usize,
    /// How long it has taken.
    pub took: Duration,
}

/// What a search came to.
#[derive(Debug)]
pub struct Explored {
    /// How far it went.
    pub progress: Progress,
    /// Everything was tried, or the promise was broken.
    pub finished: bool,
    /// What was reached on the way.
    pub landmarks: Vec<Landmark>,
    /// Which part of the promise is broken, and the story that breaks it.
    pub broken: Option<(Promise, String)>,
}

struct Told<F>(F, Option<Progress>);

impl<F: FnMut(Progress)> Reporter<SmallWorld> for Told<F> {
    fn report_checking(&mut self, data: ReportData) {
        let progress = Progress {
            states: data.unique_states,
            reached: data.total_states,
            depth: data.max_depth,
            took: data.duration,
        };
        self.1 = Some(progress);
        (self.0)(progress);
    }

    fn report_discoveries(
        &mut self,
        _: &SmallWorld,
        _: std::collections::BTreeMap<&'static str, ReportDiscovery<SmallWorld>>,
    ) {
    }
}

impl SmallWorld {
    /// Tries everything; says now and then how far it is. One thread finds the shortest story.
    pub fn explore(&self, threads: usize, progress: impl FnMut(Progress) + Send) -> Explored {
        let mut told = Told(progress, None);
        let reached = Arc::new(Reached::default());
        let world = Self { reached: Arc::clone(&reached), ..self.clone() };
        let checker = world
            .checker()
            .threads(threads)
            .target_state_count(REACHED_MAX)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join_and_report(&mut told);
        let took = told.1.map_or(Duration::ZERO, |progress| progress.took);
        let progress = Progress {
            states: checker.unique_state_count(),
            reached: checker.state_count(),
            depth: checker.max_depth(),
            took,
        };
        let landmarks = Landmark::ALL.iter().copied();
        let landmarks = landmarks.filter(|mark| reached.all().has(*mark));
        let breaks = |promise: Promise| {
            let path = checker.discovery(promise.label())?;
            Some((promise, path.into_actions()))
        };
        let broken = Promise::ALL.into_iter().filter_map(breaks);
        let broken = broken.min_by_key(|(_, actions)| actions.len());
        let broken = broken.map(|(promise, actions)| (promise, self.tell(&actions)));
        Explored {
            progress,
            finished: checker.is_done() && checker.state_count() < REACHED_MAX,
            landmarks: landmarks.collect(),
            broken,
        }
    }
}
