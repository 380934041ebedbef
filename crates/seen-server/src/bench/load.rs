//! The load generator: gRPC calls over the `h2` crate, several connections by several streams, with
//! request bytes made beforehand. Light, since on one machine it takes its share of what it measures.

mod lane;
mod lean;
mod link;
mod tally;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{BenchError, system};
use lane::Lane;
pub(super) use lean::{LeanTarget, Writer, run_lean};
pub(super) use tally::Tally;

/// How often an open loop looks at what is due. A request is sent up to this much after its time,
/// which counts as its latency.
const PACED_EVERY: Duration = Duration::from_millis(1);
/// How long answers may take after the last request was sent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What is called.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Where; connections are spread over the addresses.
    pub addresses: Vec<SocketAddr>,
    /// The call's path.
    pub path: &'static str,
    /// The `grpc-timeout` of each call.
    pub timeout: &'static str,
}

/// The path of Filter.
pub(super) const FILTER: &str = "/seen.v1.SeenService/Filter";
/// The path of Mark.
pub(super) const MARK: &str = "/seen.v1.SeenService/Mark";
/// The path of FilterUsers.
pub(super) const FILTER_USERS: &str = "/seen.v1.SeenService/FilterUsers";

/// How requests follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Each stream asks anew as soon as it is answered.
    Closed,
    /// So many in a second, whether or not earlier ones are answered; at most as many in flight as
    /// there are streams. Later ones wait, and their waiting counts: latencies begin at the time
    /// that a request was due (no coordinated omission).
    Open {
        /// Requests a second.
        per_s: f64,
    },
}

/// How much load there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Connections of each thread.
    pub connections: usize,
    /// Requests in flight on each connection.
    pub streams: usize,
    /// How they follow each other.
    pub pace: Pace,
    /// For how long requests are sent.
    pub lasting: Duration,
}

/// Makes requests; `None` ends the load.
pub(super) type Source = Box<dyn FnMut() -> Option<Bytes>>;

/// Puts load on a target from this thread, and blocks until all is answered.
///
/// # Errors
/// No connection could be made. Failed calls are in the tally.
pub(super) fn run(target: &Target, shape: Shape, source: Source) -> Result<Tally, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start a runtime for the load"))?;
    let target = target.clone();
    LocalSet::new().block_on(&runtime, async move {
        let mut lanes = Vec::with_capacity(shape.connections);
        for at in 0..shape.connections {
            let address = target.addresses[at % target.addresses.len()];
            let lane = Lane::connect(address, &target).await;
            lanes.push(Rc::new(lane.map_err(system(format!("cannot connect to {address}")))?));
        }
        let load = Load {
            lanes,
            source: RefCell::new(source),
            tally: RefCell::new(Tally::new()),
            ended: Cell::new(false),
        };
        Ok(Rc::new(load).put(shape).await)
    })
}

/// Puts the same load from several threads; `source` makes each thread's.
///
/// # Errors
/// As [`run`].
pub(super) fn run_on(
    threads: usize,
    target: &Target,
    shape: Shape,
    source: impl Fn(usize) -> Source + Sync,
) -> Result<Tally, BenchError> {
    std::thread::scope(|scope| {
        let source = &source;
        let started: Vec<_> = (0..threads)
            .map(|at| {
                let mut target = target.clone();
                // Every thread begins at another address, so that all get as many connections.
                let addresses = target.addresses.len();
                target.addresses.rotate_left(at % addresses);
                scope.spawn(move || run(&target, shape, source(at)))
            })
            .collect();
        let mut all = Tally::new();
        for thread in started {
            let died =
                |_| BenchError::Part { part: "load".to_owned(), what: "panicked".to_owned() };
            all.add(&thread.join().map_err(died)??);
        }
        Ok(all)
    })
}

struct Load {
    lanes: Vec<Rc<Lane>>,
    source: RefCell<Source>,
    tally: RefCell<Tally>,
    /// The source has run dry.
    ended: Cell<bool>,
}

impl Load {
    async fn put(self: Rc<Self>, shape: Shape) -> Tally {
        let began = Instant::now();
        let until = began + shape.lasting;
        match shape.pace {
            Pace::Closed => Rc::clone(&self).closed(shape.streams, until).await,
            Pace::Open { per_s } => Rc::clone(&self).open(shape, per_s, began).await,
        }
        let mut tally = self.tally.replace(Tally::new());
        tally.elapsed = began.elapsed();
        tally
    }

    fn next(&self) -> Option<Bytes> {
        let request = (self.source.borrow_mut())();
        self.ended.set(self.ended.get() || request.is_none());
        request
    }

    async fn call(&self, lane: usize, request: Bytes, due: Instant) {
        let answered = self.lanes[lane].call(request).await;
        self.tally.borrow_mut().count(answered, due.elapsed());
    }

    async fn closed(self: Rc<Self>, streams: usize, until: Instant) {
        let mut slots = Vec::new();
        for slot in 0..self.lanes.len() * streams {
            let load = Rc::clone(&self);
            slots.push(spawn_local(async move {
                let lane = slot % load.lanes.len();
                while Instant::now() < until
                    && let Some(request) = load.next()
                {
                    load.call(lane, request, Instant::now()).await;
                }
            }));
        }
        for slot in slots {
            // A slot ends by itself; a panic in it would be a fault of ours and lose its count only.
            let _ = slot.await;
        }
    }

    async fn open(self: Rc<Self>, shape: Shape, per_s: f64, began: Instant) {
        let in_flight_max = self.lanes.len() * shape.streams;
        let permits = Arc::new(Semaphore::new(in_flight_max));
        let mut ticks = interval(PACED_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut sent: u64 = 0;
        let wanted = (shape.lasting.as_secs_f64() * per_s) as u64;
        while began.elapsed() < shape.lasting && !self.ended.get() {
            ticks.tick().await;
            // The first one is due at once.
            let due = ((began.elapsed().as_secs_f64() * per_s) as u64 + 1).min(wanted);
            while sent < due && began.elapsed() < shape.lasting {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                let Some(request) = self.next() else { break };
                let due_at = began + Duration::from_secs_f64(sent as f64 / per_s);
                let (load, lane) = (Rc::clone(&self), sent as usize % self.lanes.len());
                spawn_local(async move {
                    load.call(lane, request, due_at).await;
                    drop(permit);
                });
                sent += 1;
            }
        }
        let all = u32::try_from(in_flight_max).unwrap_or(u32::MAX);
        // What is not answered by then has failed, and is missing from the count of the answered.
        let _ = timeout(ANSWERS_WITHIN, permits.acquire_many(all)).await;
        self.tally.borrow_mut().unsent = wanted.saturating_sub(sent);
    }
}
