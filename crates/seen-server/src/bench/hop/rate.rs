//! Checks a second of the whole machine through a proxy and a replica, and latencies at 70 % of that.

use std::time::Duration;

use super::cluster::{Hop, Wish, own_cpu};
use super::{SATURATION, USERS};
use crate::bench::chart::{Bar, Chart};
use crate::bench::figure::{Aim, Figure, number};
use crate::bench::load::{Pace, Shape, Tally, run_lean};
use crate::bench::process::{cores, median};
use crate::bench::progress::Progress;
use crate::bench::synthetic::CANDIDATES;
use crate::bench::{BenchError, Outcome, Plan};

/// The aims.
const CHECKS_PER_S_MIN: f64 = 50e6;
const P99_MS_MAX: f64 = 25.0;
const P999_MS_MAX: f64 = 50.0;
/// Share of the closed loop's rate that the open loop asks for.
const OPEN_SHARE: f64 = 0.7;
/// Requests that an open loop may have in flight on each connection.
const OPEN_STREAMS: usize = 512;

/// Measures it.
///
/// # Errors
/// [`BenchError`].
pub(in crate::bench) fn measure(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let name = "hop_checks_per_second";
    progress.step(format!("{name}: starting a cluster with {USERS} users"))?;
    let hop = Hop::start(&Wish::one(USERS), plan)?;
    let (connections, streams) = SATURATION;
    let lasting = plan.pick(Duration::from_secs(1), Duration::from_secs(4));
    let shape = Shape { connections, streams, pace: Pace::Closed, lasting };
    let rounds = plan.pick(2, 5);
    let (mut rates, mut closed, mut spent) = (Vec::new(), Tally::new(), Spent::default());
    for round in 0..rounds {
        progress.step(format!("{name}: round {} of {rounds}", round + 1))?;
        let before = (hop.cpu()?, own_cpu()?);
        let tally = run_lean(1, &hop.target, shape, |_| hop.filters(round as u64))?;
        let tally = tally.all_answered(name)?;
        spent.add(before, (hop.cpu()?, own_cpu()?), &tally);
        rates.push(tally.per_s() * CANDIDATES as f64);
        closed.add(&tally);
    }
    let rate = median(&rates);
    let per_s = rate / CANDIDATES as f64 * OPEN_SHARE;
    progress.step(format!("{name}: open loop, {} requests/s", number(per_s)))?;
    let lasting = plan.pick(Duration::from_secs(3), Duration::from_secs(15));
    let pace = Pace::Open { per_s };
    let shape = Shape { connections, streams: OPEN_STREAMS, pace, lasting };
    // Where other work takes the cores some are refused: a result, and not a failure of the measurement.
    let open = run_lean(1, &hop.target, shape, |_| hop.filters(99))?;
    let mut outcome = figures(rate, &closed, &open);
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    outcome.notes.push(format!(
        "{name}: {} to {} ids/s in {rounds} rounds; {}; the open loop asked for {} requests/s and sent all but {}, its latencies counted from the time that a request was due (looked at each millisecond); {}",
        number(least),
        number(most),
        spent.note(),
        number(per_s),
        open.unsent,
        hop.looked_at()?,
    ));
    Ok(outcome)
}

fn figures(rate: f64, closed: &Tally, open: &Tally) -> Outcome {
    let mut outcome = Outcome::default();
    let figure = Figure::of("hop_checks_per_second", rate, "ids/s, load generator included");
    outcome.figures.push(figure.aim(Aim::AtLeast(CHECKS_PER_S_MIN)));
    let mut chart = Chart::new("hop_checks_per_second: latency of a request", "ms");
    let percentiles =
        [("p50", 0.5, None), ("p99", 0.99, Some(P99_MS_MAX)), ("p999", 0.999, Some(P999_MS_MAX))];
    for (at, tally) in [("closed", closed), ("open_70", open)] {
        for (label, share, limit) in percentiles {
            let ms = tally.latency_ms(share);
            let figure = Figure::of(format!("hop_{at}_{label}"), ms, "ms");
            let aimed = |limit| figure.clone().aim(Aim::AtMost(limit));
            outcome.figures.push(limit.map_or(figure.clone(), aimed));
            chart = chart.bar(Bar::ours(format!("{at} {label}"), ms));
        }
    }
    let asked = (open.answered + open.failures + open.unsent).max(1) as f64;
    let unanswered = (open.failures + open.unsent) as f64 / asked * 100.0;
    outcome.figures.push(Figure::of("hop_open_70_unanswered", unanswered, "% of the requests"));
    outcome.charts.push(chart.limit(P99_MS_MAX).limit(P999_MS_MAX));
    outcome
}

/// Where the machine's CPU went.
#[derive(Default)]
struct Spent {
    proxy: Duration,
    replica: Duration,
    load: Duration,
    elapsed: Duration,
    answered: u64,
}

/// CPU of proxy, replica and load.
type Cpu = ((Duration, Duration), Duration);

impl Spent {
    fn add(&mut self, before: Cpu, after: Cpu, tally: &Tally) {
        self.proxy += after.0.0.saturating_sub(before.0.0);
        self.replica += after.0.1.saturating_sub(before.0.1);
        self.load += after.1.saturating_sub(before.1);
        self.elapsed += tally.elapsed;
        self.answered += tally.answered;
    }

    fn note(&self) -> String {
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / self.answered.max(1) as f64;
        let had = self.elapsed.as_secs_f64() * cores() as f64;
        let all = self.proxy + self.replica + self.load;
        let share = all.as_secs_f64() / had.max(1e-9) * 100.0;
        format!(
            "of each request {:.2} us of CPU were the proxy's, {:.2} us the replica's and {:.2} us the load generator's; together they got {share:.0} % of the machine",
            each(self.proxy),
            each(self.replica),
            each(self.load)
        )
    }
}
