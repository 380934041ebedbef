//! Accepts, places, supervises and drains: the one task that sees all connections of all threads.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use metrics::{Counter, Gauge, counter, gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::balance::{self, Load, Pace};
use super::connection::{ConnectionState, PREFACE_BYTES, Verdict};
use super::options::ServingOptions;
use super::roster::Open;
use super::thread::{ServingThread, ThreadShared};
use crate::metrics::{CONNECTIONS, CONNECTIONS_ACCEPTED, CONNECTIONS_REFUSED, THREAD_BUSY};

/// How long no connection is accepted after the system refused one for want of memory or files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a thread may take to end after its connections have.
const THREAD_END_MAX: Duration = Duration::from_secs(2);
/// How much earlier or later than its age a connection is closed, as a share of it.
const AGE_JITTER: f64 = 0.1;
/// After this long all cancelled requests are forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves once asked to.
    pub closed: usize,
    /// Connections cut off with requests still running.
    pub cut: usize,
    /// Threads that had not ended when the bound was reached.
    pub threads_stuck: usize,
}

/// A thread with what the supervisor keeps about it.
struct Supervised {
    thread: ServingThread,
    shared: Arc<ThreadShared>,
    busy_total: Duration,
    connections: Gauge,
    accepted: Counter,
    busy: Gauge,
}

impl Supervised {
    fn new(thread: ServingThread) -> Self {
        let shared = thread.shared();
        let name = shared.status().thread.to_string();
        Self {
            busy_total: thread.busy_total(),
            connections: gauge!(CONNECTIONS.name, "thread" => name.clone()),
            accepted: counter!(CONNECTIONS_ACCEPTED.name, "thread" => name.clone()),
            busy: gauge!(THREAD_BUSY.name, "thread" => name),
            thread,
            shared,
        }
    }

    fn load(&self) -> Load {
        self.shared.roster.lock().load()
    }

    /// Takes a sample of its load, and shows it.
    fn sample(&mut self, elapsed: Duration) {
        let total = self.thread.busy_total();
        let worked = total.saturating_sub(self.busy_total).as_secs_f64();
        let share = (worked / elapsed.as_secs_f64().max(1e-9)).min(1.0);
        self.busy_total = total;
        let mut roster = self.shared.roster.lock();
        roster.sample(share);
        self.busy.set(roster.load().busy);
        self.connections.set(roster.load().connections as f64);
    }

    /// Ends the connections whose time is up.
    fn inspect(&self, now: Instant, options: &ServingOptions, forgiven: f64) {
        for open in self.shared.roster.lock().iter_mut() {
            let age = now.saturating_duration_since(open.accepted_at);
            open.state.forgive(forgiven);
            let closing = open.closing_since().map(|since| now.saturating_duration_since(since));
            if open.state.bytes_in() < PREFACE_BYTES && age >= options.handshake {
                open.state.decide(Verdict::Cut, "handshake");
            } else if closing.is_some_and(|time| time >= options.connection_grace) {
                open.state.decide(Verdict::Cut, "grace");
            } else if age >= open.age_max {
                open.close(now, "age");
            }
        }
    }

    /// Asks one connection to close, if that would even out the load.
    fn relieve(&self, now: Instant, gap: f64) -> bool {
        let mut roster = self.shared.roster.lock();
        let chosen = balance::to_move(roster.load().busy, gap, &roster.movable());
        match chosen.and_then(|id| roster.get_mut(id)) {
            Some(one) => {
                one.close(now, "balance");
                true
            }
            None => false,
        }
    }
}

struct Supervisor {
    threads: Vec<Supervised>,
    options: ServingOptions,
    next_id: u64,
    sampled_at: Instant,
    pace: Pace,
}

/// Accepts until `shutdown`, then drains: for as long as it says, or as configured.
pub(super) async fn run(
    threads: Vec<ServingThread>,
    options: ServingOptions,
    listener: TcpListener,
    shutdown: impl Future<Output = Option<Duration>>,
) -> Drained {
    let mut ticks = interval(options.balance_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut supervisor = Supervisor {
        threads: threads.into_iter().map(Supervised::new).collect(),
        options,
        next_id: 0,
        sampled_at: Instant::now(),
        pace: Pace::default(),
    };
    let mut shutdown = pin!(shutdown);
    let drain = loop {
        tokio::select! {
            biased;
            drain = &mut shutdown => break drain,
            _ = ticks.tick() => supervisor.supervise(Instant::now()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => supervisor.place(stream),
                Err(error) => refused(&error).await,
            },
        }
    };
    drop(listener);
    let drain = drain.unwrap_or(supervisor.options.drain);
    supervisor.drain(drain).await
}

/// A connection that was gone before it was accepted is nobody's fault; for anything else (no more
/// open files) trying again at once would only burn the core.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot accept; check the limit of open files");
        sleep(ACCEPT_PAUSE).await;
    }
}

impl Supervisor {
    fn loads(&self) -> Vec<Load> {
        self.threads.iter().map(Supervised::load).collect()
    }

    fn place(&mut self, stream: TcpStream) {
        let loads = self.loads();
        let open: usize = loads.iter().map(|load| load.connections).sum();
        if open >= self.options.connections_max {
            counter!(CONNECTIONS_REFUSED.name).increment(1);
            tracing::debug!(open, "connection refused: server.connections_max");
            return;
        }
        // Replies are single small frames: waiting to fill a packet would only delay them.
        let socket = stream.set_nodelay(true).and_then(|()| stream.into_std());
        let Ok(socket) = socket else {
            return; // The client has gone.
        };
        let id = self.next_id;
        self.next_id += 1;
        let jitter = rand::random_range(1.0 - AGE_JITTER..1.0 + AGE_JITTER);
        let state = Arc::new(ConnectionState::new(self.options.cancelled_max));
        let age_max = self.options.connection_age.mul_f64(jitter);
        let open = Open::new(state, Instant::now(), age_max);
        let chosen = &self.threads[balance::least_loaded(&loads)];
        if chosen.thread.hand(socket, id, open) {
            chosen.accepted.increment(1);
        } else {
            counter!(CONNECTIONS_REFUSED.name).increment(1);
        }
    }

    fn supervise(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.sampled_at);
        if elapsed.is_zero() {
            return;
        }
        self.sampled_at = now;
        let forgiven = elapsed.as_secs_f64() / FORGIVEN_AFTER.as_secs_f64();
        for thread in &mut self.threads {
            thread.sample(elapsed);
            thread.inspect(now, &self.options, forgiven);
        }
        let loads = self.loads();
        if !self.pace.sampled() {
            return;
        }
        if let Some((hot, gap)) = balance::to_relieve(&loads)
            && self.threads[hot].relieve(now, gap)
        {
            self.pace.moved(&loads);
        }
    }

    async fn drain(self, drain: Duration) -> Drained {
        let now = Instant::now();
        let before = self.connections();
        for thread in &self.threads {
            for open in thread.shared.roster.lock().iter_mut() {
                open.close(now, "drain");
            }
        }
        let all_gone = async {
            while self.connections() > 0 {
                // A connection that goes between the count and here has left its permit.
                select_all(self.threads.iter().map(|one| Box::pin(one.shared.gone.notified())))
                    .await;
            }
        };
        let in_time = timeout(drain, all_gone).await.is_ok();
        let cut = if in_time { 0 } else { self.connections() };
        let ended: Vec<_> = self.threads.into_iter().map(|one| one.thread.end()).collect();
        let ends_by = Instant::now() + THREAD_END_MAX;
        let mut threads_stuck = 0;
        for end in ended {
            // An error is a thread that died: it has ended, too.
            threads_stuck += usize::from(tokio::time::timeout_at(ends_by, end).await.is_err());
        }
        Drained { closed: before.saturating_sub(cut), cut, threads_stuck }
    }

    fn connections(&self) -> usize {
        self.threads.iter().map(|one| one.shared.connections()).sum()
    }
}
