//! Table: resident memory of users whose histories have the real sizes above 1,000 items, after a
//! build, while they grow by half all at once, and in the long run.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use seen_filter::{Builder, HashKey, Item, Sizing, UnixMillis, UserState};

use crate::measure::{key, mix, setting};

/// A slot of the users' table (32 bytes) at its lowest load, 0.68, without the state's 16 bytes,
/// which are counted where they are.
const SLOT_BYTES: f64 = 47.0 - 16.0;
/// Steps of growth by half.
const STEPS: usize = 10;

struct Users {
    key: HashKey,
    sizing: Sizing,
    states: Vec<UserState>,
    /// The size that each one was built with, and has now.
    sizes: Vec<(usize, usize)>,
    before_bytes: f64,
    /// What sizes are drawn from.
    real_sizes: Vec<usize>,
}

impl Users {
    /// Newly built users, and a source of pseudo-random numbers.
    fn of_real_sizes() -> Option<(Self, impl FnMut() -> usize)> {
        let (real, count) = (real_sizes(), setting("SEEN_BENCH_USERS", 100_000));
        let mut draws = 0_u64;
        let mut draw = move || {
            draws += 1;
            mix(draws) as usize
        };
        if count == 0 || real.is_empty() {
            return None;
        }
        let drawn: Vec<usize> = (0..count).map(|_| real[draw() % real.len()]).collect();
        let drawn = drawn.into_iter().map(|size| (size, size)).collect();
        let (key, sizing) = (key(), Sizing::new(0.01, None));
        let mut users = Self {
            key,
            sizing,
            states: Vec::new(),
            sizes: drawn,
            before_bytes: 0.0,
            real_sizes: real,
        };
        users.before_bytes = resident_bytes();
        users.states.reserve_exact(count);
        for user in 0..count {
            let state = users.built(user, users.sizes[user].0);
            users.states.push(state);
        }
        Some((users, draw))
    }

    fn built(&self, user: usize, items: usize) -> UserState {
        let mut builder = Builder::new(&self.key, &self.sizing);
        (0..items).for_each(|item| builder.push(item_of(user, item), UnixMillis::default(), 0));
        builder.finish()
    }

    fn grow(&mut self, user: usize, to: usize) {
        let (_, now) = &mut self.sizes[user];
        for item in *now..to {
            self.states[user].insert(&self.key, &self.sizing, item_of(user, item), 0);
        }
        *now = to;
    }

    fn bits(&self) -> f64 {
        let items: usize = self.sizes.iter().map(|(_, now)| now).sum();
        let slots = SLOT_BYTES * self.states.len() as f64;
        8.0 * (resident_bytes() - self.before_bytes + slots) / items as f64
    }
}

fn item_of(user: usize, item: usize) -> Item {
    Item::new(0, mix((user as u64) << 32 | item as u64))
}

/// Resident memory of this process.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|field| field.parse::<f64>().ok());
    4_096.0 * pages.unwrap_or(f64::NAN)
}

/// The sizes above 1,000 of the histories in the project's own data.
fn real_sizes() -> Vec<usize> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/codereview.tsv.zst");
    let mut text = String::new();
    let read = std::fs::File::open(&path)
        .and_then(zstd::Decoder::new)
        .and_then(|mut decoder| decoder.read_to_string(&mut text));
    if let Err(error) = read {
        eprintln!("{}: {error}", path.display());
    }
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for user in text.lines().filter_map(|line| line.split('\t').next()) {
        *sizes.entry(user).or_default() += 1;
    }
    let mut sizes: Vec<usize> = sizes.into_values().filter(|size| *size > 1_000).collect();
    sizes.sort_unstable();
    sizes
}

/// Prints the table. Each part runs in a process of its own, as memory that was freed stays resident.
pub fn print() {
    let users = setting("SEEN_BENCH_USERS", 100_000);
    if users == 0 {
        return;
    }
    println!("\n| {users} users of real sizes above 1,000 items, 1 % | |\n|---|---:|");
    for part in ["growth", "long-run"] {
        let run = std::env::current_exe()
            .and_then(|program| std::process::Command::new(program).arg(part).status());
        if let Err(error) = run {
            eprintln!("{part}: {error}");
        }
    }
}

/// After a build, and while all users grow by half at once.
pub fn print_growth() {
    let Some((mut users, _)) = Users::of_real_sizes() else { return };
    println!("| resident bits an item after a build | {:.2} |", users.bits());
    let mut sum = users.bits();
    let count = users.states.len();
    for step in 1..=STEPS {
        for turn in 0..count {
            // Another order each time, as marks come.
            let user = (turn * 7_919 + step * 31) % count;
            users.grow(user, users.sizes[user].0 * (2 * STEPS + step) / (2 * STEPS));
        }
        sum += users.bits();
    }
    println!("| mean while all grow by half at once | {:.2} |", sum / (STEPS + 1) as f64);
}

/// Users at all stages of growth, each rebuilt when it is due.
pub fn print_long_run() {
    let Some((mut users, mut draw)) = Users::of_real_sizes() else { return };
    let count = users.states.len();
    for user in 0..count {
        let built = users.sizes[user].0;
        users.grow(user, built + draw() % (built / 2));
    }
    let (mut marks, mut rows) = (0_usize, 0_usize);
    for turn in 0..25 * count {
        let user = draw() % count;
        let (built, now) = users.sizes[user];
        let mut more = 0;
        while more < built / 20 && !users.states[user].rebuild_due(&users.sizing) {
            more += 1;
            users.grow(user, now + more);
        }
        if users.states[user].rebuild_due(&users.sizing) {
            // Rebuilt with another of the real sizes, so that the mix of sizes stays. Counted from
            // the middle on, when every user has been rebuilt.
            if turn > 12 * count {
                rows += users.sizes[user].1;
                marks += users.sizes[user].1 - built;
            }
            let size = users.real_sizes[draw() % users.real_sizes.len()];
            users.states[user] = UserState::EMPTY;
            users.states[user] = users.built(user, size);
            users.sizes[user] = (size, size);
        }
    }
    println!("| in the long run, rebuilt when due | {:.2} |", users.bits());
    println!("| rows re-read a mark | {:.2} |", rows as f64 / marks as f64);
}
