//! Filter against a bare tonic echo: server CPU a request, and checks a second of the whole machine.

use std::path::Path;
use std::time::Duration;

use seen_client::{Admin, Client, ClientOptions, FilterCall, Quality, Session};
use tempfile::TempDir;

use super::chart::{Bar, Chart};
use super::figure::{Aim, Figure};
use super::load::{FILTER, Pace, Shape, Source, Tally, Target, run, run_on};
use super::part::Part;
use super::process::{cores, cpu_time, median};
use super::progress::Progress;
use super::synthetic::{CANDIDATES, Filters, HISTORIES, KIND, NAMESPACE, PREFIX_BYTES, candidates};
use super::{BenchError, Outcome, Plan, system};

/// Users in memory: with [`ITEMS`] items each more than 1 GB of filters, far beyond every cache.
pub(super) const USERS: u64 = 170_000;
/// Items that each has read.
pub(super) const ITEMS: u64 = 5_000;
/// The `grpc-timeout` of each call.
pub(super) const TIMEOUT: &str = "90m";
/// Users whose answers are looked at before anything is measured.
const VERIFIED_USERS: u64 = 200;
/// Highest share of unread candidates that may be called read; promised is 1 %.
const WRONG_SHARE_MAX: f64 = 0.02;

/// How many requests there are at once: connections and streams on each.
const SATURATION: (usize, usize) = (6, 48);
const SIXTEEN: (usize, usize) = (2, 8);
/// Of each load thread when the whole machine is measured.
const WHOLE_MACHINE: (usize, usize) = (4, 48);

/// Server CPU of a request at saturation.
///
/// # Errors
/// [`BenchError`].
pub(super) fn saturation(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    cpu("filter_cpu_saturation", SATURATION, plan, progress)
}

/// The same with 16 in flight.
///
/// # Errors
/// [`BenchError`].
pub(super) fn sixteen(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    cpu("filter_cpu_16_in_flight", SIXTEEN, plan, progress)
}

fn cpu(
    name: &str,
    shape: (usize, usize),
    plan: &Plan,
    progress: &Progress,
) -> Result<Outcome, BenchError> {
    let pair = Pair::start(1, plan, progress)?;
    let mut outcome = pair.cpu(name, shape, plan, progress)?;
    outcome.notes.push(pair.note(name)?);
    pair.all_from_memory()?;
    Ok(outcome)
}

/// Checks a second of the whole machine.
///
/// # Errors
/// [`BenchError`].
pub(super) fn throughput(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let pair = Pair::start(cores(), plan, progress)?;
    let outcome = pair.throughput(plan, progress)?;
    pair.all_from_memory()?;
    Ok(outcome)
}

/// Ourselves and the echo, with as many serving threads each.
struct Pair {
    seen: Server,
    echo: Part,
    echo_target: Target,
    threads: usize,
}

/// A node with users in memory.
pub(super) struct Server {
    pub part: Part,
    pub target: Target,
    users: u64,
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts it, its files in a folder within `dir` that is removed at the end.
    ///
    /// # Errors
    /// [`BenchError`]; wrong answers among them.
    pub fn start(threads: usize, users: u64, dir: &Path) -> Result<Self, BenchError> {
        Self::on(threads, users, dir, None)
    }

    /// The same on the storage of a configuration, if one is given.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn on(
        threads: usize,
        users: u64,
        dir: &Path,
        config: Option<&Path>,
    ) -> Result<Self, BenchError> {
        let what = format!("cannot make a folder in {}", dir.display());
        let folder = tempfile::Builder::new().prefix("seen-bench-").tempdir_in(dir);
        let folder = folder.map_err(system(what))?;
        let mut args = vec![
            format!("--threads={threads}"),
            format!("--users={users}"),
            format!("--items={ITEMS}"),
            format!("--data-dir={}", folder.path().display()),
        ];
        args.extend(config.map(|file| format!("--config={}", file.display())));
        let part = Part::start("serve", &args)?;
        let target = Target { addresses: part.addresses("api")?, path: FILTER, timeout: TIMEOUT };
        let server = Self { part, target, users, _folder: Some(folder) };
        server.verify()?;
        Ok(server)
    }

    /// Refuses to write made-up marks into somebody's history.
    ///
    /// # Errors
    /// [`BenchError::NotEmpty`].
    pub fn is_empty(&self) -> Result<(), BenchError> {
        let url = format!("http://{}", self.part.address("admin")?);
        let status = block_on(async {
            let admin = Admin::new(&ClientOptions::new(url))
                .map_err(|error| BenchError::Wrong(error.to_string()))?;
            let what = "Status";
            admin.status().await.map_err(|error| BenchError::Call { what, error })
        })?;
        let history = status.namespaces.iter().find(|namespace| namespace.name == NAMESPACE);
        match history.and_then(|history| history.rows) {
            Some(0) => Ok(()),
            rows => Err(BenchError::NotEmpty { namespace: NAMESPACE, rows }),
        }
    }

    /// Refuses to measure a server whose answers are wrong.
    fn verify(&self) -> Result<(), BenchError> {
        let url = format!("http://{}", self.target.addresses[0]);
        block_on(async {
            let client = Client::new(ClientOptions::new(url))
                .map_err(|error| BenchError::Wrong(error.to_string()))?;
            let mut wrong = 0;
            let users = VERIFIED_USERS.min(self.users);
            for at in 0..users {
                wrong += verified(&client, at * self.users / users).await?;
            }
            let unread = users as f64 * CANDIDATES as f64 / 2.0;
            if wrong as f64 > unread * WRONG_SHARE_MAX {
                let what = format!("{wrong} of {unread} unread candidates were called read");
                return Err(BenchError::Wrong(what));
            }
            Ok(())
        })
    }
}

/// Asks about one user, and returns how many unread candidates were called read.
pub(super) async fn verified(client: &Client, user: u64) -> Result<usize, BenchError> {
    let ids = candidates(user % HISTORIES, 0, ITEMS);
    let call = FilterCall::new(NAMESPACE).items(KIND, ids).timeout(Duration::from_secs(1));
    let answer = client
        .filter(&Session::new(user), call)
        .await
        .map_err(|error| BenchError::Call { what: "Filter", error })?;
    if !matches!(answer.quality, Quality::Filtered { .. }) {
        let what = format!("user {user} is not answered from a filter: {:?}", answer.quality);
        return Err(BenchError::Wrong(what));
    }
    match answer.unseen.iter().find(|position| **position % 2 == 0) {
        Some(at) => {
            Err(BenchError::Wrong(format!("user {user} has read candidate {at}: false negative")))
        }
        None => Ok(CANDIDATES / 2 - answer.unseen.len()),
    }
}

/// Runs a short conversation.
pub(super) fn block_on<T>(
    work: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start a runtime"))?
        .block_on(work)
}

/// Filters of the preloaded users.
pub(super) fn filters(users: u64, seed: u64) -> Source {
    let mut filters = Filters::new(users, ITEMS, seed);
    Box::new(move || Some(filters.next()))
}

impl Pair {
    fn start(threads: usize, plan: &Plan, progress: &Progress) -> Result<Self, BenchError> {
        progress.step(format!("starting a server with {USERS} users of {ITEMS} items"))?;
        let seen = Server::start(threads, USERS, &plan.dir)?;
        let (connections, streams) = SIXTEEN;
        let lasting = Duration::from_millis(300);
        let shape = Shape { connections, streams, pace: Pace::Closed, lasting };
        let warm = run(&seen.target, shape, filters(USERS, 1))?.all_answered("warm-up")?;
        let reply_bytes = warm.mean_bytes().round() as usize - PREFIX_BYTES;
        let args = [format!("--threads={threads}"), format!("--reply-bytes={reply_bytes}")];
        let echo = Part::start("echo", &args)?;
        let addresses = echo.addresses("api")?;
        let echo_target = Target { addresses, ..seen.target.clone() };
        let warm_echo = run(&echo_target, shape, filters(USERS, 2))?.all_answered("warm-up")?;
        if (warm.mean_bytes() - warm_echo.mean_bytes()).abs() > 4.0 {
            let what = "the echo's answers are of another size than ours".to_owned();
            return Err(BenchError::Wrong(what));
        }
        Ok(Self { seen, echo, echo_target, threads })
    }

    fn note(&self, name: &str) -> Result<String, BenchError> {
        let mib = self.seen.part.resident_bytes()? >> 20;
        Ok(format!(
            "{name}: 1 serving thread on each side; ours held {mib} MiB while asked about a \
             pseudo-random user of {USERS} each time; medians of interleaved rounds"
        ))
    }

    /// After all those questions storage must not have been asked, nor anything degraded.
    fn all_from_memory(&self) -> Result<(), BenchError> {
        let url = format!("http://{}", self.seen.part.address("admin")?);
        let status = block_on(async {
            let admin = Admin::new(&ClientOptions::new(url))
                .map_err(|error| BenchError::Wrong(error.to_string()))?;
            admin.status().await.map_err(|error| BenchError::Call { what: "Status", error })
        })?;
        let traffic = status.traffic.unwrap_or_default();
        if traffic.filters != traffic.hits || traffic.degraded > 0 || traffic.errors > 0 {
            let what = format!("not every filter was answered from memory: {traffic:?}");
            return Err(BenchError::Wrong(what));
        }
        Ok(())
    }

    fn cpu(
        &self,
        name: &str,
        (connections, streams): (usize, usize),
        plan: &Plan,
        progress: &Progress,
    ) -> Result<Outcome, BenchError> {
        let lasting = plan.pick(Duration::from_millis(700), Duration::from_secs(2));
        let shape = Shape { connections, streams, pace: Pace::Closed, lasting };
        let rounds = plan.pick(5, 9);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut tallies = (Tally::new(), Tally::new());
        for round in 0..rounds {
            progress.step(format!("{name}: round {} of {rounds}", round + 1))?;
            let seed = 10 + round as u64;
            let (us, tally) = cpu_us(&self.seen.part, &self.seen.target, shape, seed)?;
            ours.push(us);
            tallies.0.add(&tally);
            let (us, tally) = cpu_us(&self.echo, &self.echo_target, shape, seed)?;
            theirs.push(us);
            tallies.1.add(&tally);
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        let figure = Figure::of(name, ours, "us of server CPU a request")
            .against(theirs, "tonic echo that decodes by prost")
            .aim(Aim::RatioAtMost(1.1));
        let chart = Chart::new(format!("{name}: server CPU a request of 400 ids"), "us")
            .bar(Bar::ours("seen", ours))
            .bar(Bar::rival("tonic echo", theirs));
        let latencies = latency_chart(format!("{name}: latency of a request"), &tallies);
        let charts = vec![chart, latencies];
        Ok(Outcome { figures: vec![figure], charts, ..Outcome::default() })
    }

    fn throughput(&self, plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
        let (connections, streams) = WHOLE_MACHINE;
        let lasting = plan.pick(Duration::from_secs(1), Duration::from_secs(3));
        let shape = Shape { connections, streams, pace: Pace::Closed, lasting };
        let rounds = plan.pick(2, 5);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut spent = Spent::default();
        for round in 0..rounds {
            progress.step(format!("checks_per_second: round {} of {rounds}", round + 1))?;
            let source = |thread: usize| filters(USERS, (round * 64 + thread) as u64);
            let rate = |target: &Target| {
                let tally = run_on(self.threads, target, shape, source)?;
                tally.all_answered("checks_per_second")
            };
            let before = self.spent()?;
            let tally = rate(&self.seen.target)?;
            spent.add(&before, &self.spent()?, &tally);
            ours.push(tally.per_s() * CANDIDATES as f64);
            theirs.push(rate(&self.echo_target)?.per_s() * CANDIDATES as f64);
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        let figure = Figure::of("checks_per_second", ours, "ids/s, load generator included")
            .against(theirs, "tonic echo that only decodes the ids")
            .aim(Aim::AtLeast(40e6));
        let chart = Chart::new("checks_per_second: whole machine", "million ids/s")
            .bar(Bar::ours("seen", ours / 1e6))
            .bar(Bar::rival("tonic echo", theirs / 1e6))
            .limit(40.0);
        let (figures, charts, notes) = (vec![figure], vec![chart], vec![spent.note()]);
        Ok(Outcome { figures, charts, notes, ..Outcome::default() })
    }

    /// CPU of our server and of this process, which makes the load.
    fn spent(&self) -> Result<(Duration, Duration), BenchError> {
        let load = cpu_time(std::process::id()).map_err(system("cannot read the CPU"))?;
        Ok((self.seen.part.cpu()?, load))
    }
}

/// Where the machine's CPU went.
#[derive(Default)]
struct Spent {
    server: Duration,
    load: Duration,
    elapsed: Duration,
    answered: u64,
}

impl Spent {
    fn add(&mut self, before: &(Duration, Duration), after: &(Duration, Duration), tally: &Tally) {
        self.server += after.0.saturating_sub(before.0);
        self.load += after.1.saturating_sub(before.1);
        self.elapsed += tally.elapsed;
        self.answered += tally.answered;
    }

    fn note(&self) -> String {
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / self.answered.max(1) as f64;
        let had = self.elapsed.as_secs_f64() * cores() as f64;
        let share = (self.server + self.load).as_secs_f64() / had.max(1e-9) * 100.0;
        format!(
            "checks_per_second: of each request {:.1} us of CPU were the server's and {:.1} us the \
             load generator's; both together got {share:.0} % of the machine, other processes and \
             idling the rest",
            each(self.server),
            each(self.load)
        )
    }
}

fn latency_chart(title: String, (ours, theirs): &(Tally, Tally)) -> Chart {
    [("P50", 0.5), ("P99", 0.99), ("P999", 0.999)].into_iter().fold(
        Chart::new(title, "ms"),
        |chart, (label, share)| {
            chart
                .bar(Bar::ours(format!("seen {label}"), ours.latency_ms(share)))
                .bar(Bar::rival(format!("echo {label}"), theirs.latency_ms(share)))
        },
    )
}

/// One round: CPU of the server for each answered request, in microseconds.
pub(super) fn cpu_us(
    part: &Part,
    target: &Target,
    shape: Shape,
    seed: u64,
) -> Result<(f64, Tally), BenchError> {
    let before = part.cpu()?;
    let tally = run(target, shape, filters(USERS, seed))?.all_answered("filter")?;
    let spent = part.cpu()?.saturating_sub(before);
    Ok((spent.as_secs_f64() * 1e6 / tally.answered.max(1) as f64, tally))
}
