//! `seen warm`: brings users into a running replica's memory, from another replica, from a file of `seen dump`, or by
//! having it read storage for a list of users.

mod bring;
mod listed;
mod outcomes;
pub(super) mod peer;
pub(super) mod shown;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{ArgGroup, Args};
use tokio::fs::File;
use tokio::io::BufReader;

use super::{CliError, ConfigSources, print};
use crate::config::Config;
use crate::node;
use crate::runtime;
use crate::shutdown::Stop;

use outcomes::Outcomes;
use peer::{Meant, Own};

/// Arguments of `seen warm`.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("source").required(true).args(["from", "from_file", "users"])))]
pub struct WarmArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// The link port of the replica that is warmed
    #[arg(long, value_name = "HOST:PORT", value_parser = peer::address)]
    to: String,
    /// The link port of the replica whose users these are
    #[arg(long, value_name = "HOST:PORT", value_parser = peer::address)]
    from: Option<String>,
    /// A file of seen dump
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// A file of user ids, one a line: read from storage by the replica, at --rate
    #[arg(long, value_name = "FILE", requires = "rate", requires = "admin")]
    users: Option<PathBuf>,
    /// Users of --users a second at most
    #[arg(long, value_name = "USERS_PER_S", conflicts_with_all = ["from", "from_file"],
        value_parser = super::replay::parse_rate)]
    rate: Option<f64>,
    /// Where the admin service of the replica --to is, for --users
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["from", "from_file"])]
    admin: Option<String>,
    #[command(flatten)]
    meant: Meant,
    /// Change nothing: only say how many users there would be
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// Brings the users, and reports. The exit status is 1 if the ends are incompatible, the stream broke, or it was
/// interrupted; what was brought by then stays, and is right.
///
/// # Errors
/// A replica or a file that cannot be used.
pub fn run(args: WarmArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.clone().load()?.config;
    let control = runtime::control()?;
    let begin = Instant::now();
    let mut outcomes = Outcomes::default();
    let done = control.block_on(async {
        let stop = Stop::on_signals()?;
        tokio::select! {
            done = warm(&args, &config, &mut outcomes) => done,
            () = stop.requested() => Err("interrupted; what was brought stays".into()),
        }
    });
    let took_s = begin.elapsed().as_secs_f64();
    print(&match (args.json, args.dry_run) {
        (true, dry_run) => {
            let failure = done.as_ref().err().map(ToString::to_string);
            format!("{}\n", outcomes.object(&args.to, dry_run, failure, took_s))
        }
        (false, true) => outcomes.dry_text(&args.to),
        (false, false) => outcomes.text(&args.to, took_s),
    })?;
    done.map(|()| ExitCode::SUCCESS)
}

async fn warm(args: &WarmArgs, config: &Config, outcomes: &mut Outcomes) -> Result<(), CliError> {
    let tls = node::link_tls(&config.tls)?;
    let (meant, dry_run) = (&args.meant, args.dry_run);
    if let Some(path) = &args.from_file {
        // Whether it is whole is known before anything is brought.
        let own = match &meant.slots {
            Some(_) => Some(Own::open(config, None).await?),
            None => None,
        };
        let flag = format!("--from-file {}", path.display());
        let opened = || async {
            let file = File::open(path).await.map_err(|error| format!("{flag}: {error}"))?;
            Ok::<_, CliError>(BufReader::new(file))
        };
        let found = bring::look_through(&flag, opened().await?, meant, own.as_ref()).await?;
        outcomes.expected = found.users;
        let mut target = peer::connect("--to", &args.to, tls.as_ref()).await?;
        bring::probe(&mut target, &args.to, &found.head).await?;
        if dry_run {
            return Ok(());
        }
        return bring::file(&flag, opened().await?, &mut target, &args.to, &found, outcomes).await;
    }
    let mut target = peer::connect("--to", &args.to, tls.as_ref()).await?;
    if let Some(from) = &args.from {
        let own = Own::open(config, meant.namespace.as_deref()).await?;
        let donor = peer::connect("--from", from, tls.as_ref()).await?;
        own.check("--from", from, &donor.identity)?;
        own.check("--to", &args.to, &target.identity)?;
        if donor.identity.incarnation == target.identity.incarnation {
            return Err(format!("--from {from}: it is the same replica as --to {}", args.to).into());
        }
        let (from, to) = ((from.as_str(), donor), (args.to.as_str(), &mut target));
        return bring::from_peer(&own, from, to, meant, dry_run, outcomes).await;
    }
    listed::warm(args, config, &target.identity, outcomes).await
}
