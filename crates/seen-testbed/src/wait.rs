//! Waiting for what only shows when it is looked at: the state of another process.

use std::time::{Duration, Instant};

/// How long to rest between two looks: short, since a server is ready within a tenth of a second.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until there is something to see; none after `limit`.
///
/// For what cannot be awaited in another way: where something can, that is faster and says why.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if start.elapsed() >= limit {
            return None;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the state of another process can be looked at and not awaited"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}
