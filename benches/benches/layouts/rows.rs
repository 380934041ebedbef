//! Rows of the shape of a real history, as many as are wanted, in the order in which they arrive.
//!
//! The sample history of this repository (`data/codereview.tsv.zst`: 11,366 users, half of them with two
//! rows or fewer, one in a hundred with 910 or more, the longest 47,327; items skewed; 25 years) is
//! taken as often as it takes, each time with other users. Each of its events comes once for every
//! copy before the next one does, so that times grow and users come in no order of their keys.
//!
//! - user ids: any 40-bit number, as a hash or a shuffled sequence gives;
//! - item ids: 34 bits, growing with the item's age, as a sequence gives;
//! - times: milliseconds, the event's second with a random rest;
//! - kinds: three, most items of one.

use std::io::Read as _;
use std::path::Path;

use seen_filter::{Item, UnixMillis, UserId};

/// One event of the sample.
#[derive(Clone, Copy, Debug)]
struct Event {
    user: u32,
    item: u32,
    at_s: u32,
}

/// A row to be marked.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub user: UserId,
    pub item: Item,
    pub marked_at: UnixMillis,
}

/// Every row by its number.
#[derive(Debug)]
pub struct Rows {
    events: Vec<Event>,
    copies: u64,
}

impl Rows {
    /// Reads the sample, for at least so many rows.
    pub fn read(path: &Path, rows: u64) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(told)?;
        let mut text = String::new();
        let mut decoder = zstd::Decoder::new(file).map_err(told)?;
        decoder.read_to_string(&mut text).map_err(told)?;
        let event = |line: &str| {
            let mut fields = line.split('\t').map(str::parse::<u32>);
            let mut next = || fields.next()?.ok();
            Some(Event { user: next()?, item: next()?, at_s: next()? })
        };
        let events: Option<Vec<Event>> = text.lines().map(event).collect();
        let events = events.filter(|events| !events.is_empty());
        let events = events.ok_or_else(|| format!("{}: no history", path.display()))?;
        let copies = rows.div_ceil(events.len() as u64).max(1);
        Ok(Self { events, copies })
    }

    /// The row with this number, from 0.
    pub fn row(&self, number: u64) -> Row {
        let (event, copy) = (number / self.copies, number % self.copies);
        let event = self.events[(event % self.events.len() as u64) as usize];
        let (user, item) = (u64::from(event.user), u64::from(event.item));
        let kind = match mixed(item) % 16 {
            0 => 3,
            1..=3 => 2,
            _ => 1,
        };
        // Eight copies share their items.
        let id = (item << 16) | (mixed((item << 16) | (copy / 8)) & 0xffff);
        let at_ms = u64::from(event.at_s) * 1_000 + mixed(number) % 1_000;
        Row {
            user: UserId::new(mixed((copy << 32) | user) >> 24),
            item: Item::new(kind, id),
            marked_at: UnixMillis::new(at_ms),
        }
    }
}

/// The finish of SplitMix64.
fn mixed(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
