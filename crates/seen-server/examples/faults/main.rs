//! Every fault of `seen drill`, on real servers behind a network that can be made to fail: best by `scripts/faults`, which
//! builds this and what it needs, and gives it a network and mounts of its own.
//!
//! ```sh
//! scripts/faults --all --report docs/faults.md
//! scripts/faults --fault storage-silent --fault retention-gap
//! scripts/faults --tidb --all --filters 10 --marks 10 --report docs/faults.md
//! ```
//!
//! The arguments are those of `seen drill`; with `--tidb` storage is the TiDB that `scripts/tidb` has built, without a feed. `SEEN_PROGRAM` is the binary that the parts run, `SEEN_TOXIPROXY` toxiproxy's
//! server, `SEEN_SMALL_DISK` a small file system for the primary, `SEEN_WAITS` the library made of `waits.c`.

mod servers;
mod tidb;
mod toxiproxy;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use seen_server::cli::drill::Stage;
use seen_server::cli::{Cli, Command, drill};
use servers::{Failed, Servers};
use tidb::TidbAlone;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = env::args_os().collect();
    arguments.insert(1, "drill".into());
    arguments.splice(2..2, ["--program".into(), program().into_os_string()]);
    // The list needs no servers.
    let is_list = arguments.iter().any(|argument| argument == "--list");
    let done = if is_list { Cli::parse_from(arguments).run() } else { drilled(arguments) };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn program() -> PathBuf {
    env::var_os("SEEN_PROGRAM").map_or_else(|| "target/debug/seen".into(), PathBuf::from)
}

fn drilled(mut arguments: Vec<std::ffi::OsString>) -> Result<ExitCode, seen_server::cli::CliError> {
    // What is wrong with them is told before anything is started.
    Cli::parse_from(&arguments);
    let folder = tempfile::tempdir()?;
    let toxiproxy = env::var_os("SEEN_TOXIPROXY").ok_or("SEEN_TOXIPROXY is not set")?;
    let disk = env::var_os("SEEN_SMALL_DISK").map(PathBuf::from);
    eprintln!("faults: starting the servers ...");
    let is_tidb = arguments.iter().any(|argument| argument == "--tidb");
    let config = folder.path().join("seen.toml");
    let servers = || -> Result<Arc<dyn Stage>, Failed> {
        let (program, toxiproxy) = (program(), toxiproxy.as_ref());
        Ok(match is_tidb {
            true => Arc::new(TidbAlone::start(&program, toxiproxy, &config)?),
            false => Arc::new(Servers::start(&program, toxiproxy, &config, disk)?),
        })
    };
    let servers = servers().map_err(|error| error.to_string())?;
    arguments.splice(2..2, ["--config".into(), config.into_os_string()]);
    match Cli::parse_from(arguments).command {
        Command::Drill(args) => drill::run_on(args, Some(servers)),
        _ => Err("that is no drill".into()),
    }
}
