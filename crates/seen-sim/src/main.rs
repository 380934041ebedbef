//! `seen-sim`: plays seeds, many at once, and tells the story of the first one that breaks a promise.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use seen_sim::sabotage::{self, BUGS, Bug};
use seen_sim::{Options, Played, play};

/// A seed allocates some eighty thousand times, in one thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The simulated cluster, through many seeds or one.
#[derive(Debug, Parser)]
#[command(name = "seen-sim", version)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Begins no further seed after so many seconds.
    #[arg(long)]
    within: Option<u64>,
    /// How many to play at once.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Plays them without a defence until a promise is broken; `all` for one after the other. Needs the feature `sabotage`.
    #[arg(long)]
    sabotage: Option<String>,
    /// Plays this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "start", "jobs"])]
    seed: Option<u64>,
    /// Prints everything that happened in it.
    #[arg(long, requires = "seed")]
    trace: bool,
}

/// What all seeds together came to.
#[derive(Debug, Default)]
struct Sums {
    seeds: u64,
    calls: u64,
    filters: u64,
    flagged: u64,
    unread: u64,
    false_positives: u64,
    calm_longest: Duration,
    broken: Vec<u64>,
    story: Option<(u64, String)>,
}

impl Sums {
    fn add(&mut self, played: &Played) {
        let report = &played.report;
        self.seeds += 1;
        self.calls += report.calls;
        self.calm_longest = self.calm_longest.max(report.calm_longest);
        self.filters += report.filters;
        self.flagged += report.flagged;
        self.unread += report.unread;
        self.false_positives += report.false_positives;
        let Some(story) = played.story() else { return };
        self.broken.push(played.seed);
        if self.story.as_ref().is_none_or(|(seed, _)| played.seed < *seed) {
            self.story = Some((played.seed, story));
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.seed, &arguments.sabotage) {
        (Some(seed), bug) => one(seed, arguments.trace, bug.as_deref()),
        (None, Some(bug)) => bugs(&arguments, bug),
        (None, None) => many(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "seen-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays one seed. True if all promises were kept.
fn one(seed: u64, trace: bool, bug: Option<&str>) -> io::Result<bool> {
    let without = bug.map(known).transpose()?.map(|bug| bug.name);
    let played = play(seed, Options { without, ..Options::default() }).map_err(io::Error::other)?;
    let mut out = io::stdout().lock();
    if trace {
        for event in &played.events {
            writeln!(out, "{event}")?;
        }
    }
    match played.story() {
        Some(story) => write!(out, "{story}")?,
        None => writeln!(out, "seed {seed}: all promises were kept")?,
    }
    Ok(played.report.broken.is_empty())
}

/// Plays many. True if all promises were kept in all of them.
fn many(arguments: &Arguments) -> io::Result<bool> {
    let bar = ProgressBar::new(arguments.seeds);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds {per_sec} {msg}")
    {
        bar.set_style(style);
    }
    let began = Instant::now();
    let sums = Mutex::new(Sums::default());
    let failure = Mutex::new(None);
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while !over.load(Ordering::Relaxed)
            && arguments.within.is_none_or(|seconds| began.elapsed().as_secs() < seconds)
        {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= arguments.seeds {
                return;
            }
            match played(arguments.start.wrapping_add(at)) {
                Ok(played) => {
                    let mut sums = sums.lock();
                    sums.add(&played);
                    if let Some((seed, _)) = &sums.story {
                        bar.set_message(format!("({} broken, first: {seed})", sums.broken.len()));
                    }
                    bar.inc(1);
                }
                Err(error) => {
                    failure.lock().get_or_insert(error);
                    over.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (0..arguments.jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    bar.finish_and_clear();
    if let Some(error) = failure.into_inner() {
        return Err(io::Error::other(error));
    }
    let sums = sums.into_inner();
    tell(arguments, &sums, began.elapsed().as_secs_f64())?;
    Ok(sums.broken.is_empty())
}

/// Plays a seed, and again in words if it breaks a promise.
fn played(seed: u64) -> Result<Played, String> {
    let played = play(seed, Options::quiet())?;
    match played.report.broken.is_empty() {
        true => Ok(played),
        false => play(seed, Options::default()),
    }
}

fn known(name: &str) -> io::Result<Bug> {
    sabotage::named(name).ok_or_else(|| {
        let names: Vec<&str> = BUGS.iter().map(|bug| bug.name).collect();
        io::Error::other(format!("{name:?} is none of {}", names.join(", ")))
    })
}

/// Tries one bug or all of them, and prints after how many seeds each was found. True if all were.
fn bugs(arguments: &Arguments, which: &str) -> io::Result<bool> {
    let bugs = match which {
        "all" => BUGS.to_vec(),
        name => vec![known(name)?],
    };
    let only = bugs.len() == 1;
    let bar = ProgressBar::new(bugs.len() as u64);
    let found = Mutex::new(vec![None; bugs.len()]);
    let failure = Mutex::new(None);
    let next = AtomicU64::new(0);
    let seeds = arguments.start..arguments.start.saturating_add(arguments.seeds);
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed) as usize
            && let Some(bug) = bugs.get(at)
        {
            match sabotage::find(*bug, seeds.clone(), || failure.lock().is_some()) {
                Ok(result) => found.lock()[at] = result,
                Err(error) => drop(failure.lock().get_or_insert(error)),
            }
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        (0..arguments.jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    bar.finish_and_clear();
    if let Some(error) = failure.into_inner() {
        return Err(io::Error::other(error));
    }
    let found = found.into_inner();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "| bug | of | what is taken away: that | seeds | check |\n|---|---|---|---:|---:|"
    )?;
    for (Bug { name, rule, what }, found) in bugs.iter().zip(&found) {
        let (seeds, check) = match found {
            Some(found) => (found.seeds.to_string(), found.promise.to_string()),
            None => (format!("not in {}", arguments.seeds), String::new()),
        };
        writeln!(out, "| `{name}` | {rule} | {what} | {seeds} | {check} |")?;
    }
    if let [Some(found)] = found.as_slice()
        && only
    {
        write!(out, "\n{}", found.story)?;
    }
    Ok(found.iter().all(Option::is_some))
}

fn tell(arguments: &Arguments, sums: &Sums, seconds: f64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (seeds, start, calm) = (sums.seeds, arguments.start, sums.calm_longest);
    let share = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
    writeln!(
        out,
        "{seeds} seeds from {start}: {:.1} a second; {} calls, {:.2} % of the Filters flagged, {:.2} % false positives; \
         flagged at the latest {calm:?} after all was well",
        seeds as f64 / seconds.max(1e-9),
        sums.calls,
        share(sums.flagged, sums.filters),
        share(sums.false_positives, sums.unread),
    )?;
    let Some((_, story)) = &sums.story else {
        return writeln!(out, "all promises were kept");
    };
    let mut broken = sums.broken.clone();
    broken.sort_unstable();
    writeln!(out, "{} seeds broke a promise: {broken:?}", broken.len())?;
    write!(out, "{story}")
}
