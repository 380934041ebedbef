//! `seen dev-cluster`: a whole cluster on one machine, each part a process of its own.

mod cluster;
mod layout;
mod running;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;

use super::cluster::init::{self, Wanted};
use super::{CliError, ConfigSources, print};
use crate::config::{Config, StorageKind};
use crate::runtime;
use crate::shutdown::{Stop, stop_with_stdin};
pub(crate) use cluster::{DevCluster, counted, is_ready};
pub(crate) use layout::Part;
use layout::Role;
use running::Launch;
pub(crate) use running::{Besides, News};

/// How long the parts may take to become ready before nothing is said of it.
const READY_MAX: Duration = Duration::from_secs(120);
/// The map's name within the cluster's folder.
const MAP_FILE: &str = "cluster.toml";

/// Arguments of `seen dev-cluster`.
#[derive(Debug, Clone, Args)]
pub struct DevClusterArgs {
    /// Where the configuration of all parts is read from: the embedded store, or storage.kind = "mysql"
    /// with its servers and feed
    #[command(flatten)]
    sources: ConfigSources,
    /// Where the map, the logs and the embedded store are kept [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The first of the ports on 127.0.0.1 that the parts take, ten each
    #[arg(long, value_name = "PORT", default_value_t = 7500)]
    port_base: u16,
    /// Print the parts as one JSON object, once all are started
    #[arg(long)]
    json: bool,
    /// End as well when stdin is closed
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// Runs the cluster until a signal.
///
/// # Errors
/// What keeps it from starting.
pub fn run(args: DevClusterArgs) -> Result<ExitCode, CliError> {
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        if args.stop_with_stdin {
            stop_with_stdin(&stop);
        }
        cluster(args, stop).await
    });
    control.shutdown_background();
    ended
}

async fn cluster(args: DevClusterArgs, stop: Stop) -> Result<ExitCode, CliError> {
    let (dir, places) = (args.dir.as_deref(), (args.port_base, None));
    let mut cluster = started(&args.sources, dir, places, |_| None, &stop, show).await?;
    announce(&args, &cluster.launch, &cluster.parts)?;
    if cluster.ready_within(READY_MAX).await {
        eprintln!("seen: all parts are ready");
    }
    cluster.wait().await?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the map and starts every part, on ports from a first one on: this program, or another one. `way` tells by which port others
/// reach a replica, where that is not its own.
///
/// # Errors
/// What keeps it from starting.
pub(crate) async fn started(
    sources: &ConfigSources,
    dir: Option<&Path>,
    (port_base, program): (u16, Option<&Path>),
    way: impl Fn(&Part) -> Option<u16>,
    stop: &Stop,
    tell: impl Fn(&News) + Send + Sync + 'static,
) -> Result<DevCluster, CliError> {
    let most = u16::MAX - layout::port_count() - layout::spare_port_count();
    if port_base == 0 || port_base > most {
        return Err(format!("--port-base {port_base}: 1 to {most}").into());
    }
    let config = sources.clone().load()?.config;
    let (folder, temporary) = folder(dir)?;
    let mut launch = launch(sources, &config, &folder)?;
    if let Some(program) = program {
        program.clone_into(&mut launch.program);
    }
    let mut parts = layout::parts(port_base);
    for part in &mut parts {
        part.way = way(part);
    }
    write_map(&config, &launch, &parts).await?;
    let spare = layout::spare_parts(port_base);
    Ok(DevCluster::start((parts, spare), launch, temporary, stop, tell))
}

fn folder(dir: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), CliError> {
    match dir {
        None => {
            let made = tempfile::Builder::new().prefix("seen-cluster-").tempdir()?;
            Ok((made.path().to_owned(), Some(made)))
        }
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .map_err(|error| format!("--dir {}: {error}", dir.display()))?;
            Ok((dir.canonicalize()?, None))
        }
    }
}

fn launch(sources: &ConfigSources, config: &Config, folder: &Path) -> Result<Launch, CliError> {
    let embedded = config.storage.kind == StorageKind::Sqlite;
    let logs = folder.join("logs");
    std::fs::create_dir_all(&logs)?;
    Ok(Launch {
        program: std::env::current_exe()?,
        sources: sources.clone(),
        map: folder.join(MAP_FILE),
        data_dir: embedded.then(|| folder.join("data")),
        logs,
        besides: Mutex::default(),
    })
}

/// Makes the map, unless one is there: then it goes on from the epoch that it has reached.
async fn write_map(config: &Config, launch: &Launch, parts: &[Part]) -> Result<(), CliError> {
    if launch.map.exists() {
        return Ok(());
    }
    let mut config = config.clone();
    if let Some(data_dir) = &launch.data_dir {
        config.storage.data_dir.clone_from(data_dir);
    }
    let replicas = parts.iter().filter_map(|part| match part.role {
        Role::Replica { pool, slot } => {
            Some((pool.to_owned(), slot, format!("127.0.0.1:{}", part.named())))
        }
        Role::Proxy => None,
    });
    let wanted = Wanted {
        replicas: replicas.collect(),
        default_pool: "feed".to_owned(),
        ..Wanted::default()
    };
    let map = init::made(&config, wanted).await?;
    std::fs::write(&launch.map, map.to_toml())?;
    Ok(())
}

fn show(news: &News) {
    match news {
        News::Started { part, pid } => eprintln!("seen: {part} started (process {pid})"),
        News::Ended { part, status, again_after } => {
            let ms = again_after.as_millis();
            eprintln!("seen: {part} ended ({status}); it is started again in {ms} ms");
        }
    }
}

fn announce(args: &DevClusterArgs, launch: &Launch, parts: &[Part]) -> Result<(), CliError> {
    if args.json {
        let shown: Vec<_> = parts.iter().map(shown).collect();
        let all = json!({ "map": launch.map, "logs": launch.logs, "parts": shown });
        print(&format!("{all}\n"))?;
        return Ok(());
    }
    eprintln!("seen: map {}, logs {}", launch.map.display(), launch.logs.display());
    for part in parts {
        let link = match part.role {
            Role::Proxy => String::new(),
            Role::Replica { .. } => format!(", link 127.0.0.1:{}", part.link()),
        };
        eprintln!(
            "seen: {part}: API 127.0.0.1:{}, admin 127.0.0.1:{}, http 127.0.0.1:{}{link}",
            part.api(),
            part.admin(),
            part.http()
        );
    }
    eprintln!(
        "seen: ask a proxy, as in: seen filter --server http://127.0.0.1:{} --user 42 7 8",
        parts[0].api()
    );
    Ok(())
}

fn shown(part: &Part) -> serde_json::Value {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let mut shown = json!({
        "name": part.name,
        "api": address(part.api()),
        "admin": address(part.admin()),
        "http": address(part.http()),
    });
    if let Role::Replica { pool, slot } = part.role {
        shown["pool"] = json!(pool);
        shown["slot"] = json!(slot);
        shown["link"] = json!(address(part.link()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_temporary_folder_is_gone_afterwards_unless_it_is_kept() {
        for is_kept in [false, true] {
            let (sources, stop) = (ConfigSources::default(), Stop::default());
            let program = (7_500, Some(Path::new("/bin/false")));
            let cluster = started(&sources, None, program, |_| None, &stop, |_| {}).await;
            let mut cluster = cluster.expect("started");
            let logs = cluster.launch.logs().to_owned();
            if is_kept {
                cluster.keep_folder();
            }
            cluster.end().await.expect("ended");
            assert_eq!(logs.exists(), is_kept);
            if let Some(folder) = logs.parent().filter(|_| is_kept) {
                std::fs::remove_dir_all(folder).expect("removed");
            }
        }
    }
}
