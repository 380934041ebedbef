//! What happened, for people: numbered steps, each with the action by the name that it has in the code,
//! what that came to, and what changed in which replica.

use std::collections::BTreeMap;
use std::fmt;

use seen_filter::{CommitStamp, Item, UserId};

use super::action::{Action, name};
use super::config::{ITEMS, PARTITIONS, USERS};
use super::storage::feed;
use super::{Promise, Violation, World};

/// Lines that are told of how all heals.
const HEALING_LINES: usize = 16;

/// The lines so far.
#[derive(Debug, Default)]
pub struct Story {
    lines: Vec<String>,
    steps: usize,
    /// The action of which nothing has been said yet.
    acting: Option<Action>,
    /// How many lines and steps there were before the present action.
    before: (usize, usize),
    /// The line from which on all heals.
    heals_from: Option<usize>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (told, healed) = self.lines.split_at(self.heals_from.unwrap_or(self.lines.len()));
        f.write_str(&told.join("\n"))?;
        // How it heals is of interest at its end alone.
        let left_out = healed.len().saturating_sub(HEALING_LINES);
        if left_out > 0 {
            write!(f, "\n       ... {left_out} lines")?;
        }
        healed[left_out..].iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// What can be seen of the replicas, by name.
pub type Views = BTreeMap<String, BTreeMap<&'static str, String>>;

impl World {
    /// Adds a line to the story.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        let Some(story) = &mut self.story else { return };
        let line = line();
        match story.acting.take() {
            Some(action) => {
                story.steps += 1;
                let debug = format!("{action:?}");
                let end = debug.find(|c: char| !c.is_alphanumeric()).unwrap_or(debug.len());
                story.lines.push(format!("{:>3}. {}: {line}", story.steps, &debug[..end]));
            }
            None => story.lines.push(format!("       {line}")),
        }
    }

    pub(super) fn begin_healing(&mut self) {
        self.heals = true;
        self.say(|| "everything heals".to_owned());
        if let Some(story) = &mut self.story {
            story.heals_from = Some(story.lines.len());
        }
    }

    pub(super) fn begin_telling(&mut self, action: Action) {
        if let Some(story) = &mut self.story {
            story.acting = Some(action);
            story.before = (story.lines.len(), story.steps);
        }
    }

    /// Tells what an action has changed.
    pub(super) fn end_telling(&mut self, before: &Views, moved: bool) {
        let after = self.views();
        let Some(story) = &mut self.story else { return };
        story.acting = None;
        if !moved && self.violation.is_none() {
            story.lines.truncate(story.before.0);
            story.steps = story.before.1;
            return;
        }
        for (who, view) in &after {
            let old = before.get(who);
            let changed = view.iter().filter_map(|(what, now)| {
                let old = old.and_then(|old| old.get(what))?;
                (old != now).then(|| format!("{what} {old} -> {now}"))
            });
            let changed: Vec<String> = changed.collect();
            if !changed.is_empty() {
                story.lines.push(format!("       {who}: {}", changed.join(", ")));
            }
        }
    }

    /// The promise is broken. The first time counts.
    pub(super) fn broken(&mut self, promise: Promise, how: String) {
        self.say(|| format!("BROKEN ({}): {how}", promise.label()));
        self.violation.get_or_insert(Violation { promise, how });
    }

    /// What can be seen of the replicas.
    pub(super) fn views(&self) -> Views {
        let mut views = Views::new();
        for replica in 0..2 {
            let rules = &self.replicas[replica].rules;
            for lane in rules.lanes(self.now(replica)) {
                let who = format!("{} p{}", name(replica), lane.feed.partition.get());
                let view = views.entry(who).or_default();
                view.insert("applied", at(lane.applied));
                view.insert("cover", at(lane.cover));
                view.insert("epoch", lane.epoch.get().to_string());
                view.insert("journal", lane.journal_rows.to_string());
                view.insert("ring", lane.ring_events.to_string());
                view.insert("following", lane.following.to_string());
            }
            for user in USERS {
                let view = views.entry(format!("{} u{user}", name(replica))).or_default();
                let entry = rules.entry(UserId::new(user), None);
                let building = if entry.building { ", building" } else { "" };
                view.insert("entry", format!("{:?}{building}", entry.state));
                view.insert("contested", entry.contested_items.to_string());
                let has = |item: &u64| {
                    let item = Item::new(0, *item);
                    rules.entry(UserId::new(user), Some(item)).says_seen == Some(true)
                };
                let items: Vec<u64> = ITEMS.into_iter().filter(has).collect();
                view.insert("items", format!("{items:?}"));
            }
        }
        let storage = views.entry("storage".to_owned()).or_default();
        storage.insert("head", self.storage.head().to_string());
        storage.insert("shown", self.storage.visible.to_string());
        storage.insert("timeline", self.storage.timeline.to_string());
        for partition in 0..PARTITIONS {
            let view = views.entry(feed(partition).to_string()).or_default();
            view.insert("rows", self.storage.feed_log(partition).len().to_string());
        }
        views
    }
}

fn at(stamp: Option<CommitStamp>) -> String {
    stamp.map_or("none".to_owned(), |stamp| stamp.position.to_string())
}
