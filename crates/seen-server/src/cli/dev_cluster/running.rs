//! Keeping the parts running: one that ends is started again, as an orchestrator would.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::layout::{Part, Role};
use crate::cli::{CliError, ConfigSources};
use crate::shutdown::Stop;

/// How soon a part that ended is started again, at first and at the longest.
const RESTART_AFTER_MIN: Duration = Duration::from_millis(100);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(5);
/// A part that ran for this long has recovered: its next restart is quick again.
const RECOVERED_AFTER: Duration = Duration::from_secs(10);
/// Characters of a log's last line that are told.
const LAST_WORDS_MAX: usize = 300;
/// How long parts may take to end before they are killed.
const END_MAX: Duration = Duration::from_secs(40);

/// What every part is started with.
pub(crate) struct Launch {
    /// The program: this one.
    pub program: PathBuf,
    /// The configuration that was given to the cluster.
    pub sources: ConfigSources,
    /// The map of slots.
    pub map: PathBuf,
    /// Where the embedded store lies; none where another store is configured.
    pub data_dir: Option<PathBuf>,
    /// Where the parts' logs go.
    pub logs: PathBuf,
    /// What single parts are started with beside that, by their names.
    pub besides: Mutex<BTreeMap<String, Besides>>,
}

/// What a part is started with beside its usual arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Besides {
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// Options, as `--set` takes them.
    pub set: Vec<String>,
}

impl Launch {
    fn arguments(&self, part: &Part) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![part.command().into(), "--stop-with-stdin".into()];
        if let Some(file) = &self.sources.config {
            arguments.extend(["--config".into(), file.into()]);
        }
        let mut set: Vec<String> = self.sources.set.clone();
        set.extend(self.besides(part).set);
        let local = |port: u16| format!("127.0.0.1:{port}");
        set.push(format!("server.listen={}", local(part.api())));
        set.push(format!("server.admin_listen={}", local(part.admin())));
        set.push(format!("server.http_listen={}", local(part.http())));
        set.push(format!("cluster.map={}", self.map.display()));
        if let Some(data_dir) = &self.data_dir {
            set.push(format!("storage.data_dir={}", data_dir.display()));
        }
        if let Role::Replica { pool, slot } = part.role {
            set.push(format!("cluster.pool={pool}"));
            set.push(format!("cluster.slot={slot}"));
            set.push(format!("cluster.link_listen={}", local(part.link())));
        }
        for one in set {
            arguments.extend(["--set".into(), one.into()]);
        }
        arguments
    }

    fn besides(&self, part: &Part) -> Besides {
        self.besides.lock().get(&part.name).cloned().unwrap_or_default()
    }

    /// Starts a part with this beside the usual, or without anything, from its next start on.
    pub(crate) fn start_with(&self, part: &Part, besides: Option<Besides>) {
        let name = part.name.clone();
        match besides {
            Some(besides) => self.besides.lock().insert(name, besides),
            None => self.besides.lock().remove(&name),
        };
    }

    /// Where the logs lie.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Where a part's log lies.
    pub(super) fn log(&self, part: &Part) -> PathBuf {
        self.logs.join(format!("{part}.log"))
    }

    /// The last line of a part's log, as far as it is of interest.
    pub(super) fn last_words(&self, part: &Part) -> String {
        let log = std::fs::read(self.log(part)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        match log.lines().last() {
            None => "its log is empty".to_owned(),
            Some(line) => {
                let line: String = line.chars().take(LAST_WORDS_MAX).collect();
                format!("its log ends with: {line}")
            }
        }
    }

    /// Starts a part. It ends when this process does, however that comes: its stdin is then closed.
    fn start(&self, part: &Part) -> Result<Child, CliError> {
        let log = open_log(&self.log(part))?;
        let child = Command::new(&self.program)
            .args(self.arguments(part))
            .envs(self.besides(part).environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(|error| format!("cannot start {part}: {error}"))?;
        Ok(child)
    }
}

fn open_log(path: &Path) -> Result<File, CliError> {
    let opened = File::options().create(true).append(true).open(path);
    Ok(opened.map_err(|error| format!("cannot write {}: {error}", path.display()))?)
}

/// What became of a part, for whoever watches.
pub(crate) enum News {
    /// It runs.
    Started {
        /// Which one.
        part: Part,
        /// Its process.
        pid: u32,
    },
    /// It ended without being asked to, and is started again soon.
    Ended {
        /// Which one.
        part: Part,
        /// How.
        status: ExitStatus,
        /// When it is started again.
        again_after: Duration,
    },
}

/// Keeps one part running until `stop`, and then ends it.
///
/// # Errors
/// If it cannot be started or waited for at all.
pub(super) async fn keep(
    launch: &Launch,
    part: &Part,
    stop: &Stop,
    tell: impl Fn(News),
) -> Result<(), CliError> {
    let mut again_after = RESTART_AFTER_MIN;
    loop {
        let began = Instant::now();
        let mut child = launch.start(part)?;
        // Kept here: waiting for a child closes what it still has of it.
        let stdin = child.stdin.take();
        tell(News::Started { part: part.clone(), pid: child.id().unwrap_or(0) });
        let status = tokio::select! {
            biased;
            () = stop.requested() => {
                drop(stdin);
                return end(child).await;
            }
            status = child.wait() => status?,
        };
        if began.elapsed() >= RECOVERED_AFTER {
            again_after = RESTART_AFTER_MIN;
        }
        tell(News::Ended { part: part.clone(), status, again_after });
        tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            () = sleep(again_after) => {}
        }
        again_after = (again_after * 2).min(RESTART_AFTER_MAX);
    }
}

/// Waits for a part whose stdin is closed, and kills it if it does not end.
async fn end(mut child: Child) -> Result<(), CliError> {
    if timeout(END_MAX, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}
