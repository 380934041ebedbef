//! The cluster while it runs: its parts, their processes, and whether they are ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::layout::Part;
use super::running::{self, Launch, News};
use crate::cli::CliError;
use crate::shutdown::Stop;

/// How often parts are asked whether they are ready.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one answer may take.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// A cluster that runs.
pub(crate) struct DevCluster {
    /// Its parts.
    pub(crate) parts: Vec<Part>,
    /// What they were started with.
    pub(crate) launch: Arc<Launch>,
    pids: Arc<Mutex<BTreeMap<String, u32>>>,
    kept: JoinSet<Result<(), CliError>>,
    stop: Stop,
    _temporary: Option<TempDir>,
}

impl DevCluster {
    /// Starts every part, and keeps it running until `stop`.
    pub(crate) fn start(
        parts: Vec<Part>,
        launch: Launch,
        temporary: Option<TempDir>,
        stop: &Stop,
        tell: impl Fn(&News) + Clone + Send + Sync + 'static,
    ) -> Self {
        let launch = Arc::new(launch);
        let pids: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
        let mut kept = JoinSet::new();
        for part in parts.clone() {
            let (launch, stop, tell) = (Arc::clone(&launch), stop.clone(), tell.clone());
            let pids = Arc::clone(&pids);
            kept.spawn(async move {
                let note = |news: News| {
                    match &news {
                        News::Started { part, pid } => pids.lock().insert(part.name.clone(), *pid),
                        News::Ended { part, .. } => pids.lock().remove(&part.name),
                    };
                    tell(&news);
                };
                let ended = running::keep(&launch, &part, &stop, note).await;
                if ended.is_err() {
                    stop.request();
                }
                ended
            });
        }
        Self { parts, launch, pids, kept, stop: stop.clone(), _temporary: temporary }
    }

    /// A part's process, if it runs.
    pub(crate) fn pid(&self, part: &str) -> Option<u32> {
        self.pids.lock().get(part).copied()
    }

    /// Waits until every part says that it is ready. False after `limit`.
    pub(crate) async fn ready_within(&self, limit: Duration) -> bool {
        let all = async {
            for part in &self.parts {
                while !is_ready(part).await {
                    sleep(LOOK_EVERY).await;
                }
            }
        };
        timeout(limit, all).await.is_ok()
    }

    /// Asks every part to end, and waits for it.
    ///
    /// # Errors
    /// The first part's that could not be kept running.
    pub(crate) async fn end(mut self) -> Result<(), CliError> {
        self.stop.request();
        self.wait().await
    }

    /// Waits until every part has ended.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub(crate) async fn wait(&mut self) -> Result<(), CliError> {
        let mut outcome = Ok(());
        while let Some(ended) = self.kept.join_next().await {
            let ended = ended.unwrap_or_else(|panic| Err(panic.to_string().into()));
            if outcome.is_ok() {
                outcome = ended;
            }
        }
        outcome
    }
}

/// Asks a part's /readyz.
async fn is_ready(part: &Part) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", part.http())).await?;
        let request = b"GET /readyz HTTP/1.1\r\nHost: seen\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(timeout(LOOK_MAX, asked).await, Ok(Ok(true)))
}
