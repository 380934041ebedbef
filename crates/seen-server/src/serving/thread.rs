//! One serving thread: its runtime, and its open connections as the supervisor sees them.

use std::net::TcpStream as StdTcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seen_cluster::tls::ServerTls;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, RuntimeMetrics};
use tokio::sync::{Notify, mpsc, oneshot};

use super::connection::{self, ConnectionState};
use super::options::ServingOptions;
use super::roster::{Open, Roster};
use super::{Served, ServingError, ThreadIndex, ThreadStatus};

/// Connections that may wait to be taken up by a thread.
const HANDED_MAX: usize = 1_024;

/// What a serving thread and the supervisor share.
#[derive(Debug)]
pub(super) struct ThreadShared {
    index: ThreadIndex,
    pub(super) roster: Mutex<Roster>,
    accepted: AtomicU64,
    /// Told whenever a connection is gone.
    pub(super) gone: Notify,
}

impl ThreadShared {
    fn new(index: ThreadIndex) -> Self {
        Self { index, roster: Mutex::default(), accepted: AtomicU64::new(0), gone: Notify::new() }
    }

    pub(super) fn connections(&self) -> usize {
        self.roster.lock().load().connections
    }

    pub(super) fn status(&self) -> ThreadStatus {
        let load = self.roster.lock().load();
        ThreadStatus {
            thread: self.index,
            connections: load.connections,
            accepted: self.accepted.load(Ordering::Relaxed),
            busy: load.busy,
        }
    }
}

/// A connection on its way to its thread. Dropping it, at its end or unserved, takes it off the
/// list of open ones.
struct Handed {
    /// Still a plain socket: it is registered with the runtime of the thread that serves it.
    stream: Option<StdTcpStream>,
    state: Arc<ConnectionState>,
    id: u64,
    shared: Arc<ThreadShared>,
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.shared.roster.lock().leave(self.id);
        self.shared.gone.notify_one();
    }
}

/// A serving thread, seen from outside.
#[derive(Debug)]
pub(super) struct ServingThread {
    shared: Arc<ThreadShared>,
    sender: mpsc::Sender<Handed>,
    runtime: RuntimeMetrics,
    ended: oneshot::Receiver<()>,
}

impl ServingThread {
    /// Starts it and waits until its service is made.
    pub(super) async fn start<F, S>(
        index: ThreadIndex,
        options: ServingOptions,
        tls: Option<ServerTls>,
        make: Arc<F>,
    ) -> Result<Self, ServingError>
    where
        F: Fn(ThreadIndex) -> S + Send + Sync + 'static,
        S: Served,
    {
        let refused = |source| ServingError::Thread { thread: index, source };
        let (sender, mut handed) = mpsc::channel::<Handed>(HANDED_MAX);
        let (made, is_made) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let metrics = runtime.metrics();
        let work = move || {
            runtime.block_on(async move {
                let service = make(index);
                let options = Arc::new(options);
                // Nobody hears it if the start was given up; then the channel is closed, too.
                let _ = made.send(());
                while let Some(one) = handed.recv().await {
                    let (service, options) = (service.clone(), Arc::clone(&options));
                    let tls = tls.clone();
                    tokio::spawn(async move { take_up(one, service, &options, tls).await });
                }
            });
            runtime.shutdown_background();
            let _ = end.send(());
        };
        std::thread::Builder::new()
            .name(format!("seen-serve-{index}"))
            .spawn(work)
            .map_err(refused)?;
        is_made.await.map_err(|_| ServingError::Died { thread: index })?;
        let shared = Arc::new(ThreadShared::new(index));
        Ok(Self { shared, sender, runtime: metrics, ended })
    }

    pub(super) fn shared(&self) -> Arc<ThreadShared> {
        Arc::clone(&self.shared)
    }

    /// How long the thread has worked in all.
    pub(super) fn busy_total(&self) -> Duration {
        self.runtime.worker_total_busy_duration(0)
    }

    /// Hands a connection over. False if the thread has stopped taking them up.
    pub(super) fn hand(&self, stream: StdTcpStream, id: u64, open: Open) -> bool {
        let (state, shared) = (Arc::clone(&open.state), Arc::clone(&self.shared));
        // Listed before it is sent, so that the next placement counts it.
        self.shared.roster.lock().admit(id, open);
        let handed = Handed { stream: Some(stream), state, id, shared };
        let taken = self.sender.try_send(handed).is_ok();
        if taken {
            self.shared.accepted.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Lets the thread end, which cuts off what still runs on it; the result says when it has.
    pub(super) fn end(self) -> oneshot::Receiver<()> {
        self.ended
    }
}

async fn take_up<S: Served>(
    mut handed: Handed,
    service: S,
    options: &ServingOptions,
    tls: Option<ServerTls>,
) {
    let Some(stream) = handed.stream.take() else {
        return;
    };
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            return tracing::warn!(%error, "connection lost on its way to its thread");
        }
    };
    let state = Arc::clone(&handed.state);
    let Some(tls) = tls else {
        return connection::serve(stream, service, state, options).await;
    };
    match state.unless_cut(tls.accept(stream)).await {
        Some(Ok(stream)) => connection::serve(stream, service, state, options).await,
        // Somebody who speaks no TLS, or shows no certificate.
        Some(Err(error)) => tracing::debug!(%error, "no TLS"),
        None => {}
    }
}
