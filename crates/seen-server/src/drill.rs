//! A drill: a cluster of real processes under load, to which faults happen, while a checker that knows every
//! acknowledged mark looks at every answer.

mod act;
mod backing;
mod capacity;
mod catalog;
mod change;
mod document;
mod donor;
mod faults;
mod ledger;
mod limits;
mod load;
mod network;
mod pressure;
mod recovery;
mod report;
mod shares;
mod stage;
mod tally;
mod watchdog;

use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::time::{sleep, timeout};

use crate::cli::CliError;
use crate::cli::dev_cluster::DevCluster;
use crate::shutdown::Stop;
use act::Scene;
pub(crate) use backing::Backing;
pub(crate) use catalog::{listed, wants_a_way};
pub(crate) use document::{Setting, written};
pub(crate) use faults::Fault;
use load::{Load, LoadOptions};
use report::Offered;
pub(crate) use report::{Report, Row};
use shares::Shares;
pub use stage::{Act, BigUser, Stage};
use watchdog::Watchdog;

/// How long a fault's consequences are looked at once the cluster is whole again.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// How long storage is asked about what was marked before nothing is said of it.
const LOOK_MAX: Duration = Duration::from_secs(90);
/// How long the callers run before anything happens: filters are built meanwhile.
const WARM_UP: Duration = Duration::from_secs(5);

/// What a drill does.
#[derive(Clone, Debug)]
pub(crate) struct DrillOptions {
    /// What happens; empty = everything that concerns only the parts.
    pub faults: Vec<Fault>,
    /// Everything instead, each once.
    pub all: bool,
    /// How long the faults last that last for long.
    pub long: Duration,
    /// How long: each fault once, and then random ones until this has passed.
    pub time: Duration,
    /// How long nothing happens between two faults.
    pub pause: Duration,
    /// The history.
    pub namespace: String,
    /// Users.
    pub users: u64,
    /// What kind of storage there is.
    pub backing: Backing,
    /// Filters of 400 candidates a second.
    pub filters_per_s: u32,
    /// Marks a second.
    pub marks_per_s: u32,
    /// Instead, so many percent of the Filters that are borne, with marks in the same proportion.
    pub percent_of_borne: Option<u32>,
    /// Where the random choices begin.
    pub seed: u64,
}

/// Why a drill could not be finished.
#[derive(Debug, Error)]
pub(crate) enum DrillError {
    /// The cluster was not ready in time.
    #[error("the cluster was not whole again after {after_s} s; see the logs of its parts")]
    NotBack {
        /// The time.
        after_s: u64,
    },
    /// A part has no process.
    #[error("{part} does not run; see its log")]
    NotRunning {
        /// Which one.
        part: String,
    },
    /// A signal was refused.
    #[error("cannot signal {part}: {error}")]
    Signal {
        /// Which one.
        part: String,
        /// Why.
        error: String,
    },
    /// A fault cannot be done here.
    #[error("{0}")]
    Stage(String),
    /// It was done, and cannot be undone.
    #[error("it could not be healed: {0}")]
    Heal(String),
    /// The callers.
    #[error(transparent)]
    Client(#[from] seen_client::OptionsError),
    /// The watchdog.
    #[error("cannot start the watchdog: {0}")]
    Watchdog(#[from] std::io::Error),
    /// The map.
    #[error("the map of slots could not be changed: {0}")]
    Change(CliError),
}

/// Runs a drill on a cluster that is started. `tell` is told what is found, and each row as it is over. A drill that cannot go on reports what it has
/// measured until then.
///
/// # Errors
/// [`DrillError`], where it cannot begin.
pub(crate) async fn run(
    cluster: &DevCluster,
    stage: Option<Arc<dyn Stage>>,
    options: &DrillOptions,
    stop: &Stop,
    mut tell: impl FnMut(&str),
) -> Result<Report, DrillError> {
    let load = Load::new(load_options(cluster, options), Watchdog::start()?)?;
    let end_load = Stop::default();
    let callers = tokio::spawn(Arc::clone(&load).run(end_load.clone()));
    let (mut report, mut course) = (Report::default(), Course::new(options));
    // What is borne is what the parts bear, and not what their callers do.
    let shares = options.percent_of_borne.map(|_| Shares::give(cluster)).transpose()?;
    let kept = async {
        match &shares {
            Some(shares) => shares.keep(cluster).await,
            None => std::future::pending().await,
        }
    };
    let drilled = async {
        sleep(WARM_UP).await;
        load.tally.take();
        report.offered = offered(&load, options.percent_of_borne).await?;
        tell(&report.offered.text());
        let scene = Scene { cluster, load: &load, stage, long: options.long };
        while let Some(fault) = course.next() {
            let row = one(fault, &scene, options, &mut course).await;
            tell(&row.line());
            let is_over = row.broken.is_some();
            report.rows.push(row);
            if is_over {
                return Err(format!("the cluster was not whole again after \"{fault}\""));
            }
        }
        Ok(())
    };
    report.ended_early = tokio::select! {
        biased;
        () = stop.requested() => Some("it was ended before its time".to_owned()),
        drilled = drilled => drilled.err(),
        () = kept => None,
    };
    drop(shares);
    if let Some(why) = &report.ended_early {
        for fault in course.left(report.rows.len()) {
            let row = Row::not_done(fault, options.backing, why.clone());
            tell(&row.line());
            report.rows.push(row);
        }
    }
    end_load.request();
    if let Err(panic) = callers.await {
        // It is a fault of this program.
        report.ended_early = Some(format!("a caller panicked: {panic}"));
    }
    if let Some((acknowledged, missing)) = looked(&load, true).await {
        (report.acknowledged, report.missing) = (acknowledged, Some(missing));
    }
    (report.starved_windows, report.starved) = load.watchdog().total();
    Ok(report)
}

/// Has the callers ask as much as they are to. What that is.
///
/// # Errors
/// Why there is no such rate.
async fn offered(load: &Load, percent: Option<u32>) -> Result<Offered, String> {
    let mut of_borne = None;
    if let Some(percent) = percent {
        let borne = capacity::borne(load).await;
        let (rate, why) = (borne.filters_per_s, borne.why);
        if rate == 0 {
            return Err(format!("not the least load was borne: {why}"));
        }
        let wanted = u64::from(rate) * u64::from(percent) / 100;
        load.set_filters_per_s(u32::try_from(wanted).unwrap_or(u32::MAX).max(1));
        of_borne = Some((percent, rate, why));
        // What was asked too much is over by then.
        sleep(WARM_UP).await;
        load.tally.take();
        load.tally.count(|counts| counts.add(&borne.wrong));
    }
    let (filters_per_s, marks_per_s) = (load.filters_per_s(), load.marks_per_s());
    Ok(Offered { filters_per_s, marks_per_s, of_borne })
}

/// Marks that were acknowledged, and how many of those storage does not have; none where it cannot be asked.
async fn looked(load: &Load, every: bool) -> Option<(u64, u64)> {
    timeout(LOOK_MAX, load.look(every)).await.ok()?.ok()
}

fn load_options(cluster: &DevCluster, options: &DrillOptions) -> LoadOptions {
    let proxies = cluster.parts.iter().filter(|part| part.name.starts_with("proxy-"));
    LoadOptions {
        proxies: proxies.map(|part| format!("http://127.0.0.1:{}", part.api())).collect(),
        namespace: options.namespace.clone(),
        users: options.users,
        filters_per_s: options.filters_per_s,
        marks_per_s: options.marks_per_s,
        seed: options.seed,
    }
}

async fn one(fault: Fault, scene: &Scene<'_>, options: &DrillOptions, course: &mut Course) -> Row {
    let (entry, backing) = (catalog::of(fault), options.backing);
    let expects = match backing.expects(fault) {
        Ok(expects) => expects,
        Err(why) => return Row::not_done(fault, backing, why.to_owned()),
    };
    let tally = &scene.load.tally;
    // What was wrong between two faults is nobody's, and no less wrong.
    let mut counts = tally.take().wrong();
    let (usual, meanwhile) = recovery::usually(scene).await;
    counts.add(&meanwhile.wrong());
    let began = Instant::now();
    let done = match act::done(entry, scene, &mut |end| course.draw(end)).await {
        Err(DrillError::Stage(why)) => return Row::not_done(fault, backing, why),
        Err(why) => return broken((fault, backing), scene, why, began).await,
        Ok(done) => done,
    };
    let whole_after = began.elapsed();
    counts.add(&tally.take());
    let limit = (expects.recovered_within * 2).max(AFTERWARDS);
    let (recovered_after, state, more) =
        recovery::as_before(scene, usual, done.healed, limit).await;
    counts.add(&more);
    sleep(AFTERWARDS.max(options.pause)).await;
    counts.add(&tally.take());
    let missing = looked(scene.load, false).await;
    let (usual, lasted) = ((usual, state), began.elapsed());
    let (cut, notes) = (done.cut, done.notes);
    let recovered_after = recovered_after.map(|after| (done.healed - began) + after);
    let healed_after = done.healed - began;
    Row {
        fault,
        backing,
        not_done: None,
        broken: None,
        whole_after,
        healed_after,
        recovered_after,
        lasted,
        usual,
        cut,
        notes,
        missing: missing.map(|(_, missing)| missing),
        counts,
    }
}

/// What there is to tell of a fault after which the cluster is not whole again.
async fn broken(
    (fault, backing): (Fault, Backing),
    scene: &Scene<'_>,
    why: DrillError,
    began: Instant,
) -> Row {
    let said = scene.cluster.complaints().await;
    let said = if said.is_empty() { "all parts are ready".to_owned() } else { said.join("; ") };
    let lasted = began.elapsed();
    Row {
        broken: Some(format!("{why} ({said})")),
        not_done: None,
        whole_after: lasted,
        healed_after: lasted,
        lasted,
        counts: scene.load.tally.take(),
        ..Row::not_done(fault, backing, String::new())
    }
}

/// Which fault comes next: each once, and then at random until the time is over.
struct Course {
    faults: Vec<Fault>,
    done: usize,
    ends: Instant,
    state: u64,
}

impl Course {
    fn new(options: &DrillOptions) -> Self {
        let ends = Instant::now() + options.time;
        let offered = |faults: &[Fault]| {
            let here = faults.iter().filter(|fault| options.backing.offers(**fault));
            here.copied().collect::<Vec<_>>()
        };
        let faults = match options.faults.is_empty() {
            true if options.all => offered(&catalog::ENTRIES.map(|entry| entry.fault)),
            true => offered(&Fault::OWN),
            // What is asked for by name is told of, if only that it is not done.
            false => options.faults.clone(),
        };
        Self { faults, done: 0, ends, state: options.seed }
    }

    /// What was to come once each, after so many.
    fn left(&self, done: usize) -> Vec<Fault> {
        self.faults.get(done..).unwrap_or_default().to_vec()
    }

    fn draw(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(1);
        (seen_filter::hash::mix(self.state) % end.max(1) as u64) as usize
    }

    fn next(&mut self) -> Option<Fault> {
        if let Some(fault) = self.faults.get(self.done) {
            self.done += 1;
            return Some(*fault);
        }
        self.faults.retain(|fault| *fault != Fault::Calm);
        if self.faults.is_empty() || Instant::now() >= self.ends {
            return None;
        }
        self.done = self.faults.len();
        let at = self.draw(self.faults.len());
        self.faults.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ConfigSources;
    use crate::cli::dev_cluster::started;

    /// Parts that end as soon as they are started: nothing is ever whole.
    #[tokio::test]
    async fn what_was_measured_is_told_where_the_cluster_does_not_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sources, stop) = (ConfigSources::default(), Stop::default());
        let program = (7_600, Some("/bin/false".as_ref()));
        let cluster =
            started(&sources, Some(folder.path()), program, |_| None, &stop, |_| {}).await;
        let cluster = cluster.expect("started");
        tokio::time::pause();
        let options = DrillOptions {
            faults: vec![Fault::Calm, Fault::KillReplica, Fault::FewFiles],
            all: false,
            long: Duration::ZERO,
            time: Duration::ZERO,
            pause: Duration::ZERO,
            namespace: "feed".to_owned(),
            users: 1,
            backing: Backing::Fed,
            filters_per_s: 1,
            marks_per_s: 1,
            percent_of_borne: None,
            seed: 1,
        };
        let mut told = Vec::new();
        let (asked_to_stop, tell) = (Stop::default(), |line: &str| told.push(line.to_owned()));
        let report = run(&cluster, None, &options, &asked_to_stop, tell).await.expect("a report");
        let failures: Vec<_> = report.rows.iter().map(Row::failures).collect();
        let [calm, kill, files] = &failures[..] else { panic!("{failures:?}") };
        let why = &calm[0];
        assert!(why.contains("not whole again after 120 s"), "{why}");
        assert!(why.contains("proxy-0: no answer; its log is empty"), "{why}");
        assert_eq!((&kill[..], &files[..]), (&["not done".to_owned()][..], &kill[..]));
        assert_eq!(told.len(), 4, "the load, and three faults: {told:?}");
        assert!(!report.is_sound() && !report.is_as_expected());
        let why = report.ended_early.expect("a reason");
        assert_eq!(why, "the cluster was not whole again after \"calm\"");
        cluster.end().await.expect("ended");
    }
}
