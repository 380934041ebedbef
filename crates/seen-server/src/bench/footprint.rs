//! The part whose memory is measured: the replica's own table, filled with users drawn from the
//! sizes of real histories, in a process that holds nothing else.

use std::cmp::Ordering;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use seen_filter::build::Builder;
use seen_filter::hash::HashKey;
use seen_filter::{
    CommitStamp, Domain, FeedBatch, FeedCursor, FeedEvent, FeedId, Generation, Incarnation, Item,
    NamespaceId, NamespaceSettings, PrimaryId, SnapshotId, Tick, Timeline, UnixMillis, UserEpoch,
    UserId,
};
use seen_replica::preload;
use seen_replica::rules::{CacheBudget, Effect, Input, Install, Origin, Outcome, Rules, Settings};

use super::process::resident_bytes;
use super::synthetic::{KIND, Random};
use crate::cli::CliError;

/// Sizes of the real histories above 1,000 items: 32 quantiles of the 114 such users among public
/// code reviews and MovieLens ratings.
const SIZES: [u64; 32] = [
    1_005, 1_027, 1_063, 1_089, 1_142, 1_158, 1_260, 1_286, 1_350, 1_423, 1_493, 1_523, 1_560,
    1_669, 1_704, 1_766, 1_795, 2_005, 2_144, 2_354, 2_615, 2_671, 3_068, 3_941, 4_341, 4_633,
    5_078, 5_563, 6_508, 7_999, 12_734, 43_930,
];
/// Items of a user that is held exactly.
const SMALL_ITEMS: u64 = 16;
/// Steps in which histories grow by half; then some more, since the rebuild falls due only beyond.
const GROWTH_STEPS: u64 = 10;
const STEPS_BEYOND: u64 = 2;
/// Bytes of the feed's ring: a fixed cost of a partition, kept out of what a user costs.
const RING_BYTES: usize = 64 << 10;
/// Events of one step, as from a real feed.
const EVENTS_MAX: u64 = 1_024;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Users just built.
    Build,
    /// Users whose histories grow by half, rebuilt whenever they ask for it.
    Growth,
    /// Users of 16 items.
    Small,
}

/// How the part is started.
#[derive(Clone, Debug, Args)]
pub struct FootprintSpec {
    /// What is measured
    #[arg(long)]
    phase: Phase,
    /// How many users
    #[arg(long)]
    users: u64,
}

/// The table, and what was in this process's memory before it was filled.
struct Table {
    rules: Rules,
    feed: FeedId,
    position: u64,
    before_bytes: u64,
}

/// Of every rebuild so far: the rows that it read, and the marks since the build before it.
#[derive(Default)]
struct Grown {
    marked: u64,
    reread: u64,
}

/// Fills the table and says what it takes.
///
/// # Errors
/// An entry that the rules refuse, or no `/proc`.
pub fn run(spec: &FootprintSpec) -> Result<(), CliError> {
    let table = Table::new()?;
    let said = match spec.phase {
        Phase::Build => {
            let items = table.fill(spec.users, size_of_user)?;
            serde_json::json!({ "bits_per_item": table.bits(items)? })
        }
        Phase::Small => {
            table.fill(spec.users, |_| SMALL_ITEMS)?;
            let bytes = table.taken_bytes()? / spec.users.max(1) as f64;
            serde_json::json!({ "bytes_per_user": bytes })
        }
        Phase::Growth => table.growth(spec.users)?,
    };
    crate::cli::print(&format!("{said}\n"))?;
    Ok(())
}

/// The size of a user's history: another quantile for each, in no order.
fn size_of_user(user: u64) -> u64 {
    SIZES[Random::new(user).below(SIZES.len() as u64) as usize]
}

impl Table {
    fn new() -> Result<Self, CliError> {
        let namespace = NamespaceId::new(0);
        let feed = FeedId { namespace, ..FeedId::default() };
        let cache = Arc::new(CacheBudget::new(u64::MAX));
        let named = NamespaceSettings::new(namespace, "feed_read");
        let mut settings = Settings::embedded(named, Incarnation::new(1), cache);
        settings.ring_bytes_max = RING_BYTES;
        let key = HashKey::new(1, *b"a bench's secret");
        let rules = Rules::new(settings, key, &[feed], Box::new(move |_| feed), tick());
        let mut table = Self { rules, feed, position: 0, before_bytes: 0 };
        // The feed says where it begins: only then may users be cached (rule R7).
        table.feed_events(Vec::new());
        table.before_bytes = resident_bytes(std::process::id())?;
        Ok(table)
    }

    /// Puts users in; how many items they have in all.
    fn fill(&self, users: u64, size: impl Fn(u64) -> u64) -> Result<u64, CliError> {
        let mut items = 0;
        for user in 0..users {
            let state = self.build(user, size(user)).finish();
            preload::install(&self.rules, tick(), UserId::new(user), state)?;
            items += size(user);
        }
        Ok(items)
    }

    fn build(&self, user: u64, items: u64) -> Builder {
        let mut builder = Builder::new(self.rules.key(), self.rules.sizing());
        (0..items).for_each(|n| builder.push(item(user, n), UnixMillis::new(0), 0));
        builder
    }

    fn taken_bytes(&self) -> Result<f64, CliError> {
        let now = resident_bytes(std::process::id())?;
        Ok(now.saturating_sub(self.before_bytes) as f64)
    }

    fn bits(&self, items: u64) -> Result<f64, CliError> {
        Ok(self.taken_bytes()? * 8.0 / items.max(1) as f64)
    }

    /// Applies adds as the feed brings them, and returns the builds that they ask for.
    fn feed_events(&mut self, mut events: Vec<FeedEvent>) -> Vec<Effect> {
        self.position += 1;
        let stamp = self.stamp();
        events.push(FeedEvent::Complete { stamp });
        let resume = FeedCursor::default();
        let batch = FeedBatch { events, resume, caught_up: true };
        let input = Input::Feed { feed: self.feed, batch: &batch };
        self.rules.step(tick(), input).1.into_vec()
    }

    fn stamp(&self) -> CommitStamp {
        CommitStamp::new(Domain::new(1), Timeline::new(1), self.position)
    }

    /// Lets every history grow by half in equal steps, and looks at the memory after each.
    fn growth(mut self, users: u64) -> Result<serde_json::Value, CliError> {
        let items = self.fill(users, size_of_user)?;
        let mut grown = Grown::default();
        // The mean over the whole growth, by the trapezoid rule.
        let mut bits = self.bits(items)? / (2 * GROWTH_STEPS) as f64;
        for step in 1..=GROWTH_STEPS + STEPS_BEYOND {
            let mut items = 0;
            for user in 0..users {
                let size = size_of_user(user);
                let at = |step: u64| size + size * step / (2 * GROWTH_STEPS);
                self.add(user, at(step - 1)..at(step), &mut grown)?;
                items += at(step);
            }
            let halves = match step.cmp(&GROWTH_STEPS) {
                Ordering::Less => 2,
                Ordering::Equal => 1,
                Ordering::Greater => 0,
            };
            bits += self.bits(items)? * f64::from(halves) / (2 * GROWTH_STEPS) as f64;
        }
        let reread = grown.reread as f64 / grown.marked.max(1) as f64;
        Ok(serde_json::json!({ "bits_per_item": bits, "rows_reread_per_mark": reread }))
    }

    fn add(
        &mut self,
        user: u64,
        new: std::ops::Range<u64>,
        grown: &mut Grown,
    ) -> Result<(), CliError> {
        let mut from = new.start;
        while from < new.end {
            let until = (from + EVENTS_MAX).min(new.end);
            let stamp = CommitStamp { position: self.position + 1, ..self.stamp() };
            let add = |n| FeedEvent::Add { stamp, user: UserId::new(user), item: item(user, n) };
            let effects = self.feed_events((from..until).map(add).collect());
            for effect in effects {
                if let Effect::StartBuild { user: asked, generation, .. } = effect {
                    self.rebuild(asked, generation, until)?;
                    grown.reread += until;
                    // Nobody is rebuilt twice within the growth.
                    grown.marked += until - size_of_user(user);
                }
            }
            from = until;
        }
        Ok(())
    }

    /// Does what storage's side does for a build: reads the history and hands it in.
    fn rebuild(&self, user: UserId, generation: Generation, items: u64) -> Result<(), CliError> {
        let install = Install {
            user,
            generation,
            state: self.build(user.get(), items).finish(),
            snapshot: SnapshotId { primary: PrimaryId::default(), lower_bound: Some(self.stamp()) },
            user_epoch: UserEpoch::default(),
            origin: Origin::Storage,
        };
        match self.rules.step(tick(), Input::Install(install)).0 {
            Outcome::Refused(refusal) => {
                Err(format!("a rebuild was refused: {}", refusal.label()).into())
            }
            _ => Ok(()),
        }
    }
}

/// Time does not matter here: any one tick will do.
fn tick() -> Tick {
    Tick::new(3_600_000_000)
}

fn item(user: u64, n: u64) -> Item {
    Item::new(KIND, (user << 24) | n)
}
