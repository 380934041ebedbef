//! What a process may use, and what it is told about the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tokio::net::TcpStream;

use super::DrillError;
use super::faults::{restarted, signal, whole};
use super::load::Load;
use crate::cli::dev_cluster::{Besides, DevCluster, Part};
use crate::config::{FeedSource, StorageKind};

/// Of a control group's processor, as Kubernetes has it.
const CPU_PERIOD: Duration = Duration::from_millis(100);
/// How many groups were made: each has a name of its own.
static GROUPS: AtomicU32 = AtomicU32::new(0);
/// Connections that are opened to a proxy that may not have so many.
const CROWD: usize = 100;
/// What the library is called that lies about the time, and where distributions put it.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// Where the library is that has waits of Kafka's client follow a clock that is off (`scripts/faults` builds it).
const WAITS: &str = "SEEN_WAITS";

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Open files of a replica and a proxy.
    Files(u64),
    /// Memory of a replica beyond what it has.
    MemoryMib(u64),
    /// Processor of a replica, of one core.
    CpuPercent(u64),
    /// Nothing, but clocks are off: a replica's ahead, a proxy's behind.
    ClockHours(u64),
    /// Nothing, but parts say all they can.
    LogsAll,
}

/// What is limited now.
#[derive(Default)]
pub(super) struct Limited {
    groups: Vec<Group>,
    files: Vec<(Pid, Rlimit)>,
    crowd: Vec<TcpStream>,
    restarted: Vec<Part>,
}

/// Limits a replica, and for some a proxy.
///
/// # Errors
/// This machine does not have it, or refuses.
pub(super) async fn begin(
    limit: Limit,
    cluster: &DevCluster,
    load: &Load,
    (replica, proxy): (&Part, &Part),
) -> Result<Limited, DrillError> {
    let mut limited = Limited::default();
    match limit {
        Limit::Files(most) => {
            for part in [replica, proxy] {
                limited.files.push(few_files(cluster, part, most).map_err(DrillError::Stage)?);
            }
            for _ in 0..CROWD {
                limited.crowd.extend(TcpStream::connect(("127.0.0.1", proxy.api())).await.ok());
            }
        }
        Limit::MemoryMib(mib) => {
            // What it has stays with the group that it had it in: the limit is on what comes.
            let bytes = (mib << 20).to_string();
            let settings = [("memory.limit_in_bytes", bytes)];
            limited.groups.push(confine("memory", &settings, cluster, &[replica])?);
            load.bystanders().await;
        }
        Limit::CpuPercent(percent) => {
            limited.groups.push(slow(percent, CPU_PERIOD, cluster, &[replica])?);
        }
        Limit::ClockHours(hours) => {
            let libraries = clock_libraries(cluster).map_err(DrillError::Stage)?;
            for (part, sign) in [(replica, '+'), (proxy, '-')] {
                let environment = [
                    ("LD_PRELOAD", libraries.clone()),
                    ("FAKETIME", format!("{sign}{hours}h")),
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                ];
                let besides = Besides { environment: environment.into(), ..Besides::default() };
                again(cluster, part, Some(besides)).await?;
                limited.restarted.push(part.clone());
            }
        }
        Limit::LogsAll => {
            let slot = replica.slot();
            let peers = cluster.parts.iter().filter(|part| part.slot() == slot);
            for part in peers.chain([proxy]) {
                let set = vec!["log.level=trace".to_owned()];
                again(cluster, part, Some(Besides { set, ..Besides::default() })).await?;
                limited.restarted.push(part.clone());
            }
        }
    }
    Ok(limited)
}

/// Undoes it.
///
/// # Errors
/// A part does not come back.
pub(super) async fn heal(limited: Limited, cluster: &DevCluster) -> Result<(), DrillError> {
    for (pid, old) in limited.files {
        // It may have ended since.
        let _ended = prlimit(Some(pid), Resource::Nofile, old);
    }
    for part in &limited.restarted {
        again(cluster, part, None).await?;
    }
    Ok(())
}

/// Gives parts a share of one core together, in each of such periods: the longest that they stand still is a little less.
///
/// # Errors
/// This machine has no such control groups, or refuses.
pub(super) fn slow(
    percent: u64,
    period: Duration,
    cluster: &DevCluster,
    parts: &[&Part],
) -> Result<Group, DrillError> {
    let period_us = period.as_micros() as u64;
    let settings = [
        ("cpu.cfs_period_us", period_us.to_string()),
        ("cpu.cfs_quota_us", (period_us * percent / 100).to_string()),
    ];
    confine("cpu", &settings, cluster, parts)
}

/// What a process has to load that is to have another clock.
fn clock_libraries(cluster: &DevCluster) -> Result<String, String> {
    let config = cluster.launch.sources.clone().load().map_err(|error| error.to_string())?.config;
    let waits = std::env::var(WAITS).ok();
    let of_kafka = config.mysql.feed == FeedSource::Kafka;
    if config.storage.kind == StorageKind::MySql && of_kafka && waits.is_none() {
        return Err(format!(
            "waits of Kafka's client would take as long as its clock is off, and {WAITS} is not set"
        ));
    }
    let faketime = FAKETIME.into_iter().find(|path| Path::new(path).exists());
    let faketime = faketime.ok_or("libfaketime is not there")?;
    // In front of it: what it hands on is seen by the other.
    Ok(waits.into_iter().chain([faketime.to_owned()]).collect::<Vec<_>>().join(":"))
}

fn few_files(cluster: &DevCluster, part: &Part, most: u64) -> Result<(Pid, Rlimit), String> {
    let pid = cluster.pid(&part.name).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.ok_or_else(|| format!("{part} does not run"))?;
    let refused = |error: rustix::io::Errno| format!("the limit of {part}: {error}");
    // The hard limit stays, so that it can be raised again by anyone.
    let old = rustix::process::getrlimit(Resource::Nofile);
    let new = Rlimit { current: Some(most), maximum: old.maximum };
    let old = prlimit(Some(pid), Resource::Nofile, new).map_err(refused)?;
    Ok((pid, old))
}

/// Ends a part, which is started again with this beside its usual arguments.
async fn again(
    cluster: &DevCluster,
    part: &Part,
    besides: Option<Besides>,
) -> Result<(), DrillError> {
    cluster.launch.start_with(part, besides);
    let before = cluster.pid(&part.name);
    signal(cluster, part, Signal::TERM)?;
    restarted(cluster, part, before).await?;
    // What is killed too early has not recovered, and is started again later and later.
    tokio::time::sleep(Duration::from_millis(200)).await;
    whole(cluster).await
}

/// A control group, which is removed with this; its processes go back to where they were.
pub(super) struct Group {
    folder: PathBuf,
    back: PathBuf,
}

fn confine(
    controller: &str,
    settings: &[(&str, String)],
    cluster: &DevCluster,
    parts: &[&Part],
) -> Result<Group, DrillError> {
    let group = Group::make(controller, settings).map_err(DrillError::Stage)?;
    for part in parts {
        let pid = cluster
            .pid(&part.name)
            .ok_or_else(|| DrillError::NotRunning { part: part.name.clone() })?;
        group.take(pid).map_err(DrillError::Stage)?;
    }
    Ok(group)
}

impl Group {
    /// One of the first version of control groups.
    fn make(controller: &str, settings: &[(&str, String)]) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of_controller = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = controllers.split(',').any(|one| one == controller);
            is_it.then(|| path.trim_start_matches('/').to_owned())
        });
        let path = of_controller.ok_or_else(|| format!("no control group of {controller}"))?;
        let back = Path::new("/sys/fs/cgroup").join(controller).join(path);
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let folder = back.join(format!("seen-drill-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Self { folder, back };
        for (name, value) in settings {
            write(&group.folder.join(name), value)?;
        }
        Ok(group)
    }

    /// Puts a process into it, and what it starts from now on.
    ///
    /// # Errors
    /// It has ended, or this is not allowed.
    pub(super) fn take(&self, pid: u32) -> Result<(), String> {
        write(&self.folder.join("cgroup.procs"), &pid.to_string())
    }

    /// True if this process is where this one's go back to: in no group of the drill.
    pub(super) fn is_free(&self, pid: u32) -> bool {
        let free = fs::read_to_string(self.back.join("cgroup.procs")).unwrap_or_default();
        free.lines().any(|line| line.parse() == Ok(pid))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let procs = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            // One that has ended is gone from the group as well.
            let _gone = write(&self.back.join("cgroup.procs"), pid);
        }
        // If it is not empty yet, it stays: it limits nobody then.
        let _stays = fs::remove_dir(&self.folder);
    }
}

fn write(path: &Path, value: &str) -> Result<(), String> {
    fs::write(path, value).map_err(|error| format!("{}: {error}", path.display()))
}
