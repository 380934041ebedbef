//! Durable marks beside filters, on the real store on a real disk: closed loop for what the machine
//! carries, open loop at 70 % of it for latencies that wait for nobody.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::chart::{Bar, Chart};
use super::disk;
use super::figure::{Aim, Figure, number};
use super::filter::{Server, filters};
use super::load::{MARK, Pace, Shape, Source, Tally, Target, run};
use super::process::{cores, cpu_time};
use super::progress::Progress;
use super::synthetic::{CANDIDATES, Marks};
use super::{BenchError, Outcome, Plan, system};

/// Users that are marked and asked about.
const USERS: u64 = 100_000;
/// Items of a mark.
const ITEMS_PER_MARK: u64 = 10;
/// Filters of 400 ids beside the marks, a second.
const FILTERS_PER_S: f64 = 30_000.0;
/// Connections and streams of the filters.
const FILTERS_IN_FLIGHT: (usize, usize) = (4, 64);
/// Share of the closed loop's rate that an open loop asks for.
const OPEN_SHARE: f64 = 0.7;
/// The aims.
const ROWS_PER_S_MIN: f64 = 40_000.0;
const P99_MS_MAX: f64 = 25.0;
const P999_MS_MAX: f64 = 50.0;
/// Marks in flight of the closed loop. By Little's law 40,000 rows/s within 25 ms leave room for 100
/// marks of ten.
const CLOSED_IN_FLIGHT: usize = 64;
/// The same where nobody minds waiting, to see what the store carries.
const SATURATED_IN_FLIGHT: usize = 1_024;
/// Connections of the marks.
const CONNECTIONS: usize = 4;
/// Marks that an open loop may have in flight.
const OPEN_IN_FLIGHT_MAX: usize = 2_048;
/// The `grpc-timeout` of marks: long, so that a late one is a latency and not a failure.
const MARK_TIMEOUT: &str = "20S";
/// The same of the filters beside them.
const FILTER_TIMEOUT: &str = "5S";

/// Measures it.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let mut outcome = Outcome::default();
    if plan.config.is_none() && disk::in_memory(&plan.dir) {
        let what = format!(
            "{} lies in memory: durable_marks says nothing about a disk; choose one by --dir",
            plan.dir.display()
        );
        progress.warn(&what);
        outcome.notes.push(what);
    }
    progress.step("durable_marks: starting a server")?;
    let server = Server::on(cores(), USERS, &plan.dir, plan.config.as_deref())?;
    let sync_ms = disk::sync_ms(&plan.dir).map_err(system("cannot time a sync"))?;
    let mut scene = Scene { server, phase: 0, charts: Vec::new(), figures: Vec::new() };
    let lasting = plan.pick(Duration::from_secs(3), Duration::from_secs(12));
    progress.step("durable_marks: closed loop")?;
    let closed = scene.both(marks_shape(CLOSED_IN_FLIGHT, Pace::Closed, lasting))?;
    scene.report("durable_marks_closed", &closed, Aims::All);
    progress.step("durable_marks: saturated")?;
    let saturated = scene.both(marks_shape(SATURATED_IN_FLIGHT, Pace::Closed, lasting))?;
    scene.report("durable_marks_saturated", &saturated, Aims::Rate);
    let lasting = plan.pick(Duration::from_secs(4), Duration::from_secs(20));
    let at_70 = OPEN_SHARE * closed.rows_per_s();
    let loops = [("durable_marks_open_70", at_70), ("durable_marks_open_aim", ROWS_PER_S_MIN)];
    for (name, rows_per_s) in loops {
        progress.step(format!("{name}: open loop, {} rows/s", number(rows_per_s)))?;
        let pace = Pace::Open { per_s: (rows_per_s / ITEMS_PER_MARK as f64).max(1.0) };
        let open = scene.both(marks_shape(OPEN_IN_FLIGHT_MAX, pace, lasting))?;
        let all = rows_per_s >= ROWS_PER_S_MIN;
        scene.report(name, &open, if all { Aims::All } else { Aims::Latency });
    }
    outcome.notes.push(format!(
        "durable_marks: {ITEMS_PER_MARK} rows a mark, filters of {CANDIDATES} ids beside them; \
         closed = {CLOSED_IN_FLIGHT} marks in flight, saturated = {SATURATED_IN_FLIGHT}, open loops \
         at 70 % of the closed one's rate and at the aim's, their latencies counted from the time \
         that a mark was due; one sync of this disk takes {sync_ms:.2} ms; {}; the load generator shares the {} cores",
        commits(scene.server.part.address("http")?),
        cores()
    ));
    outcome.figures = scene.figures;
    outcome.charts = scene.charts;
    Ok(outcome)
}

fn marks_shape(in_flight: usize, pace: Pace, lasting: Duration) -> Shape {
    Shape { connections: CONNECTIONS, streams: in_flight / CONNECTIONS, pace, lasting }
}

struct Scene {
    server: Server,
    /// Numbers the loads, so that none marks what another has.
    phase: u64,
    figures: Vec<Figure>,
    charts: Vec<Chart>,
}

/// Which aims a load is held to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aims {
    All,
    /// Of an open loop below the aim's rate.
    Latency,
    /// Of one that only asks for as much as it gets.
    Rate,
}

/// What went on at the same time.
struct Both {
    marks: Tally,
    filters: Tally,
    /// Share of all cores that the server and the load generator took.
    busy: f64,
}

impl Both {
    fn rows_per_s(&self) -> f64 {
        self.marks.per_s() * ITEMS_PER_MARK as f64
    }
}

impl Scene {
    /// Marks as told, and filters at a constant rate as long as they last.
    fn both(&mut self, marks: Shape) -> Result<Both, BenchError> {
        self.phase += 1;
        let seed = self.phase;
        let (connections, streams) = FILTERS_IN_FLIGHT;
        let pace = Pace::Open { per_s: FILTERS_PER_S };
        let beside = Shape { connections, streams, pace, lasting: marks.lasting };
        let filter_target = Target { timeout: FILTER_TIMEOUT, ..self.server.target.clone() };
        let mark_target =
            Target { path: MARK, timeout: MARK_TIMEOUT, ..self.server.target.clone() };
        let (cpu_before, began) = (self.cpu()?, Instant::now());
        let (filters, marks) = std::thread::scope(|scope| {
            let other = scope.spawn(|| run(&filter_target, beside, filters(USERS, seed)));
            let marks = run(&mark_target, marks, marks_of(seed));
            (other.join(), marks)
        });
        let spent = self.cpu()?.saturating_sub(cpu_before);
        let busy = spent.as_secs_f64() / (began.elapsed().as_secs_f64() * cores() as f64);
        let died = |_| BenchError::Part { part: "load".to_owned(), what: "panicked".to_owned() };
        Ok(Both {
            marks: marks?.all_answered("durable_marks")?,
            filters: filters.map_err(died)??.all_answered("filters beside marks")?,
            busy,
        })
    }

    /// CPU that our server and this process, which makes the load, have taken so far.
    fn cpu(&self) -> Result<Duration, BenchError> {
        let load = cpu_time(std::process::id()).map_err(system("cannot read the CPU"))?;
        Ok(self.server.part.cpu()? + load)
    }

    fn report(&mut self, name: &str, both: &Both, aims: Aims) {
        let latency = |share: f64| both.marks.latency_ms(share);
        let aimed = |figure: Figure, not_for: Aims, aim: Aim| match aims == not_for {
            true => figure,
            false => figure.aim(aim),
        };
        let rows = Figure::of(format!("{name}_rows"), both.rows_per_s(), "rows/s");
        // What is due in the last moment is answered after it.
        let rows_min = Aim::AtLeast(ROWS_PER_S_MIN * 0.99);
        self.figures.push(aimed(rows, Aims::Latency, rows_min));
        self.figures.push(Figure::of(format!("{name}_p50"), latency(0.5), "ms"));
        let p99 = Figure::of(format!("{name}_p99"), latency(0.99), "ms");
        self.figures.push(aimed(p99, Aims::Rate, Aim::AtMost(P99_MS_MAX)));
        let p999 = Figure::of(format!("{name}_p999"), latency(0.999), "ms");
        self.figures.push(aimed(p999, Aims::Rate, Aim::AtMost(P999_MS_MAX)));
        let beside =
            Figure::of(format!("{name}_filters"), both.filters.per_s(), "filters/s beside");
        self.figures.push(beside.aim(Aim::AtLeast(FILTERS_PER_S * 0.99)));
        let beside_p99 = both.filters.latency_ms(0.99);
        self.figures.push(Figure::of(format!("{name}_filters_p99"), beside_p99, "ms"));
        let busy =
            Figure::of(format!("{name}_cpu"), both.busy * 100.0, "% of all cores, load included");
        self.figures.push(busy);
        let title = format!("{name}: {} rows/s, latency of a mark", number(both.rows_per_s()));
        let chart = Chart::new(title, "ms")
            .bar(Bar::ours("P50", latency(0.5)))
            .bar(Bar::ours("P99", latency(0.99)))
            .bar(Bar::ours("P999", latency(0.999)))
            .bar(Bar::rival("filters beside, P99", beside_p99))
            .limit(P99_MS_MAX)
            .limit(P999_MS_MAX);
        self.charts.push(chart);
    }
}

fn marks_of(seed: u64) -> Source {
    let mut marks = Marks::new(USERS, ITEMS_PER_MARK, seed);
    Box::new(move || Some(marks.next()))
}

/// What the server's own metrics say about its group commits, or why that is not known.
fn commits(http: SocketAddr) -> String {
    let Ok(text) = metrics(http) else { return "its metrics could not be read".to_owned() };
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.find_map(|rest| rest.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    let commits = value("seen_store_commits_total").max(1.0);
    let rows = value("seen_store_commit_rows_sum") / commits;
    let ms = value("seen_store_commit_seconds_sum") / commits * 1_000.0;
    format!("{} commits of {} rows and {ms:.1} ms in the mean", number(commits), number(rows))
}

/// The metrics of a part.
///
/// # Errors
/// Its port does not answer.
pub(super) fn metrics(http: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: seen\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
