//! A user with a long history whose entry is not in memory: the first answer comes within its 90 ms
//! and is right, while others are served.

#[path = "api/ask.rs"]
#[allow(dead_code, reason = "shared with the API's tests, which use all of it")]
mod ask;
#[path = "api/stage.rs"]
#[allow(dead_code, reason = "shared with the API's tests, which use all of it")]
mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use seen_proto::limits::TIMEOUT_MS_DEFAULT;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_proto::v1::{self, QualityLevel};
use tokio::sync::watch;
use tonic::Request;
use tonic::transport::Channel;

use ask::{Caller, READ, filter, level, mark, patient};
use stage::{Stage, config, connect};

/// The history's length: the longest of a real set of histories.
const ITEMS: u64 = 47_327;
/// The user who has it.
const READER: u64 = 1_000_001;
/// How often it is asked about cold.
const ROUNDS: u64 = 12;
/// Other users, who are in memory.
const OTHERS: u64 = 64;
/// A thread that wants to run every few milliseconds and does not for this long is starved.
const STARVED: Duration = Duration::from_millis(25);

/// Measures how long the machine keeps a thread waiting that wants to run.
struct Watchdog {
    worst_us: Arc<AtomicU64>,
    end: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    fn start() -> Self {
        let worst_us = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel();
        let worst = Arc::clone(&worst_us);
        let thread = std::thread::spawn(move || {
            let pause = Duration::from_millis(2);
            let mut slept_at = Instant::now();
            while ended.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                let late = slept_at.elapsed().saturating_sub(pause);
                worst.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
                slept_at = Instant::now();
            }
        });
        Self { worst_us, end, thread }
    }

    /// The longest wait since the last call.
    fn worst(&self) -> Duration {
        Duration::from_micros(self.worst_us.swap(0, Ordering::Relaxed))
    }

    fn stop(self) {
        drop(self.end);
        self.thread.join().expect("no panic");
    }
}

/// Filters for other users until told to stop; how long each answer took.
async fn others(
    channel: Channel,
    stop: Arc<AtomicBool>,
    answers: watch::Sender<u64>,
) -> Vec<Duration> {
    let mut api = Caller(SeenServiceClient::new(channel));
    let mut took = Vec::new();
    for n in 0_u64.. {
        answers.send_replace(n);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let answer = api.filter(filter(n % OTHERS, &[READ], 0..400)).await;
        took.push(began.elapsed());
        assert!(!answer.unseen.contains(&0), "what was read is never called unread");
    }
    took
}

fn percentile(took: &mut [Duration], share: f64) -> Duration {
    took.sort_unstable();
    let at = (took.len() as f64 * share) as usize;
    took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Serves the others while `work` is done, and for at least so many answers.
async fn beside<T>(
    stage: &Stage,
    answers_min: u64,
    work: impl Future<Output = T>,
) -> (T, Vec<Duration>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (answers, mut answered) = watch::channel(0);
    let channel = connect(stage.at.api).await;
    let running = tokio::spawn(others(channel, Arc::clone(&stop), answers));
    answered.wait_for(|answers| *answers > 0).await.expect("they run");
    let done = work.await;
    answered.wait_for(|answers| *answers >= answers_min).await.expect("they run");
    stop.store(true, Ordering::Relaxed);
    (done, running.await.expect("no panic"))
}

/// Imports the histories and builds the entries of the others.
async fn fill(stage: &mut Stage) {
    for start in (0..ITEMS).step_by(1_000) {
        stage.api.mark(mark(READER, READ, start..(start + 1_000).min(ITEMS))).await;
    }
    for user in 0..OTHERS {
        stage.api.mark(mark(user, READ, 0..200)).await;
        stage.rebuild(user, READ).await;
    }
}

/// Half of the candidates were read, drawn from the whole history.
fn candidates(round: u64) -> Vec<u64> {
    let read = (0..200).map(|n| (n * 7_919 + round * 104_729) % ITEMS);
    read.chain((0..200).map(|n| ITEMS + round * 200 + n)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_answer_about_a_long_cold_history_is_in_time_and_right() {
    let mut stage = Stage::with(config()).await;
    fill(&mut stage).await;
    let ((), mut before) = beside(&stage, 1_000, async {}).await;
    let watchdog = Watchdog::start();
    let (mut sound, mut starved, mut during, mut firsts) = (0, 0, Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        stage.evict(READER).await;
        let (mut api, mut admin) = (stage.api.clone(), stage.admin.clone());
        let first = async {
            watchdog.worst();
            let began = Instant::now();
            // No deadline of its own: the service's 90 ms count.
            let request = Request::new(filter(READER, &[READ], candidates(round)));
            let answer = api.0.filter(request).await.expect("answered").into_inner();
            let (took, worst) = (began.elapsed(), watchdog.worst());
            // The build that this miss began runs beside the others, and another one after it.
            let again = v1::RebuildUserRequest { user: READER, namespace: READ.to_owned() };
            admin.rebuild_user(patient(again)).await.expect("rebuilt");
            (answer, took, worst)
        };
        let ((answer, took, worst), others) = beside(&stage, 1, first).await;
        during.extend(others);
        firsts.push(took);
        if level(&answer.quality) == QualityLevel::Degraded {
            let quality = answer.quality.expect("present");
            assert!(worst > STARVED, "flagged after {took:?} on a calm machine: {quality:?}");
            starved += 1;
            continue;
        }
        assert_eq!(answer.unseen, (200..400).collect::<Vec<_>>(), "exactly what was not read");
        sound += 1;
    }
    watchdog.stop();
    let p = |took: &mut Vec<Duration>, share| percentile(took, share);
    eprintln!(
        "cold user of {ITEMS} items: {sound} of {ROUNDS} first answers sound, {starved} flagged on a \
         starved machine; first answer p50 {:?}, worst {:?} (limit {TIMEOUT_MS_DEFAULT} ms); others \
         p50 {:?} -> {:?}, p99 {:?} -> {:?}",
        p(&mut firsts, 0.5),
        p(&mut firsts, 1.0),
        p(&mut before, 0.5),
        p(&mut during, 0.5),
        p(&mut before, 0.99),
        p(&mut during, 0.99),
    );
    let warm = stage.api.filter(filter(READER, &[READ], candidates(ROUNDS))).await;
    assert!(warm.unseen.iter().all(|at| *at >= 200), "from memory, too");
    let status = stage.status().await;
    assert!(status.namespaces.iter().all(|namespace| namespace.false_negatives == 0));
    stage.close().await;
}
