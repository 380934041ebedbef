//! What happens next in a random story. Every seed leaves some kinds of action out and prefers some
//! users and items, so that rare combinations come about ("swarm testing", Groce et al., 2012).

use super::rng::Rng;
use crate::world::Action;
use crate::world::config::{Config, ITEMS, PARTITIONS, SESSIONS, USERS};

/// How often each kind of action is tried, in no particular unit.
const WEIGHTS: [(Kind, u64, bool); 39] = [
    (Kind::Wait, 50, false),
    (Kind::Mark, 130, false),
    (Kind::Unmark, 90, true),
    (Kind::Forget, 12, true),
    (Kind::Commit, 190, false),
    (Kind::Show, 20, true),
    (Kind::Committed, 170, false),
    (Kind::Uncertain, 10, true),
    (Kind::Abandoned, 8, true),
    (Kind::Read, 260, false),
    (Kind::Check, 150, false),
    (Kind::Checked, 150, false),
    (Kind::Drop, 10, true),
    (Kind::Open, 60, false),
    (Kind::Feed, 300, false),
    (Kind::Rewind, 30, true),
    (Kind::TearDown, 10, true),
    (Kind::Produce, 150, false),
    (Kind::ProduceAgain, 14, true),
    (Kind::Swallow, 20, true),
    (Kind::Doubt, 6, true),
    (Kind::Gap, 16, true),
    (Kind::Poison, 12, true),
    (Kind::Page, 190, false),
    (Kind::Install, 110, false),
    (Kind::BuildFailed, 8, true),
    (Kind::BeginTransfer, 40, true),
    (Kind::Donate, 50, false),
    (Kind::Transferred, 50, false),
    (Kind::WriteFence, 200, false),
    (Kind::LoseFence, 8, true),
    (Kind::FenceWritten, 250, false),
    (Kind::Evict, 30, true),
    (Kind::Shed, 6, true),
    (Kind::Rebuild, 24, true),
    (Kind::Heartbeat, 30, false),
    (Kind::Merge, 24, true),
    (Kind::Crash, 7, true),
    (Kind::Restore, 4, true),
];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Wait,
    Mark,
    Unmark,
    Forget,
    Commit,
    Show,
    Committed,
    Uncertain,
    Abandoned,
    Read,
    Check,
    Checked,
    Drop,
    Open,
    Feed,
    Rewind,
    TearDown,
    Produce,
    ProduceAgain,
    Swallow,
    Doubt,
    Gap,
    Poison,
    Page,
    Install,
    BuildFailed,
    BeginTransfer,
    Donate,
    Transferred,
    WriteFence,
    LoseFence,
    FenceWritten,
    Evict,
    Shed,
    Rebuild,
    Heartbeat,
    Merge,
    Crash,
    Restore,
}

/// The taste of one seed.
pub struct Taste {
    weights: Vec<(Kind, u64)>,
    total: u64,
    users: u64,
    items: u64,
    patient: bool,
    greedy: bool,
    /// Who wrote what last: somebody is likely to look whether it is there.
    written: (u8, u8, u8),
}

/// The world of a seed.
pub fn config(rng: &mut Rng) -> Config {
    let base = match rng.below(10) {
        0..=2 => Config::EMBEDDED,
        3 => Config::LATE,
        4 | 5 => Config::UNKNOWN,
        6 | 7 => Config::STANDS,
        _ => Config::TOPIC,
    };
    let unusual = rng.percent(30);
    Config {
        stamps: if unusual || base.stands { rng.percent(50) } else { base.stamps },
        positions: if unusual { rng.percent(50) } else { base.positions },
        loose: if unusual { rng.percent(50) } else { base.loose },
        fences: base.fences || rng.percent(20),
        stale_us: if !base.quiet_is_fresh() && rng.percent(60) { 1_200_000 } else { base.stale_us },
        no_op_events: rng.percent(50),
        // A topic tells of rows.
        forget_by_statements: rng.percent(40) || base.topic,
        base_items: if rng.percent(12) { 40 } else { 0 },
        ring_events: if rng.percent(35) { 16 } else { 400 },
        journal_rows: if rng.percent(20) { 16 } else { 400 },
        pending_events: if rng.percent(15) { 2 } else { 100 },
        partial: rng.percent(12),
        start_us: if rng.percent(30) { 1 } else { 50_000_000 },
        pages: 1 + rng.below(2),
        closed: rng.percent(40),
        ..base
    }
}

impl Taste {
    pub fn new(rng: &mut Rng) -> Self {
        let mut weights = Vec::new();
        for (kind, weight, optional) in WEIGHTS {
            let factor = match rng.below(10) {
                0..=3 if optional => 0,
                4 | 5 => 3,
                _ => 1,
            };
            weights.push((kind, weight * factor));
        }
        Self {
            total: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
            users: 1 + rng.below(USERS.len() as u64),
            items: 1 + rng.below(ITEMS.len() as u64),
            patient: rng.percent(50),
            greedy: rng.percent(50),
            written: (0, 0, 1),
        }
    }

    fn kind(&self, rng: &mut Rng) -> Kind {
        let mut at = rng.below(self.total);
        for (kind, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        Kind::Feed
    }

    fn items(&self, rng: &mut Rng) -> u8 {
        let one = 1_u8 << rng.below(self.items);
        if rng.percent(25) { one | 1 << rng.below(self.items) } else { one }
    }

    fn wait(&self, rng: &mut Rng) -> Action {
        let us = match rng.below(if self.patient { 8 } else { 6 }) {
            0..=2 => 1_000,
            3 | 4 => 200_000,
            5 => 1_050_000,
            6 => 2_100_000,
            _ => 5_200_000,
        };
        Action::Wait(us)
    }

    /// The next action.
    pub fn next(&mut self, rng: &mut Rng) -> Action {
        let kind = self.kind(rng);
        let replica = rng.below(2) as u8;
        let session = rng.below(SESSIONS as u64 + 1) as u8;
        let user = rng.below(self.users) as u8;
        let items = self.items(rng);
        let any = rng.byte();
        if matches!(kind, Kind::Mark | Kind::Unmark) {
            self.written = (session, user, items);
        }
        let (session, user, items) = match kind {
            Kind::Read if rng.percent(45) => self.written,
            _ => (session, user, items),
        };
        match kind {
            Kind::Wait => self.wait(rng),
            Kind::Mark => Action::Mark { replica, session, user, items },
            Kind::Unmark => Action::Unmark { replica, session, user, items },
            Kind::Forget => Action::Forget { replica, session, user },
            Kind::Commit => Action::Commit { op: any, with: rng.byte() },
            Kind::Show => Action::Show,
            Kind::Committed => Action::Committed { op: any },
            Kind::Uncertain => Action::Uncertain { op: any },
            Kind::Abandoned => Action::Abandoned { op: any },
            Kind::Read => Action::Read { replica, session, user, items },
            Kind::Check => Action::Check { read: any },
            Kind::Checked => Action::Checked { read: any },
            Kind::Drop => Action::Drop { read: any },
            _ => self.next_behind(kind, rng, (replica, user, any)),
        }
    }

    fn next_behind(&self, kind: Kind, rng: &mut Rng, (replica, user, any): (u8, u8, u8)) -> Action {
        let partition = match rng.percent(70) {
            true => (USERS[usize::from(user)] % PARTITIONS as u64) as u8,
            false => rng.below(PARTITIONS as u64) as u8,
        };
        match kind {
            Kind::Open => Action::Open { replica, partition },
            Kind::Feed => {
                let rows = if self.greedy { rng.below(8) as u8 } else { rng.below(3) as u8 };
                Action::Feed { replica, partition, rows, complete: rng.percent(60) }
            }
            Kind::Rewind => Action::Rewind { replica, partition, rows: 1 + rng.below(5) as u8 },
            Kind::TearDown => Action::TearDown { replica, rows: 1 + rng.below(5) as u8 },
            Kind::Produce => Action::Produce { partition, rows: 1 + rng.below(4) as u8 },
            Kind::ProduceAgain => Action::ProduceAgain { partition, rows: 1 + rng.below(5) as u8 },
            Kind::Swallow => Action::Swallow { replica, partition },
            Kind::Doubt => Action::Doubt { replica, scope: any },
            Kind::Gap => Action::Gap { replica, partition, rows: rng.below(4) as u8 },
            Kind::Poison => Action::Poison { replica, partition },
            Kind::Page => {
                let stale = if rng.percent(50) { 0 } else { rng.byte() };
                Action::Page { build: any, stale }
            }
            Kind::Install => Action::Install { build: any },
            Kind::BuildFailed => Action::BuildFailed { build: any },
            Kind::BeginTransfer => Action::BeginTransfer { replica, user },
            Kind::Donate => Action::Donate { transfer: any },
            Kind::Transferred => Action::Transferred { transfer: any, torn: rng.percent(5) },
            Kind::WriteFence => Action::WriteFence { fence: any },
            Kind::LoseFence => Action::LoseFence { fence: any, late: rng.percent(50) },
            Kind::FenceWritten => Action::FenceWritten { fence: any },
            Kind::Evict => Action::Evict { replica, user },
            Kind::Shed => Action::Shed { replica },
            Kind::Rebuild => Action::Rebuild { replica, user },
            Kind::Heartbeat => Action::Heartbeat { replica },
            Kind::Merge => Action::Merge { from: any, into: rng.byte() },
            Kind::Crash => Action::Crash { replica },
            _ => Action::Restore { lost: rng.below(4) as u8, gap: rng.percent(60) },
        }
    }
}
