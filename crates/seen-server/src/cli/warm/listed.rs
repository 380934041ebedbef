//! Users of a list: the replica builds their entries from storage, at a limited rate.

use std::path::Path;
use std::time::Duration;

use seen_client::{Admin, ApiError, ClientOptions};
use seen_filter::UserId;
use seen_proto::status::ErrorKind;
use seen_proto::v1;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::WarmArgs;
use super::outcomes::{INSTALLED, Outcomes};
use super::peer::Own;
use super::shown::Shown;
use crate::cli::CliError;
use crate::cli::calls::{NAMESPACE_DEFAULT, described};
use crate::config::Config;

/// Builds under way at most: a slow store is not asked for more and more.
const BUILDS_MAX: usize = 16;
/// How long one build may take.
const BUILD_TIMEOUT: Duration = Duration::from_secs(10);
/// So many failures without a success between them, and the replica is given up.
const FAILURES_MAX: u32 = 100;

/// Has the users of the list built by the replica, whose identity this is.
pub(super) async fn warm(
    args: &WarmArgs,
    config: &Config,
    replica: &v1::ReplicaIdentity,
    outcomes: &mut Outcomes,
) -> Result<(), CliError> {
    let (Some(path), Some(admin), Some(rate)) = (&args.users, &args.admin, args.rate) else {
        return Err("--users: pass --rate and --admin with it".into());
    };
    let mut users = read(path)?;
    if let Some(slots) = &args.meant.slots {
        let own = Own::open(config, None).await?;
        own.check("--to", &args.to, replica)?;
        users.retain(|user| own.is_of(slots, UserId::new(*user)));
    }
    users.truncate(args.meant.share_of(users.len() as u64) as usize);
    outcomes.expected = users.len() as u64;
    let client = client(admin)?;
    let status = client.status().await.map_err(|error| named(admin, error))?;
    if status.incarnation != format!("{:016x}", replica.incarnation) {
        let what = format!("--admin {admin}: it is another process than --to {}", args.to);
        return Err(what.into());
    }
    if args.dry_run {
        return Ok(());
    }
    let namespace = args.meant.namespace.as_deref().unwrap_or(NAMESPACE_DEFAULT);
    build(&client, admin, namespace, &users, rate, outcomes).await
}

fn named(admin: &str, error: ApiError) -> String {
    format!("--admin {admin}: {}", described(error))
}

fn client(admin: &str) -> Result<Admin, CliError> {
    let url = if admin.contains("://") { admin.to_owned() } else { format!("http://{admin}") };
    let mut options = ClientOptions::new(url);
    options.timeouts.look = BUILD_TIMEOUT;
    Ok(Admin::new(&options).map_err(|error| format!("--admin {admin}: {error}"))?)
}

/// The ids, one a line; empty lines are passed over.
fn read(path: &Path) -> Result<Vec<u64>, CliError> {
    let flag = format!("--users {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| format!("{flag}: {error}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let id = |(at, line): (usize, &str)| {
        let wrong = |_| {
            let line = line.trim();
            format!("{flag}, line {}: {line:?} is no user id of 0 to {}", at + 1, u64::MAX)
        };
        line.trim().parse().map_err(wrong)
    };
    Ok(lines.map(id).collect::<Result<_, String>>()?)
}

async fn build(
    client: &Admin,
    admin: &str,
    namespace: &str,
    users: &[u64],
    rate: f64,
    outcomes: &mut Outcomes,
) -> Result<(), CliError> {
    let pause = Duration::from_secs_f64(1.0 / rate);
    let mut shown = Shown::new("built", outcomes.expected);
    let mut builds: JoinSet<Result<u64, ApiError>> = JoinSet::new();
    let mut users = users.iter();
    let (mut next, mut failures) = (Instant::now(), 0);
    loop {
        let user = users.next();
        if builds.len() >= BUILDS_MAX || user.is_none() {
            match builds.join_next().await {
                Some(built) => failures = count(built?, failures, admin, outcomes)?,
                None if user.is_none() => break,
                None => {}
            }
            shown.set(outcomes.brought, outcomes.bytes);
        }
        let Some(&user) = user else { continue };
        sleep_until(next).await;
        next = next.max(Instant::now()) + pause;
        let (client, namespace) = (client.clone(), namespace.to_owned());
        builds.spawn(async move {
            let built = client.rebuild(user, namespace).await?;
            Ok(built.entry.map_or(0, |entry| entry.bytes))
        });
    }
    shown.end();
    if outcomes.brought > 0 && outcomes.installed() == 0 {
        return Err(format!("--admin {admin}: no user's entry could be built").into());
    }
    Ok(())
}

/// Counts a build; the failures in a row.
fn count(
    built: Result<u64, ApiError>,
    failures: u32,
    admin: &str,
    outcomes: &mut Outcomes,
) -> Result<u32, CliError> {
    outcomes.brought += 1;
    match built {
        Ok(bytes) => {
            outcomes.bytes += bytes;
            outcomes.count(INSTALLED, 1);
            Ok(0)
        }
        Err(error) => {
            outcomes.count(error.kind.reason(), 1);
            let passes = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded);
            // What does not pass, such as a name that is not known, would be so for all.
            if passes && failures + 1 < FAILURES_MAX {
                Ok(failures + 1)
            } else {
                Err(named(admin, error).into())
            }
        }
    }
}
