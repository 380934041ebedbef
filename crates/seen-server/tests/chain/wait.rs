//! Waiting for what other processes do, with an end to it.

use std::time::Duration;

use tokio::time::{Instant, interval, timeout_at};

/// The longest that anything may take, on a machine that is busy otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is what was wanted. A look says why it is not there yet; the last reason is told by
/// the failure.
pub async fn awaited<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut looks = interval(Duration::from_millis(20));
    let mut last = "nothing was answered".to_owned();
    loop {
        looks.tick().await;
        match timeout_at(end, look()).await {
            Ok(Ok(seen)) => return seen,
            Ok(Err(why)) if Instant::now() < end => last = why,
            Ok(Err(why)) => panic!("waited {PATIENCE:?} for {what}: {why}"),
            Err(_) => panic!("waited {PATIENCE:?} for {what}, and is still asking; before: {last}"),
        }
    }
}
