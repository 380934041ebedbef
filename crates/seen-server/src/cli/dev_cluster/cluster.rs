//! The cluster while it runs: its parts, their processes, and whether they are ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::layout::Part;
use super::running::{self, Launch, News};
use crate::cli::CliError;
use crate::shutdown::Stop;

/// How often parts are asked whether they are ready.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one answer may take.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Told what becomes of the parts.
type Tell = Arc<dyn Fn(&News) + Send + Sync>;

/// A cluster that runs.
pub(crate) struct DevCluster {
    /// Its parts.
    pub(crate) parts: Vec<Part>,
    /// The replicas of a slot that is not in the map. They do not run.
    pub(crate) spare: Vec<Part>,
    /// What they were started with.
    pub(crate) launch: Arc<Launch>,
    pids: Arc<Mutex<BTreeMap<String, u32>>>,
    kept: JoinSet<Result<(), CliError>>,
    stop: Stop,
    tell: Tell,
    temporary: Option<TempDir>,
}

/// A part that came later. Ends when it is dropped.
pub(crate) struct Joined {
    stop: Stop,
    kept: JoinHandle<Result<(), CliError>>,
}

impl Joined {
    /// Asks it to end, and waits for it.
    ///
    /// # Errors
    /// If it could not be kept running.
    pub(crate) async fn end(mut self) -> Result<(), CliError> {
        self.stop.request();
        (&mut self.kept).await.unwrap_or_else(|panic| Err(panic.to_string().into()))
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.stop.request();
    }
}

impl DevCluster {
    /// Starts every part, and keeps it running until `stop`.
    pub(crate) fn start(
        (parts, spare): (Vec<Part>, Vec<Part>),
        launch: Launch,
        temporary: Option<TempDir>,
        stop: &Stop,
        tell: impl Fn(&News) + Send + Sync + 'static,
    ) -> Self {
        let mut cluster = Self {
            parts,
            spare,
            launch: Arc::new(launch),
            pids: Arc::default(),
            kept: JoinSet::new(),
            stop: stop.clone(),
            tell: Arc::new(tell),
            temporary,
        };
        for part in cluster.parts.clone() {
            let (stop, kept) = (stop.clone(), cluster.keep(part, stop.clone()));
            cluster.kept.spawn(async move {
                let ended = kept.await;
                if ended.is_err() {
                    stop.request();
                }
                ended
            });
        }
        cluster
    }

    /// Starts one more part. It is none of [`Self::parts`].
    pub(crate) fn join(&self, part: Part) -> Joined {
        let stop = Stop::default();
        let kept = tokio::spawn(self.keep(part, stop.clone()));
        Joined { stop, kept }
    }

    fn keep(
        &self,
        part: Part,
        stop: Stop,
    ) -> impl Future<Output = Result<(), CliError>> + Send + 'static {
        let (launch, pids) = (Arc::clone(&self.launch), Arc::clone(&self.pids));
        let tell = Arc::clone(&self.tell);
        async move {
            let note = |news: News| {
                match &news {
                    News::Started { part, pid } => pids.lock().insert(part.name.clone(), *pid),
                    News::Ended { part, .. } => pids.lock().remove(&part.name),
                };
                tell(&news);
            };
            running::keep(&launch, &part, &stop, note).await
        }
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

    /// What the parts say that are not ready.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let mut said = Vec::new();
        for part in &self.parts {
            let answer = asked(part, "/readyz").await;
            if answer.as_ref().is_some_and(|answer| is_yes(answer)) {
                continue;
            }
            let body = answer.as_ref().and_then(|answer| answer.split_once("\r\n\r\n"));
            let why = match body {
                Some((_, body)) => body.split_whitespace().collect::<Vec<_>>().join(" "),
                None => format!("no answer; {}", self.launch.last_words(part)),
            };
            said.push(format!("{part}: {why}"));
        }
        said
    }

    /// Keeps a temporary folder, with the logs, after this is gone.
    pub(crate) fn keep_folder(&mut self) {
        if let Some(folder) = &mut self.temporary {
            folder.disable_cleanup(true);
        }
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

/// True if a part says that it is ready.
pub(crate) async fn is_ready(part: &Part) -> bool {
    asked(part, "/readyz").await.is_some_and(|answer| is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

/// One of a part's counters, of all lines that have these labels together; `None` where the part does not answer.
pub(crate) async fn counted(part: &Part, counter: &str, labels: &[&str]) -> Option<u64> {
    let text = asked(part, "/metrics").await?;
    let of = |line: &str| {
        let rest = line.strip_prefix(counter)?;
        let is_it = rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label));
        is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    };
    Some(text.lines().filter_map(of).sum::<f64>() as u64)
}

/// What a part answers at its HTTP port, head and all.
async fn asked(part: &Part, path: &str) -> Option<String> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", part.http())).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: seen\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    timeout(LOOK_MAX, asked).await.ok()?.ok()
}
