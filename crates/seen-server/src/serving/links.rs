//! The links of proxies and peers: threads of their own, so that tools on the public port and proxies on the link
//! do not wait for each other.

use std::future::Future;
use std::net::TcpStream as StdTcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use seen_cluster::link::{LinkService, ServerOptions, serve_tcp};
use seen_cluster::tls::ServerTls;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::{ServingError, ThreadIndex};

/// Connections that may wait to be taken up by a thread.
const HANDED_MAX: usize = 1_024;
/// How long no connection is accepted after the system refused one for want of memory or files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How links are served.
#[derive(Clone)]
pub(crate) struct LinkOptions {
    /// Threads.
    pub threads: usize,
    /// Open links; one more is closed as soon as it is accepted.
    pub links_max: usize,
    /// Bounds of each.
    pub server: ServerOptions,
    /// Certificates.
    pub tls: Option<ServerTls>,
}

/// One thread that serves links.
struct LinkThread {
    sender: mpsc::Sender<StdTcpStream>,
    open: Arc<AtomicUsize>,
}

/// The threads that serve links.
pub(crate) struct LinkThreads {
    threads: Vec<LinkThread>,
    options: LinkOptions,
    draining: watch::Sender<bool>,
    gone: Arc<Notify>,
}

impl LinkThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system refuses a thread or a runtime.
    pub(crate) fn start<S: LinkService>(
        options: LinkOptions,
        service: &Arc<S>,
    ) -> Result<Self, ServingError> {
        let (draining, _) = watch::channel(false);
        let gone = Arc::new(Notify::new());
        let mut threads = Vec::with_capacity(options.threads);
        for index in (0..options.threads.max(1)).map(ThreadIndex) {
            let serving = Serving {
                service: Arc::clone(service),
                options: options.clone(),
                draining: draining.subscribe(),
                open: Arc::new(AtomicUsize::new(0)),
                gone: Arc::clone(&gone),
            };
            threads.push(start_thread(index, serving)?);
        }
        Ok(Self { threads, options, draining, gone })
    }

    /// Accepts links until `shutdown`; then says goodbye on each, and waits until what is under way is answered, for
    /// as long as `shutdown` says, or else `drain`.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = Option<Duration>>,
        drain: Duration,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        let limit = loop {
            tokio::select! {
                biased;
                limit = &mut shutdown => break limit,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.place(stream),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a link; check the limit of open files");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        drop(listener);
        self.draining.send_replace(true);
        let all_gone = async {
            loop {
                let gone = self.gone.notified();
                if self.open() == 0 {
                    return;
                }
                gone.await;
            }
        };
        if timeout(limit.unwrap_or(drain), all_gone).await.is_err() {
            tracing::warn!(open = self.open(), "links cut off with requests under way");
        }
    }

    fn open(&self) -> usize {
        self.threads.iter().map(|thread| thread.open.load(Ordering::Relaxed)).sum()
    }

    fn place(&self, stream: TcpStream) {
        if self.open() >= self.options.links_max {
            tracing::warn!(links_max = self.options.links_max, "link refused: cluster.links_max");
            return;
        }
        let least = self.threads.iter().min_by_key(|thread| thread.open.load(Ordering::Relaxed));
        let (Some(thread), Ok(stream)) = (least, stream.into_std()) else { return };
        thread.open.fetch_add(1, Ordering::Relaxed);
        if thread.sender.try_send(stream).is_err() {
            thread.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What one thread serves links with.
struct Serving<S> {
    service: Arc<S>,
    options: LinkOptions,
    draining: watch::Receiver<bool>,
    open: Arc<AtomicUsize>,
    gone: Arc<Notify>,
}

impl<S: LinkService> Serving<S> {
    async fn run(self: Arc<Self>, mut handed: mpsc::Receiver<StdTcpStream>) {
        while let Some(stream) = handed.recv().await {
            let serving = Arc::clone(&self);
            tokio::spawn(async move {
                serving.serve(stream).await;
                serving.open.fetch_sub(1, Ordering::Relaxed);
                serving.gone.notify_one();
            });
        }
    }

    async fn serve(&self, stream: StdTcpStream) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "link lost on its way to its thread"),
        };
        let mut draining = self.draining.clone();
        let drains = async move {
            // An error is that the threads are dropped: over as well.
            let _ = draining.wait_for(|draining| *draining).await;
        };
        let LinkOptions { server, tls, .. } = &self.options;
        let served = serve_tcp(stream, tls.as_ref(), &*self.service, server, drains).await;
        if let Err(cut) = served {
            tracing::info!(%cut, "link ended");
        }
    }
}

fn start_thread<S: LinkService>(
    index: ThreadIndex,
    serving: Serving<S>,
) -> Result<LinkThread, ServingError> {
    let refused = |source| ServingError::Thread { thread: index, source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let (sender, handed) = mpsc::channel(HANDED_MAX);
    let open = Arc::clone(&serving.open);
    let work = move || {
        runtime.block_on(Arc::new(serving).run(handed));
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name(format!("seen-link-{index}"));
    thread.spawn(work).map_err(refused)?;
    Ok(LinkThread { sender, open })
}
