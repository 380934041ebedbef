//! Which partitioner a topic's rows were placed by: every one is tried on them.

use std::collections::{BTreeMap, BTreeSet};

use seen_filter::UserId;
use seen_kafka::{Digits, KeyTemplate, Partitioner};

use super::census::Row;

/// So few users may lie where a wrong partitioner says, by chance.
const USERS_MIN: usize = 4;

/// A partitioner that predicts where every row lies.
#[derive(Debug)]
pub(super) struct Fit {
    pub partitioner: Partitioner,
    /// The lines of `[kafka]` that say so.
    pub lines: String,
}

/// How many of the rows lie where a partitioner says, with the key that it says.
pub(super) fn predicted(partitioner: &Partitioner, rows: &[&Row], partitions: u16) -> usize {
    let is_there = |row: &&&Row| {
        let has_key = match partitioner {
            Partitioner::Key(template) => {
                row.key.as_deref() == Some(template.key(row.user).as_bytes())
            }
            _ => true,
        };
        has_key && partitioner.partition(row.user, partitions) == Some(row.partition)
    };
    rows.iter().filter(is_there).count()
}

/// How many users the rows are of.
pub(super) fn users(rows: &[&Row]) -> usize {
    rows.iter().map(|row| row.user).collect::<BTreeSet<UserId>>().len()
}

/// The partitioner that predicts all of these rows, if there are enough to tell.
pub(super) fn fit(rows: &[&Row], partitions: u16, database: &str) -> Option<Fit> {
    if users(rows) < USERS_MIN {
        return None;
    }
    candidates(rows, database)
        .into_iter()
        .find(|candidate| predicted(&candidate.partitioner, rows, partitions) == rows.len())
}

fn candidates(rows: &[&Row], database: &str) -> Vec<Fit> {
    let mut all = Vec::new();
    for (digits, name) in [(Digits::Signed, "signed"), (Digits::Unsigned, "unsigned")] {
        let Some(text) = template(rows, digits) else { continue };
        let Ok(parsed) = KeyTemplate::parse(&text, digits) else { continue };
        let lines =
            format!("[kafka] partitioner = \"key\", key = '{text}', key_digits = \"{name}\"");
        all.push(Fit { partitioner: Partitioner::Key(parsed), lines });
    }
    let canal = Partitioner::Canal { database: database.to_owned() };
    for (partitioner, name) in [(canal, "canal"), (Partitioner::Maxwell, "maxwell")] {
        all.push(Fit { partitioner, lines: format!("[kafka] partitioner = \"{name}\"") });
    }
    all
}

/// The one template that every row's key is made by.
fn template(rows: &[&Row], digits: Digits) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let key = std::str::from_utf8(row.key.as_deref()?).ok()?;
        // A key may hold the number elsewhere, too; another row's key does not.
        for template in templates(key, row.user, digits) {
            *counts.entry(template).or_default() += 1;
        }
    }
    counts.into_iter().find(|(_, count)| *count == rows.len()).map(|(template, _)| template)
}

/// The key with `{user}` in place of the user's id, for each place where that stands.
fn templates(key: &str, user: UserId, digits: Digits) -> BTreeSet<String> {
    let number = match digits {
        Digits::Signed => user.get().cast_signed().to_string(),
        Digits::Unsigned => user.get().to_string(),
    };
    let template = |at: usize| {
        let (before, after) = (&key[..at], &key[at + number.len()..]);
        let is_whole = !before.ends_with(|c: char| c.is_ascii_digit() || c == '-')
            && !after.starts_with(|c: char| c.is_ascii_digit());
        is_whole.then(|| format!("{before}{{user}}{after}"))
    };
    key.match_indices(&number).filter_map(|(at, _)| template(at)).collect()
}
