//! Seeds that aim at a story which chance comes upon too seldom: what must come together for it comes together, at random times.
//!
//! An aim is drawn beside the seed's own dice, so that a seed without one plays as if there were none.

use std::time::Duration;

use crate::cluster::{Seat, Shape};
use crate::dice::Dice;
use crate::faults::{Fault, Mishap, Ways};
use crate::process::Host;

/// What the dice of aims differ by from those of the seed.
const APART: u64 = 0x6169_6d73_6169_6d73;
/// So many of a thousand seeds have an aim.
const AIMED_PER_MILLE: u64 = 350;
/// Events that a short ring holds of a partition: about a second of them.
const SHORT_RING_EVENTS: usize = 16;

/// What a seed aims at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aim {
    /// Nothing in particular.
    #[default]
    None,
    /// Builds read states that are older than what the ring holds (rule R2).
    ShortRing,
    /// All replicas start while the feed cannot be opened, and serve all the same (rule R7, coherence row 56).
    NoFeedYet,
    /// The proxies disagree about who serves a user, and the feed trickles (rule R9, coherence row 37).
    TwoHomes,
    /// The same, while builds read old states and memory is short of users (rules R8 and R9).
    TwoHomesAndOldStates,
    /// Two devices mark and unmark the same few items, and storage's answers are late (rule R10).
    Toggles,
    /// Users are forgotten while builds of them are on their way, and others are begun before those end (coherence row 7).
    LateBuilds,
    /// Replicas start again and again, and take users over from peers that do not reach storage, or are told late (rules R3 and R9,
    /// coherence row 27).
    Transfers,
    /// Events of users that cannot be read, again and again, where nothing but time proves that a build shows what they said, and
    /// builds lag (rule R8).
    LostEvents,
    /// Nothing goes wrong, and requests are so large that a link's credit is used up again and again.
    LargeRequests,
}

impl Aim {
    /// That of a seed.
    pub fn of(seed: u64) -> (Self, Dice) {
        let mut dice = Dice::new(seed ^ APART);
        if !dice.in_mille(AIMED_PER_MILLE) {
            return (Self::None, dice);
        }
        let all = [
            Self::ShortRing,
            Self::NoFeedYet,
            Self::TwoHomes,
            Self::TwoHomesAndOldStates,
            Self::Toggles,
            Self::LargeRequests,
            Self::LateBuilds,
            Self::Transfers,
            Self::LostEvents,
        ];
        let at = dice.below(all.len() as u64) as usize;
        (all.get(at).copied().unwrap_or_default(), dice)
    }

    /// Changes what a cluster is like.
    pub fn change(self, shape: &mut Shape, dice: &mut Dice) {
        match self {
            Self::None => {}
            Self::ShortRing => {
                shape.ring_events_max = SHORT_RING_EVENTS;
                shape.habit = Habit::NEW_ITEMS;
            }
            Self::NoFeedYet => shape.habit = Habit::NEW_ITEMS,
            Self::LargeRequests => shape.habit = Habit::MANY_ITEMS,
            Self::TwoHomes | Self::TwoHomesAndOldStates => {
                // Numbers say by themselves what a fence would.
                shape.numbers_commits = self == Self::TwoHomes && dice.in_mille(200);
                shape.feed_events_max = dice.within(1..=4) as usize;
                shape.habit = Habit::NEW_ITEMS;
            }
            Self::Transfers => {
                // Without numbers nothing is taken from a peer.
                shape.numbers_commits = true;
                let same = dice.in_mille(500);
                shape.habit = if same { Habit::SAME_ITEMS } else { Habit::NEW_ITEMS };
            }
            Self::LostEvents => {
                shape.numbers_commits = false;
                shape.habit = Habit::NEW_ITEMS;
            }
            Self::LateBuilds => {
                // Where commits have numbers, these tell an old state.
                shape.numbers_commits = false;
                shape.habit = Habit::FORGETFUL;
            }
            Self::Toggles => {
                shape.numbers_commits = dice.in_mille(300);
                shape.habit = Habit::SAME_ITEMS;
            }
        }
        if self != Self::None {
            // Rows that expire prove nothing.
            shape.retention = None;
        }
    }

    /// What goes wrong for it; `None` if that is left to chance.
    pub fn faults(self, shape: &Shape, dice: &mut Dice) -> Option<Vec<Fault>> {
        if self == Self::None {
            return None;
        }
        let mut faults = Vec::new();
        let mut add = |after: Duration, lasts: Duration, mishap| {
            faults.push(Fault { after, lasts, mishap });
        };
        let (early, long) = (dice.ms(0..=2_000), dice.ms(5_000..=8_000));
        match self {
            Self::None | Self::LargeRequests => {}
            Self::ShortRing => {
                add(early, long, Mishap::StorageStale);
                add(early, long, Mishap::Evictions);
            }
            Self::NoFeedYet => {
                let began = dice.ms(200..=2_000);
                add(began, dice.ms(2_500..=4_500), Mishap::FeedSilent);
                add(began + dice.ms(0..=300), dice.ms(50..=400), Mishap::CrashAll);
                part_homes(shape, dice, (began, long), &mut add);
            }
            Self::TwoHomes | Self::TwoHomesAndOldStates => {
                part_homes(shape, dice, (early, long), &mut add);
                let behind_ms = if self == Self::TwoHomes { 800 } else { 150 };
                add(early, long, Mishap::FeedBehind(dice.within(behind_ms / 6..=behind_ms)));
                if self == Self::TwoHomesAndOldStates {
                    add(early, long, Mishap::StorageStale);
                    // What is built after the last of them stays.
                    add(early, long / 2, Mishap::Evictions);
                    for _ in 0..8 {
                        let after = early + dice.ms(2_500..=6_000);
                        add(after, dice.ms(300..=1_500), Mishap::FeedPoison);
                    }
                } else {
                    stagger(shape, dice, early, &mut add);
                    stagger(shape, dice, early + long / 2, &mut add);
                }
            }
            Self::Transfers => {
                transfer(shape, dice, &mut add);
                if dice.in_mille(500) {
                    // What a peer gives lacks what was just marked, the feed does not tell it yet, and nobody stood in meanwhile.
                    part_homes(shape, dice, (early, long), &mut add);
                    add(early, long, Mishap::FeedBehind(dice.within(100..=800)));
                } else {
                    add(early, long, Mishap::StorageStraggles);
                }
            }
            Self::LostEvents => {
                part_homes(shape, dice, (early, long), &mut add);
                add(early, long, Mishap::StorageStale);
                for _ in 0..24 {
                    let after = early + dice.ms(0..=6_000);
                    add(after, dice.ms(200..=900), Mishap::FeedPoison);
                }
            }
            Self::LateBuilds => {
                add(early, long, Mishap::StorageStraggles);
                add(early, long, Mishap::Evictions);
            }
            Self::Toggles => {
                part_homes(shape, dice, (early, long), &mut add);
                add(early, long, Mishap::StorageStraggles);
            }
        }
        faults.sort_by_key(|fault| fault.after);
        Some(faults)
    }
}

/// A replica of each slot starts again and again, and the other one does not reach storage now and then.
fn transfer(shape: &Shape, dice: &mut Dice, add: &mut impl FnMut(Duration, Duration, Mishap)) {
    for slot in 0..shape.slots {
        for second in 1..9 {
            let after = Duration::from_secs(second) + dice.ms(0..=500);
            let number = dice.below(shape.replicas.into()) as u16;
            add(after, dice.ms(30..=100), Mishap::CrashReplica(Seat { slot, number }));
            if dice.in_mille(400) {
                let donor = Seat { slot, number: (number + 1) % shape.replicas };
                add(
                    after.saturating_sub(dice.ms(50..=300)),
                    dice.ms(200..=600),
                    Mishap::PartFromStorage(donor),
                );
            }
        }
    }
}

/// The replicas of each slot start one after the other, so that their fences have the same numbers, and not the same times.
fn stagger(
    shape: &Shape,
    dice: &mut Dice,
    after: Duration,
    add: &mut impl FnMut(Duration, Duration, Mishap),
) {
    for slot in 0..shape.slots {
        let mut after = after;
        for number in 0..shape.replicas {
            add(after, Duration::from_millis(50), Mishap::CrashReplica(Seat { slot, number }));
            after += dice.ms(150..=600);
        }
    }
}

/// The second proxy does not reach one replica of each slot, so that it goes to the other one.
fn part_homes(
    shape: &Shape,
    dice: &mut Dice,
    (after, lasts): (Duration, Duration),
    add: &mut impl FnMut(Duration, Duration, Mishap),
) {
    for slot in 0..shape.slots {
        let number = dice.below(shape.replicas.into()) as u16;
        let host = Seat { slot, number }.host();
        add(after, lasts, Mishap::Part(Host(1), host, Ways::Both));
    }
}

/// What users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habit {
    /// How many items there are of a user who has few.
    pub items: u64,
    /// How often one looks at most after a mark.
    pub looks_max: u64,
    /// How long one waits at most before each look but the first, in milliseconds.
    pub look_ms_max: u64,
    /// Deeds out of a hundred that are unmarks.
    pub unmarks_percent: u64,
    /// How many items one asks about that nobody marked, beside those that one asks about anyway.
    pub strangers: u64,
    /// Deeds out of a hundred that are forgets.
    pub forgets_percent: u64,
}

impl Habit {
    /// As usual.
    pub const USUAL: Self = Self {
        items: 40,
        looks_max: 1,
        look_ms_max: 0,
        unmarks_percent: 10,
        forgets_percent: 2,
        strangers: 0,
    };
    /// As usual, but for large questions.
    const MANY_ITEMS: Self = Self { strangers: 970, looks_max: 8, ..Self::USUAL };
    /// Hardly anybody marks what was marked before, and everybody looks whether it was.
    const NEW_ITEMS: Self =
        Self { items: 2_000, looks_max: 4, look_ms_max: 80, unmarks_percent: 4, ..Self::USUAL };
    /// Users are often forgotten.
    const FORGETFUL: Self = Self { unmarks_percent: 2, forgets_percent: 10, ..Self::USUAL };
    /// The same few items are marked and unmarked.
    const SAME_ITEMS: Self =
        Self { items: 6, unmarks_percent: 20, forgets_percent: 6, ..Self::USUAL };
}
