//! `seen history`: what a user has read.

use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use seen_client::limits::PAGE_ROWS_MAX;
use seen_client::{Client, HistoryCall, HistoryOrder, v1};
use serde_json::json;

use super::table::{Table, grouped};
use super::{NAMESPACE_DEFAULT, Target, block_on, described, parse_time, printed, time_text};
use crate::cli::{CliError, print};

/// Pages asked for, for one row that is still missing: a page may be empty and not be the last.
const PAGES_MAX: usize = 10_000;

/// Arguments of `seen history`.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    target: Target,
    /// The user, a number of 64 bits
    #[arg(long, value_name = "ID")]
    user: u64,
    /// The history
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    /// Newest first, where the namespace keeps that index; otherwise by key
    #[arg(long)]
    newest: bool,
    /// Only items of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<u8>,
    /// Only items read at or after this time: seconds or milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<u64>,
    /// Only items read before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// Most rows to print
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    limit: u32,
    /// Go on where an earlier listing stopped
    #[arg(long, value_name = "BASE64", default_value = "")]
    page_token: String,
}

/// What was listed.
#[derive(Debug, Default)]
struct Listed {
    rows: Vec<v1::HistoryRow>,
    rows_read: u64,
    next: Vec<u8>,
}

/// Lists and prints.
///
/// # Errors
/// What the service refused, or why it did not answer.
pub fn run(args: &HistoryArgs) -> Result<ExitCode, CliError> {
    let page_token = BASE64
        .decode(args.page_token.trim())
        .map_err(|error| format!("--page-token: not base64: {error}; pass it as it was printed"))?;
    let listed = block_on(async { list(args, &args.target.client()?, page_token).await })?;
    print(&match args.target.json {
        true => format!("{}\n", object(args.user, &listed)),
        false => text(&listed),
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(
    args: &HistoryArgs,
    client: &Client,
    page_token: Vec<u8>,
) -> Result<Listed, CliError> {
    let order = if args.newest { HistoryOrder::NewestFirst } else { HistoryOrder::Key };
    let mut call = HistoryCall::new(&args.namespace).order(order);
    if let Some(kind) = args.kind {
        call = call.kind(kind);
    }
    if let Some(from) = args.from {
        call = call.from_ms(from);
    }
    if let Some(until) = args.until {
        call = call.until_ms(until);
    }
    let mut listed = Listed { next: page_token, ..Listed::default() };
    let limit = args.limit as usize;
    for _ in 0..PAGES_MAX {
        let missing = limit.saturating_sub(listed.rows.len()).clamp(1, PAGE_ROWS_MAX);
        let page = call.clone().page_rows(missing as u32).after(listed.next);
        let page = client.history(args.user, page).await.map_err(described)?;
        listed.rows.extend(page.rows);
        listed.rows_read += u64::from(page.rows_read);
        listed.next = page.next_page_token;
        if listed.next.is_empty() || listed.rows.len() >= limit {
            break;
        }
    }
    Ok(listed)
}

fn text(listed: &Listed) -> String {
    let mut table = Table::new(["KIND", "ITEM", "READ AT"]);
    for row in &listed.rows {
        table.row([row.kind.to_string(), row.id.to_string(), time_text(row.marked_at_ms)]);
    }
    let shown = grouped(listed.rows.len() as u64);
    let mut out = table.render();
    out.push_str(&format!("{shown} rows; storage read {}\n", grouped(listed.rows_read)));
    if !listed.next.is_empty() {
        out.push_str(&format!("more: --page-token {}\n", printed(&listed.next)));
    }
    out
}

fn object(user: u64, listed: &Listed) -> serde_json::Value {
    let row = |row: &v1::HistoryRow| json!({ "kind": row.kind, "id": row.id, "marked_at_ms": row.marked_at_ms });
    json!({
        "user": user, "rows": listed.rows.iter().map(row).collect::<Vec<_>>(),
        "rows_read": listed.rows_read, "next_page_token": printed(&listed.next),
    })
}
