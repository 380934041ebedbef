//! Server CPU of a request: echo, proxy, replica, and `seen serve`, round by round.

use std::time::Duration;

use super::cluster::{Hop, Wish, all_from_memory};
use crate::bench::chart::{Bar, Chart};
use crate::bench::figure::{Aim, Figure};
use crate::bench::filter::Server;
use crate::bench::load::{LeanTarget, Pace, Shape, Tally, run_lean};
use crate::bench::part::Part;
use crate::bench::process::median;
use crate::bench::progress::Progress;
use crate::bench::synthetic::PREFIX_BYTES;
use crate::bench::{BenchError, Outcome, Plan};

/// Highest CPU, as shares of the echo's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aims {
    pub proxy: f64,
    pub replica: f64,
    pub serve: f64,
}

/// One of these measurements.
pub(super) struct Scene {
    pub name: &'static str,
    /// Connections, and requests in flight on each.
    pub shape: (usize, usize),
    /// Without them only the hop is measured, and nothing is asked of it.
    pub aims: Option<Aims>,
}

/// What one side took in each round, in microseconds of CPU a request.
#[derive(Default)]
struct Series(Vec<f64>);

impl Series {
    fn add(&mut self, spent: Duration, tally: &Tally) {
        self.0.push(spent.as_secs_f64() * 1e6 / tally.answered.max(1) as f64);
    }

    fn median(&self) -> f64 {
        median(&self.0)
    }

    fn said(&self, name: &str) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(0.0, f64::max);
        format!("{name} {:.2} ({least:.2} to {most:.2})", self.median())
    }
}

/// All sides.
#[derive(Default)]
struct Rounds {
    echo: Series,
    proxy: Series,
    replica: Series,
    serve: Series,
    echo_tally: Option<Tally>,
    hop_tally: Option<Tally>,
}

struct Sides {
    hop: Hop,
    echo: Part,
    echo_target: LeanTarget,
    serve: Option<(Server, LeanTarget)>,
}

impl Scene {
    /// Measures it.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn measure(
        &self,
        wish: &Wish,
        plan: &Plan,
        progress: &Progress,
    ) -> Result<Outcome, BenchError> {
        progress.step(format!("{}: starting a cluster with {} users", self.name, wish.users))?;
        let sides = self.start(wish, plan)?;
        let lasting = plan.pick(Duration::from_millis(700), Duration::from_secs(2));
        let count = plan.pick(3, 9);
        let mut rounds = Rounds::default();
        for round in 0..count {
            progress.step(format!("{}: round {} of {count}", self.name, round + 1))?;
            sides.round(self.load(lasting), 10 + round as u64, &mut rounds)?;
        }
        let mut outcome = self.outcome(&rounds);
        outcome.notes.push(format!(
            "{}: us of CPU a request, median (least to most) of {count} rounds: {}, {}, {}{}; {}",
            self.name,
            rounds.echo.said("echo"),
            rounds.proxy.said("proxy"),
            rounds.replica.said("replica"),
            sides.serve.as_ref().map_or(String::new(), |_| rounds.serve.said(", serve")),
            sides.hop.looked_at()?,
        ));
        let measured = sides.serve.iter().map(|(serve, _)| &serve.part);
        // What was answered in another way costs something else.
        measured.chain(sides.hop.replicas.first()).try_for_each(all_from_memory)?;
        Ok(outcome)
    }

    fn load(&self, lasting: Duration) -> Shape {
        let (connections, streams) = self.shape;
        Shape { connections, streams, pace: Pace::Closed, lasting }
    }

    fn start(&self, wish: &Wish, plan: &Plan) -> Result<Sides, BenchError> {
        let hop = Hop::start(wish, plan)?;
        let serve = match self.aims {
            None => None,
            Some(_) => {
                let server = Server::start(1, wish.users, &plan.dir)?;
                let target =
                    LeanTarget { address: server.part.address("api")?, ..hop.target.clone() };
                Some((server, target))
            }
        };
        let short = self.load(Duration::from_millis(300));
        let warm = run_lean(1, &hop.target, short, |_| hop.filters(1))?;
        let reply_bytes = warm.all_answered("warm-up")?.mean_bytes().round() as usize;
        let mut args = vec!["--threads=1".to_owned()];
        args.push(format!("--reply-bytes={}", reply_bytes.saturating_sub(PREFIX_BYTES)));
        args.extend(hop.tls.as_ref().map(|tls| format!("--tls={}", tls.display())));
        let echo = Part::start("echo", &args)?;
        let echo_target = LeanTarget { address: echo.address("api")?, ..hop.target.clone() };
        let targets = [Some(&echo_target), serve.as_ref().map(|(_, target)| target)];
        for target in targets.into_iter().flatten() {
            let warm = run_lean(1, target, short, |_| hop.filters(2))?.all_answered("warm-up")?;
            if (warm.mean_bytes() - reply_bytes as f64).abs() > 4.0 {
                let what = "the sides' answers are of different sizes".to_owned();
                return Err(BenchError::Wrong(what));
            }
        }
        Ok(Sides { hop, echo, echo_target, serve })
    }

    fn outcome(&self, rounds: &Rounds) -> Outcome {
        let echo = rounds.echo.median();
        let aims = self.aims;
        let all = [
            ("proxy", &rounds.proxy, aims.map(|aims| aims.proxy)),
            ("replica", &rounds.replica, aims.map(|aims| aims.replica)),
            ("serve", &rounds.serve, aims.map(|aims| aims.serve)),
        ];
        let mut outcome = Outcome::default();
        let mut chart = Chart::new(format!("{}: server CPU a request of 400 ids", self.name), "us")
            .bar(Bar::rival("tonic echo", echo));
        for (side, series, limit) in all {
            if series.0.is_empty() {
                continue;
            }
            let ours = series.median();
            let figure = Figure::of(format!("{}_{side}", self.name), ours, "us of CPU a request")
                .against(echo, "tonic echo that decodes by prost");
            let aimed = |limit| figure.clone().aim(Aim::RatioAtMost(limit));
            outcome.figures.push(limit.map_or(figure.clone(), aimed));
            chart = chart.bar(Bar::ours(side, ours));
        }
        let latency = [("echo", &rounds.echo_tally), ("hop", &rounds.hop_tally)];
        let mut latencies = Chart::new(format!("{}: latency of a request", self.name), "ms");
        for (name, share) in [("P50", 0.5), ("P99", 0.99), ("P999", 0.999)] {
            for (side, tally) in latency {
                let ms = tally.as_ref().map_or(0.0, |tally| tally.latency_ms(share));
                let make = if side == "hop" { Bar::ours } else { Bar::rival };
                latencies = latencies.bar(make(format!("{side} {name}"), ms));
            }
        }
        outcome.charts = vec![chart, latencies];
        outcome
    }
}

impl Sides {
    fn round(&self, shape: Shape, seed: u64, rounds: &mut Rounds) -> Result<(), BenchError> {
        let load = |target: &LeanTarget| {
            run_lean(1, target, shape, |_| self.hop.filters(seed))?.all_answered("hop")
        };
        let before = self.echo.cpu()?;
        let tally = load(&self.echo_target)?;
        rounds.echo.add(self.echo.cpu()?.saturating_sub(before), &tally);
        add(&mut rounds.echo_tally, tally);
        let before = self.hop.cpu()?;
        let tally = load(&self.hop.target)?;
        let after = self.hop.cpu()?;
        rounds.proxy.add(after.0.saturating_sub(before.0), &tally);
        rounds.replica.add(after.1.saturating_sub(before.1), &tally);
        add(&mut rounds.hop_tally, tally);
        if let Some((server, target)) = &self.serve {
            let before = server.part.cpu()?;
            let tally = load(target)?;
            rounds.serve.add(server.part.cpu()?.saturating_sub(before), &tally);
        }
        Ok(())
    }
}

fn add(all: &mut Option<Tally>, tally: Tally) {
    match all {
        Some(all) => all.add(&tally),
        None => *all = Some(tally),
    }
}
