//! `seen filter`: which of these items has the user not read?

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use seen_client::{FilterAnswer, FilterCall, Item, OnUnknown};
use serde_json::json;

use super::table::Table;
use super::{
    Items, NAMESPACE_DEFAULT, Target, Who, block_on, by_kind, described, printed, quality_json,
    quality_text,
};
use crate::cli::{CliError, print};

/// What to answer where nothing certain is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unknown {
    /// Call it unread
    Show,
    /// Call it read
    Hide,
}

/// Arguments of `seen filter`.
#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    who: Who,
    /// The history; several: read in any of them
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: Vec<String>,
    /// Look every "read" up in storage, so that false positives disappear
    #[arg(long)]
    confirm: bool,
    /// What to answer about items of which nothing certain is known in time
    #[arg(long, value_enum, default_value_t = Unknown::Show)]
    on_unknown: Unknown,
    #[command(flatten)]
    items: Items,
}

/// Asks and prints.
///
/// # Errors
/// What the service refused, or why it did not answer.
pub fn run(args: &FilterArgs) -> Result<ExitCode, CliError> {
    let session = args.who.session()?;
    let items = args.items.list();
    let mut names = args.namespace.iter();
    let mut call = FilterCall::new(names.next().map_or(NAMESPACE_DEFAULT, String::as_str));
    call = names.fold(call, |call, name| call.namespace(name));
    call = by_kind(&items).fold(call, |call, (kind, ids)| call.items(kind, ids));
    call = call.confirm(args.confirm).on_unknown(match args.on_unknown {
        Unknown::Show => OnUnknown::Show,
        Unknown::Hide => OnUnknown::Hide,
    });
    let answer =
        block_on(async { args.target.client()?.filter(&session, call).await.map_err(described) })?;
    let token = printed(&session.token());
    print(&match args.target.json {
        true => format!("{}\n", object(args.who.user, &items, &answer, &token)),
        false => text(&items, &answer, &token),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Each item with whether it is unread.
fn verdicts<'a>(
    items: &'a [Item],
    answer: &'a FilterAnswer,
) -> impl Iterator<Item = (&'a Item, bool)> {
    let unseen = |place: usize| answer.unseen.binary_search(&(place as u32)).is_ok();
    items.iter().enumerate().map(move |(place, item)| (item, unseen(place)))
}

fn text(items: &[Item], answer: &FilterAnswer, token: &str) -> String {
    let mut table = Table::new(["KIND", "ITEM", "ANSWER"]);
    for (item, unseen) in verdicts(items, answer) {
        let verdict = if unseen { "unread" } else { "read" };
        table.row([item.kind.to_string(), item.id.to_string(), verdict.to_owned()]);
    }
    let mut out = table.render();
    out.push_str(&format!("quality: {}\n", quality_text(&answer.quality)));
    if !token.is_empty() {
        out.push_str(&format!("token: {token}\n"));
    }
    out
}

fn object(user: u64, items: &[Item], answer: &FilterAnswer, token: &str) -> serde_json::Value {
    let list = |wanted: bool| -> Vec<serde_json::Value> {
        verdicts(items, answer)
            .filter(|(_, unseen)| *unseen == wanted)
            .map(|(item, _)| json!({ "kind": item.kind.get(), "id": item.id.get() }))
            .collect()
    };
    json!({
        "user": user, "unread": list(true), "read": list(false),
        "quality": quality_json(&answer.quality), "token": token,
    })
}
