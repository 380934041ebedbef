//! Random stories: played by seed, shortened when they break the promise, and told.

mod generate;
mod rng;

use std::fmt;

use seen_replica::rules::Rule;

use crate::world::{Action, Config, Story, Violation, World};
use generate::Taste;
use rng::Rng;

/// Plays that shortening a story may take.
const PLAYS_MAX: usize = 4_000;
/// The environment variable that names a seed to be played again.
pub const SEED_VARIABLE: &str = "SEEN_MODEL_SEED";

/// A story that breaks the promise.
#[derive(Clone)]
pub struct Failure {
    seed: u64,
    config: Config,
    actions: Vec<Action>,
    violation: Violation,
}

/// Plays actions from the start, and heals. Stops where the promise breaks.
fn play(config: Config, actions: &[Action], tell: bool) -> World {
    let mut world = World::new(config);
    if tell {
        world.story = Some(Story::default());
    }
    for action in actions {
        world.act(*action);
        if world.violation.is_some() {
            return world;
        }
    }
    world.heal();
    world
}

/// Plays one seed.
pub fn run_seed(seed: u64, sabotage: Option<Rule>) -> Option<Failure> {
    let mut rng = Rng::new(seed);
    let config = Config { sabotage, ..generate::config(&mut rng) };
    let mut taste = Taste::new(&mut rng);
    let steps = 60 + rng.below(400);
    let mut world = World::new(config);
    let mut actions = Vec::new();
    for _ in 0..steps {
        let action = taste.next(&mut rng);
        actions.push(action);
        world.act(action);
        if world.violation.is_some() {
            break;
        }
    }
    if world.violation.is_none() {
        world.heal();
    }
    let violation = world.violation?;
    Some(Failure { seed, config, actions, violation })
}

/// Plays seeds until one fails; with the number of seeds that it took.
pub fn search(seeds: std::ops::Range<u64>, sabotage: Option<Rule>) -> Option<(u64, Failure)> {
    let first = seeds.start;
    seeds.into_iter().find_map(|seed| Some((seed - first + 1, run_seed(seed, sabotage)?)))
}

/// Plays the seed that the environment names, if it names one.
pub fn replay_from_environment() -> Option<Option<Failure>> {
    let seed = std::env::var(SEED_VARIABLE).ok()?.parse().ok()?;
    Some(run_seed(seed, None))
}

impl Failure {
    /// Leaves out what the story does not need.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let mut plays = 0;
        let mut length = self.actions.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let before = self.actions.len();
            while at < self.actions.len() && plays < PLAYS_MAX {
                let mut fewer = self.actions.clone();
                fewer.drain(at..(at + length).min(fewer.len()));
                plays += 1;
                match play(self.config, &fewer, false).violation {
                    Some(violation) => {
                        self.actions = fewer;
                        self.violation = violation;
                    }
                    None => at += length,
                }
            }
            if plays >= PLAYS_MAX || (length == 1 && self.actions.len() == before) {
                return self;
            }
            length = length.div_ceil(2);
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        writeln!(f, "in a world of {:?}", self.config)?;
        let story = play(self.config, &self.actions, true).story.unwrap_or_default();
        writeln!(f, "{story}")?;
        write!(f, "play it again with {SEED_VARIABLE}={}", self.seed)
    }
}
