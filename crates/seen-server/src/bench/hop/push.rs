//! Does push move feed's latencies? Feed's Filters at a steady rate, before, beside and after FilterUsers messages about
//! 50,000 users a second, which another pool answers through the same proxy.

use std::time::Duration;

use super::USERS;
use super::cluster::{Hop, Wish};
use crate::bench::chart::{Bar, Chart};
use crate::bench::figure::{Figure, number};
use crate::bench::load::{FILTER_USERS, LeanTarget, Pace, Shape, Tally, Writer, run_lean};
use crate::bench::progress::Progress;
use crate::bench::synthetic::{PUSH_ITEMS, PUSH_USERS, Pushes};
use crate::bench::{BenchError, Effort, Outcome, Plan};

/// Feed's Filters of 400 ids a second.
const FEED_PER_S: f64 = 10_000.0;
/// Users that push asks about in a second.
const PUSHED_PER_S: f64 = 50_000.0;
/// What the proxy lets through of push, in users a second: a little above what is sent.
const RATES: &str = "push=60000";
/// The longest that a push may take.
const PUSH_TIMEOUT: &str = "10S";
/// Connections of feed, and of push.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 256;
/// Feed alone is measured for at least so long, before and after.
const ALONE_MIN: Duration = Duration::from_secs(5);

/// Measures it.
///
/// # Errors
/// [`BenchError`].
pub(in crate::bench) fn measure(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    progress.step(format!("hop_push: starting two pools with {USERS} users"))?;
    let pools = &[("feed", 1, 1), ("push", 1, 1)];
    let hop = Hop::start(&Wish { pools, rates: RATES, ..Wish::one(USERS) }, plan)?;
    let usual = match plan.effort {
        Effort::Quick => Duration::from_secs(5),
        Effort::Usual => Duration::from_secs(30),
        Effort::Full => Duration::from_secs(180),
    };
    let lasting = plan.push_lasting.unwrap_or(usual);
    let alone = (lasting / 4).max(ALONE_MIN);
    progress.step("hop_push: feed alone")?;
    let warm = feed(&hop, Duration::from_secs(1), 1)?;
    let before = feed(&hop, alone, 2)?;
    progress.step(format!("hop_push: feed and push, {lasting:?}"))?;
    let (beside, pushed) = both(&hop, lasting)?;
    progress.step("hop_push: feed alone again")?;
    let after = feed(&hop, alone, 4)?;
    let users_per_s = pushed.answered as f64 * PUSH_USERS as f64 / pushed.elapsed.as_secs_f64();
    let mut outcome = Outcome::default();
    let mut chart = Chart::new("hop_push: latency of feed's Filters", "ms");
    let mut without = before.clone();
    without.add(&after);
    for (label, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        let (ours, rival) = (beside.latency_ms(share), without.latency_ms(share));
        let figure = Figure::of(format!("hop_push_feed_{label}"), ours, "ms, beside push");
        outcome.figures.push(figure.against(rival, "feed alone, before and after"));
        chart = chart.bar(Bar::rival(format!("{label} alone"), rival));
        chart = chart.bar(Bar::ours(format!("{label} beside push"), ours));
    }
    outcome.figures.push(Figure::of("hop_push_users_per_second", users_per_s, "users/s"));
    outcome.charts.push(chart);
    outcome.notes.push(format!(
        "hop_push: {} Filters/s of feed; push of {PUSH_USERS} users and {PUSH_ITEMS} items a message for {lasting:?}, P99 {:.0} ms, {} failed; feed's P99 alone was {:.2} ms before and {:.2} ms after, failed {} and {}, beside push {:.2} ms, failed {}; answers of {:.0} bytes (warm-up {:.0}); {}",
        number(FEED_PER_S),
        pushed.latency_ms(0.99),
        pushed.failures,
        before.latency_ms(0.99),
        after.latency_ms(0.99),
        before.failures,
        after.failures,
        beside.latency_ms(0.99),
        beside.failures,
        beside.mean_bytes(),
        warm.mean_bytes(),
        hop.looked_at()?,
    ));
    // An answer that was refused is short.
    let full = (PUSH_USERS * (1 + PUSH_ITEMS.div_ceil(8))) as f64;
    if pushed.mean_bytes() < full {
        let what = format!("push's answers are of {:.0} bytes: refused", pushed.mean_bytes());
        return Err(BenchError::Wrong(what));
    }
    Ok(outcome)
}

fn open(per_s: f64, connections: usize, lasting: Duration) -> Shape {
    Shape { connections, streams: STREAMS, pace: Pace::Open { per_s }, lasting }
}

fn feed(hop: &Hop, lasting: Duration, seed: u64) -> Result<Tally, BenchError> {
    run_lean(1, &hop.target, open(FEED_PER_S, CONNECTIONS, lasting), |_| hop.filters(seed))
}

/// Feed and push at the same time.
fn both(hop: &Hop, lasting: Duration) -> Result<(Tally, Tally), BenchError> {
    let target = LeanTarget {
        path: FILTER_USERS,
        timeout: PUSH_TIMEOUT,
        tag: Some("push"),
        ..hop.target.clone()
    };
    let pushes = |_| -> Writer {
        let mut pushes = Pushes::new(USERS, 7);
        Box::new(move |out| pushes.put(out))
    };
    let shape = open(PUSHED_PER_S / PUSH_USERS as f64, CONNECTIONS, lasting);
    std::thread::scope(|scope| {
        let push = scope.spawn(|| run_lean(1, &target, shape, pushes));
        let feed = feed(hop, lasting, 3);
        let died = |_| BenchError::Part { part: "load".to_owned(), what: "panicked".to_owned() };
        Ok((feed?, push.join().map_err(died)??))
    })
}
