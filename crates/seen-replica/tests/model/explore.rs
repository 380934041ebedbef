//! Exhaustive search of small worlds with `stateright`. The core can neither be copied nor compared,
//! so a state is the actions that led to it, played again from the start; two states are one if
//! storage, everything under way, and all that ever went into each core are the same.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::action::Action;
use super::build::Build;
use super::config::{Clock, Config};
use super::write::{Op, OpState};
use super::{World, hash_of};

/// States, counted as often as they are reached, at which a search is given up: a scenario must be
/// small enough to be tried to its end.
pub const REACHED_MAX: usize = 400_000;
/// How many builds each replica runs before all heals. A store that is late again and again makes
/// replicas build again and again, without end.
const BUILDS: u32 = 3;

/// A small world in which everything is tried.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The world.
    pub config: Config,
    /// What has happened before.
    pub before: Vec<Action>,
    /// What happens once each, at any moment and in any order.
    pub once: Vec<Action>,
    /// Replicas to which partition 0 delivers.
    pub fed: Vec<u8>,
    /// Batches may end anywhere, also before what is complete is said.
    pub cut: bool,
    /// Several writes may share a commit.
    pub grouped: bool,
    /// Replicas whose writes are committed and acknowledged at once, since only others are of
    /// interest.
    pub prompt: Vec<u8>,
    /// Other things may come between a read, its point check, and the answer.
    pub slow_reads: bool,
    /// The last build of each replica that may go on before all heals.
    pub builds: u32,
}

impl Scenario {
    /// A scenario in which both replicas follow the feed and batches are whole.
    pub fn new(config: Config, before: &[Action], once: &[Action]) -> Self {
        Self {
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
            builds: BUILDS,
        }
    }

    /// The same, with batches cut anywhere.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// The same, with writes that may share a commit.
    #[must_use]
    pub fn grouped(self) -> Self {
        Self { grouped: true, ..self }
    }

    /// The same, with writes of these replicas that are done at once.
    #[must_use]
    pub fn prompt(self, prompt: &[u8]) -> Self {
        Self { prompt: prompt.to_vec(), ..self }
    }

    /// The same, with point checks that other things overtake.
    #[must_use]
    pub fn slow_reads(self) -> Self {
        Self { slow_reads: true, ..self }
    }

    /// The same, with replicas that learn, sooner or later, that their fences are written.
    #[must_use]
    pub fn told_of_fences(mut self) -> Self {
        self.config.untold = false;
        self
    }

    /// The same, with so many partitions of the feed.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.config.partitions = partitions;
        self
    }

    /// The same, with builds that read this many pages.
    #[must_use]
    pub fn pages(mut self, pages: u64) -> Self {
        self.config.pages = pages;
        self
    }

    /// The same, with no more than this many builds at each replica before all heals.
    #[must_use]
    pub fn builds(self, builds: u32) -> Self {
        Self { builds, ..self }
    }

    /// The same, with a feed that only these replicas hear.
    #[must_use]
    pub fn fed(self, fed: &[u8]) -> Self {
        Self { fed: fed.to_vec(), ..self }
    }

    /// The world after these actions, and whether each of them did anything.
    fn play(&self, actions: &[Action], tell: bool) -> (World, bool) {
        let mut world = World::new(self.config);
        if tell {
            world.story = Some(Vec::new());
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
        let how = world.violation.clone().unwrap_or_default();
        format!("{how}\n  {}", world.story.unwrap_or_default().join("\n  "))
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
        Some(State { fingerprint, actions, next: next.into(), holds: world.violation.is_none() })
    }
}

/// The actions so far, and what may come.
#[derive(Clone, Debug)]
pub struct State {
    fingerprint: u64,
    actions: Vec<Action>,
    next: Arc<[Action]>,
    holds: bool,
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

impl Model for Scenario {
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
        vec![Property::always("the promise", |_, state: &State| state.holds)]
    }
}

impl World {
    /// What may follow from what is under way.
    fn consequences(&self, scenario: &Scenario) -> Vec<Action> {
        let mut next = Vec::new();
        let some = |count: usize| (0..count as u8).collect::<Vec<u8>>();
        let committable = self.committable().len();
        for op in some(committable) {
            next.push(Action::Commit { op, with: 0 });
        }
        if scenario.grouped && committable > 1 {
            next.push(Action::Commit { op: 0, with: 3 });
        }
        some(self.acknowledgeable().len()).into_iter().for_each(|op| next.push(Action::Ack { op }));
        if self.storage.visible < self.storage.head() {
            next.push(Action::Show);
        }
        let checked = self.reads.iter().filter(|read| read.is_checked()).count();
        for read in some(self.reads.len() - checked) {
            next.push(Action::Check { read });
        }
        some(checked).into_iter().for_each(|read| next.push(Action::Answer { read }));
        let unread = |build: &&Build| !build.is_read(self.config.pages);
        for (at, build) in self.builds.iter().filter(unread).enumerate() {
            if build.is_early(scenario.builds) {
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
            next.push(Action::Arrive { transfer, torn: false });
        }
        let (writable, tellable) = self.fences_open();
        some(writable).into_iter().for_each(|fence| next.push(Action::Fence { fence }));
        some(tellable).into_iter().for_each(|fence| next.push(Action::TellFence { fence }));
        for partition in 0..self.config.partitions as u8 {
            if self.unproduced(usize::from(partition)) > 0 {
                next.push(Action::Produce { partition, rows: 1 });
            }
            for replica in scenario.fed.iter().copied() {
                self.deliveries((replica, partition), scenario.cut, &mut next);
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
    fn at_once(&self, scenario: &Scenario) -> Option<Action> {
        if !scenario.slow_reads
            && let Some(read) = self.reads.first()
        {
            return Some(match read.is_checked() {
                true => Action::Answer { read: 0 },
                false => Action::Check { read: 0 },
            });
        }
        let prompt = |op: &Op| scenario.prompt.contains(&(op.replica as u8));
        let commit = self.committable().iter().position(|op| prompt(op));
        let ack = || self.acknowledgeable().iter().position(|op| prompt(op));
        let commit = commit.map(|op| Action::Commit { op: op as u8, with: 0 });
        commit.or_else(|| ack().map(|op| Action::Ack { op: op as u8 }))
    }

    fn deliveries(&self, (replica, partition): (u8, u8), cut: bool, next: &mut Vec<Action>) {
        let deliver = |rows, complete| Action::Deliver { replica, partition, rows, complete };
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

/// What a search came to.
#[derive(Debug)]
pub struct Explored {
    /// Distinct states.
    pub states: usize,
    /// Everything was tried, or the promise was broken.
    pub finished: bool,
    /// The story that breaks the promise, if there is one.
    pub broken: Option<String>,
}

/// Tries everything.
pub fn explore(scenario: &Scenario, threads: usize) -> Explored {
    let checker = scenario
        .clone()
        .checker()
        .threads(threads)
        .target_state_count(REACHED_MAX)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    let finished = checker.is_done() && checker.state_count() < REACHED_MAX;
    let broken = checker.discovery("the promise").map(|path| scenario.tell(&path.into_actions()));
    Explored { states, finished, broken }
}
