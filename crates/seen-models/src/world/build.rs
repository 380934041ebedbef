//! Builds: pages read at different moments, installed later or never.

use std::collections::BTreeSet;

use seen_filter::{Builder, Generation, Item, SnapshotId, UnixMillis, UserEpoch, UserId};
use seen_replica::rules::{Input, Install, Origin, Outcome};

use super::action::name;
use super::config::ITEMS;
use super::{World, nth};
use crate::landmark::Landmark;

/// A build under way.
pub struct Build {
    pub replica: usize,
    user: u64,
    generation: Generation,
    rows: BTreeSet<u64>,
    pages: u64,
    /// The commit that the last page saw.
    saw: u64,
    first: Option<(SnapshotId, u32)>,
    broken: bool,
}

impl std::hash::Hash for Build {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.replica, self.user, self.generation, &self.rows, self.pages, self.saw).hash(state);
        (self.first.map(|(snapshot, epoch)| (snapshot.lower_bound, epoch)), self.broken)
            .hash(state);
    }
}

impl Build {
    pub fn new(replica: usize, user: u64, generation: Generation) -> Self {
        Self {
            replica,
            user,
            generation,
            rows: BTreeSet::new(),
            pages: 0,
            saw: 0,
            first: None,
            broken: false,
        }
    }

    /// Storage was restored: what was read and what would be read do not belong together.
    pub fn break_off(&mut self) {
        self.broken |= self.pages > 0;
    }

    /// True for the first builds of a replica's life.
    pub fn is_early(&self, builds: u32) -> bool {
        self.generation.get() <= builds
    }

    /// True if it has read every page.
    pub fn is_read(&self, pages: u64) -> bool {
        self.pages == pages
    }
}

/// The number of the page that holds an item.
fn page_of(item: u64, pages: u64) -> u64 {
    if pages < 2 || item <= ITEMS[1] { 0 } else { 1 }
}

impl World {
    pub(super) fn page(&mut self, build: u8, stale: u8) -> bool {
        let pages = self.config.pages;
        let Some(at) = nth(&self.builds, build, |build| !build.is_read(pages)) else {
            return false;
        };
        if self.builds[at].broken {
            return self.fail_build_at(at);
        }
        let stalest = self.oldest_page(&self.builds[at]);
        let visible = self.storage.visible.max(stalest);
        let position = visible - u64::from(stale) % (visible - stalest + 1);
        let (user, page) = (self.builds[at].user, self.builds[at].pages);
        let rows = self.storage.rows(user, position);
        let first = (page == 0).then(|| {
            let snapshot = self.snapshot(position, u64::from(stale / 16));
            (snapshot, self.storage.epoch(user, position))
        });
        let build = &mut self.builds[at];
        build.rows.extend(rows.iter().filter(|row| page_of(**row, pages) == page));
        build.pages += 1;
        build.saw = position;
        if let Some(first) = first {
            build.first = Some(first);
        }
        let (who, generation) = (name(build.replica), build.generation);
        let read: Vec<u64> = build.rows.iter().copied().take(8).collect();
        self.say(|| {
            let page = page + 1;
            format!("{who}'s build {generation} of u{user} reads page {page} at commit {position}: {read:?}")
        });
        true
    }

    pub(super) fn install(&mut self, build: u8) -> bool {
        let pages = self.config.pages;
        let Some(at) = nth(&self.builds, build, |build| build.is_read(pages)) else { return false };
        let build = self.builds.remove(at);
        let Some((snapshot, epoch)) = build.first else { return false };
        let rules = &self.replicas[build.replica].rules;
        let mut builder = Builder::new(rules.key(), rules.sizing());
        for row in &build.rows {
            builder.push(Item::new(0, *row), UnixMillis::new(0), 0);
        }
        let install = Install {
            user: UserId::new(build.user),
            generation: build.generation,
            state: builder.finish(),
            snapshot,
            user_epoch: UserEpoch::new(epoch),
            origin: Origin::Storage,
        };
        let (who, generation, user) = (name(build.replica), build.generation, build.user);
        let lower = snapshot.lower_bound;
        self.trace(build.replica, ("install", generation, user, &build.rows, lower, epoch));
        let told = lower.map(|stamp| stamp.position);
        self.say(|| format!("{who} installs build {generation} of u{user} (as of {told:?})"));
        let outcome = self.step(build.replica, Input::Install(install));
        if matches!(outcome, Outcome::Installed) {
            self.reach(Landmark::Installed);
        }
        self.say(|| format!("{outcome:?}"));
        true
    }

    pub(super) fn fail_build(&mut self, build: u8) -> bool {
        match nth(&self.builds, build, |_| true) {
            Some(at) => self.fail_build_at(at),
            None => false,
        }
    }

    fn fail_build_at(&mut self, at: usize) -> bool {
        let build = self.builds.remove(at);
        self.say(|| {
            format!("{}'s build {} of u{} fails", name(build.replica), build.generation, build.user)
        });
        self.give_up(build.replica, build.user, build.generation);
        true
    }

    /// Tells a replica that a build or transfer came to nothing.
    pub(super) fn give_up(&mut self, replica: usize, user: u64, generation: Generation) {
        self.trace(replica, ("failed", user, generation));
        self.step(replica, Input::BuildFailed { user: UserId::new(user), generation });
    }

    /// The oldest commit as of which a build's next page may be read.
    pub fn oldest_page(&self, build: &Build) -> u64 {
        self.storage.stalest(self.storage_now()).max(build.saw)
    }
}
