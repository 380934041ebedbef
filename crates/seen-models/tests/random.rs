//! Random stories about two replicas over one storage: the promise holds after every step, and in the
//! end every replica says what storage holds. `SEEN_MODEL_SEED=n` plays one seed again and tells it;
//! `SEEN_MODEL_SEEDS=n` plays so many a share.

use seen_models::random::{replay_from_environment, search};

/// Seeds of one share; the shares run beside each other.
const SEEDS: u64 = 4_000;

fn holds(from: u64) {
    let many = std::env::var("SEEN_MODEL_SEEDS").ok().and_then(|many| many.parse().ok());
    let seeds = from..from + many.unwrap_or(SEEDS);
    match replay_from_environment() {
        Some(Some(failure)) => panic!("{}", failure.shortened()),
        Some(None) => {}
        None => {
            if let Some((_, failure)) = search(seeds, None) {
                panic!("{}", failure.shortened());
            }
        }
    }
}

#[test]
fn the_promise_holds_in_random_stories() {
    holds(0);
}

#[test]
fn the_promise_holds_in_more_random_stories() {
    holds(1_000_000);
}
