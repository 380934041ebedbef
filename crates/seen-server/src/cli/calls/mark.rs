//! `seen mark` and `seen unmark`: the user has read these items, or has not after all.

use std::process::ExitCode;

use clap::Args;
use seen_client::{MarkCall, UnmarkCall};
use serde_json::json;

use super::{
    Items, NAMESPACE_DEFAULT, Target, Who, block_on, by_kind, described, parse_time, printed,
};
use crate::cli::{CliError, print};

/// Arguments of `seen mark`.
#[derive(Debug, Clone, Args)]
pub struct MarkArgs {
    #[command(flatten)]
    what: Change,
    /// When they were read: seconds or milliseconds since 1970, or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<u64>,
}

/// Arguments of `seen unmark`.
#[derive(Debug, Clone, Args)]
pub struct UnmarkArgs {
    #[command(flatten)]
    what: Change,
}

#[derive(Debug, Clone, Args)]
struct Change {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    who: Who,
    /// The history
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    #[command(flatten)]
    items: Items,
}

/// Marks.
///
/// # Errors
/// What the service refused, or why it did not answer.
pub fn run(args: &MarkArgs) -> Result<ExitCode, CliError> {
    let what = &args.what;
    let mut call = MarkCall::new(&what.namespace);
    for item in what.items.list() {
        let (kind, id) = (item.kind.get(), item.id.get());
        call = match args.at {
            Some(at) => call.item_at(kind, id, at),
            None => call.item(kind, id),
        };
    }
    let session = what.who.session()?;
    block_on(async { what.target.client()?.mark(&session, call).await.map_err(described) })?;
    report(what, "marked", &printed(&session.token()))
}

/// Unmarks.
///
/// # Errors
/// What the service refused, or why it did not answer.
pub fn run_unmark(args: &UnmarkArgs) -> Result<ExitCode, CliError> {
    let what = &args.what;
    let items = what.items.list();
    let call = UnmarkCall::new(&what.namespace);
    let call = by_kind(&items).fold(call, |call, (kind, ids)| call.items(kind, ids));
    let session = what.who.session()?;
    block_on(async { what.target.client()?.unmark(&session, call).await.map_err(described) })?;
    report(what, "unmarked", &printed(&session.token()))
}

fn report(what: &Change, done: &str, token: &str) -> Result<ExitCode, CliError> {
    let count = what.items.items.len();
    let user = what.who.user;
    print(&match what.target.json {
        true => format!("{}\n", json!({ "user": user, "token": token, done: count })),
        false => format!("{done} {count} items for user {user}\ntoken: {token}\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
