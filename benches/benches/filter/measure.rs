//! What all tables share: pseudo-random ids, requests, and times of a quiet moment.

use std::time::Instant;

use seen_filter::{HashKey, Kernel, Verdicts};

/// Items of a user in the tables of checks.
pub const ITEMS: usize = 5_000;
/// Candidates of a request; every other one was read.
pub const CANDIDATES: usize = 400;
/// Requests between two looks at the clock.
const REQUESTS: usize = 64;

/// A bijection that scrambles its input: distinct inputs give distinct ids without pattern.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ x >> 32
}

/// The ids that a user has read.
pub fn history(user: usize, items: usize) -> impl Iterator<Item = u64> {
    (0..items as u64).map(move |item| mix((user as u64) << 32 | item))
}

/// Ids that nobody has read.
pub fn unread(from: u64) -> impl Iterator<Item = u64> {
    (from..).map(|id| mix(id | 1 << 63))
}

/// The best kernel of this CPU, chosen as the server does.
pub fn key() -> HashKey {
    let start = Instant::now();
    let kernel = seen_filter::calibrate(&mut || start.elapsed().as_nanos() as u64);
    HashKey::new(1, *b"benchmarks' key.").with_kernel(kernel)
}

/// One key for each kernel.
pub fn keys() -> impl Iterator<Item = HashKey> {
    Kernel::available().map(|kernel| key().with_kernel(kernel))
}

/// A setting from the environment, or its default.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The time per check, in nanoseconds: the best quarter of many rounds, as other programs disturb.
/// `histories` are the users' ids, `states` their filters (more than histories: copies in turn), and
/// each request goes to another, pseudo-random user; with one state it is hot.
pub fn check_ns<T>(
    histories: &[Vec<u64>],
    states: &[T],
    check: &impl Fn(&T, &[u8], &mut Verdicts),
) -> f64 {
    let mut draw = unread(1 << 40);
    let mut draw_below = |limit: usize| draw.next().unwrap_or(0) as usize % limit;
    let mut rounds_ns = Vec::new();
    for round in 0..80_u64 {
        let users: Vec<usize> = (0..REQUESTS).map(|_| draw_below(states.len())).collect();
        let requests: Vec<Vec<u8>> = users
            .iter()
            .zip(0_u64..)
            .map(|(user, request)| {
                let read = &histories[user % histories.len()];
                let ids = unread(round << 20 | request << 10).take(CANDIDATES).enumerate();
                let ids =
                    ids.map(|(at, id)| if at % 2 == 0 { read[draw_below(ITEMS)] } else { id });
                ids.flat_map(u64::to_le_bytes).collect()
            })
            .collect();
        let mut answers = vec![Verdicts::new(); REQUESTS];
        let start = Instant::now();
        for ((user, request), answer) in users.iter().zip(&requests).zip(&mut answers) {
            check(&states[*user], request, answer);
        }
        rounds_ns.push(start.elapsed().as_nanos() as f64 / (REQUESTS * CANDIDATES) as f64);
        let complete = |answer: &Verdicts| (0..CANDIDATES).step_by(2).all(|at| answer.get(at));
        assert!(answers.iter().all(complete), "false negative");
    }
    best_quarter(rounds_ns)
}

/// The first quartile.
pub fn best_quarter(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 4]
}

/// Times `work` in rounds of `repeats` and returns nanoseconds per repeat.
pub fn time_ns(repeats: usize, mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        start.elapsed().as_nanos() as f64 / repeats as f64
    };
    best_quarter((0..40).map(round).collect())
}
