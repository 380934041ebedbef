//! Filters at a steady rate, whether or not earlier ones are answered, from a thread of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use seen_client::{Client, ClientOptions, FilterCall, Session};
use tokio::time::{MissedTickBehavior, interval};

use super::figures::Random;
use super::{KIND, NAMESPACE};

/// Candidates of a Filter.
const CANDIDATES: u64 = 400;
const CONNECTIONS: usize = 4;
/// How often is looked what is due; so much later a Filter may be sent, which counts.
const PACED_EVERY: Duration = Duration::from_millis(1);

/// One Filter.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When it was due.
    pub due: Instant,
    /// From then until it was answered.
    pub took: Duration,
    pub ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Sound,
    Flagged,
    Failed,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Load {
    pub url: String,
    pub per_second: u64,
    /// Users 1 to this, all of them in memory.
    pub users: u64,
    /// Items 1 to this were read by each.
    pub read: u64,
}

/// The thread.
pub struct Asking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Asked>>,
}

impl Asking {
    pub fn start(load: Load) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(ask(load, &own))
        });
        Self { stop, thread }
    }

    /// Every Filter that was due.
    pub fn stop(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

async fn ask(load: Load, stop: &AtomicBool) -> Vec<Asked> {
    let mut options = ClientOptions::new(&load.url).connections(CONNECTIONS);
    // The service's own 90 ms count; an answer that is repeated would not be one.
    options.attempts_max = 1;
    let client = Client::connect(options).await.expect("it serves");
    let (tell, told) = mpsc::channel();
    let mut ticks = interval(PACED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut random, mut sent) = (Random(3), 0_u64);
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let due_last = (began.elapsed().as_secs_f64() * load.per_second as f64) as u64;
        while sent <= due_last {
            let due = began + Duration::from_secs_f64(sent as f64 / load.per_second as f64);
            let session = Session::new(1 + random.below(load.users));
            let call = FilterCall::new(NAMESPACE).items(KIND, candidates(&mut random, load.read));
            let (client, tell) = (client.clone(), tell.clone());
            tokio::spawn(async move {
                let ended = match client.filter(&session, call).await {
                    Ok(answer) if answer.is_flagged() => Ended::Flagged,
                    Ok(_) => Ended::Sound,
                    Err(_) => Ended::Failed,
                };
                // Whoever listens waits for all of them.
                let _ = tell.send(Asked { due, took: due.elapsed(), ended });
            });
            sent += 1;
        }
    }
    drop(tell);
    // Each ends within its deadline.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut all = Vec::new();
    while all.len() < sent as usize && Instant::now() < deadline {
        all.extend(told.try_iter());
        ticks.tick().await;
    }
    all
}

/// Half of them were read, or all that was.
fn candidates(random: &mut Random, read: u64) -> Vec<u64> {
    let first = (1 << 50) + random.below(1 << 30);
    let read = read.min(CANDIDATES / 2);
    (1..=read).chain(first..first + CANDIDATES - read).collect()
}
