//! `seen forget`: removes everything that is known about a user.

use std::process::ExitCode;

use clap::Args;
use seen_client::ForgetScope;
use seen_proto::status::from_call_error;
use serde_json::json;

use super::table::{Table, grouped};
use super::{Target, Who, block_on, described, printed};
use crate::cli::{CliError, print};

/// Arguments of `seen forget`.
#[derive(Debug, Clone, Args)]
pub struct ForgetArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    scope: Scope,
}

/// Where: forgetting everywhere is never what saying nothing means.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// The history to forget the user in
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Forget the user in every namespace
    #[arg(long)]
    all: bool,
}

/// Forgets and prints what was removed.
///
/// # Errors
/// What the service refused, or why it did not answer; also where only some namespaces were forgotten.
pub fn run(args: &ForgetArgs) -> Result<ExitCode, CliError> {
    let session = args.who.session()?;
    // clap has seen to it that exactly one of the two is there.
    let scope =
        args.scope.namespace.clone().map_or(ForgetScope::AllNamespaces, ForgetScope::Namespace);
    let forgotten =
        block_on(async { args.target.client()?.forget(&session, scope).await.map_err(described) })?;
    let token = printed(&session.token());
    let mut table = Table::new(["NAMESPACE", "ROWS", "TIMES FORGOTTEN", "RESULT"]);
    let mut list = Vec::new();
    let mut whole = true;
    for one in forgotten {
        let error = one.error.as_ref().map(|error| from_call_error(error).message);
        whole &= error.is_none();
        list.push(json!({
            "namespace": one.namespace, "rows": one.rows, "epoch": one.epoch, "error": error,
        }));
        let result = error.unwrap_or_else(|| "done".to_owned());
        table.row([one.namespace, grouped(one.rows), one.epoch.to_string(), result]);
    }
    print(&match args.target.json {
        true => {
            format!("{}\n", json!({ "user": args.who.user, "namespaces": list, "token": token }))
        }
        false => format!("{}token: {token}\n", table.render()),
    })?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
