//! `seen explain`: why is this item filtered, or not?

use std::process::ExitCode;

use clap::Args;
use seen_client::{ExplainCall, Quality, v1};
use serde_json::{Value, json};

use super::table::{Table, grouped};
use super::{
    ItemArg, NAMESPACE_DEFAULT, Target, Who, block_on, described, percent, quality_json,
    quality_text,
};
use crate::cli::{CliError, print};

/// Arguments of `seen explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    who: Who,
    /// The history
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    /// The class of the item, 0-255, where it does not name its own
    #[arg(long, value_name = "KIND", default_value_t = 0)]
    kind: u8,
    /// The item: ID, or KIND:ID
    #[arg(value_name = "ITEM")]
    item: ItemArg,
}

/// Asks and prints.
///
/// # Errors
/// What the service refused, or why it did not answer.
pub fn run(args: &ExplainArgs) -> Result<ExitCode, CliError> {
    let session = args.who.session()?;
    let item = args.item.of_kind(args.kind);
    let call =
        ExplainCall { namespace: args.namespace.clone(), kind: item.kind.get(), id: item.id.get() };
    let answer =
        block_on(async { args.target.client()?.explain(&session, call).await.map_err(described) })?;
    print(&match args.target.json {
        true => format!("{}\n", object(&answer)),
        false => text(&answer),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &v1::ExplainResponse) -> String {
    let mut table = Table::of_pairs();
    let verdict = if answer.would_show { "unread: Filter would show it" } else { "read: hidden" };
    table.pair("answer", verdict);
    table.pair("quality", quality_text(&Quality::from(&answer.quality.unwrap_or_default())));
    if let Some(storage) = &answer.storage {
        let why = if storage.message.is_empty() { "" } else { ": " };
        let held = presence(storage.presence());
        table.pair("storage says", format!("{held}{why}{}", storage.message));
        table.pair("  primary", &storage.primary);
        table.pair("  up to commit", stamp(storage.snapshot.as_ref()));
    }
    if let Some(entry) = &answer.entry {
        entry_rows(&mut table, entry);
    }
    if let Some(feed) = &answer.feed {
        let fresh = feed.fresh_ms_ago.map_or("never".to_owned(), |ms| format!("{ms} ms ago"));
        table.pair("feed partition", format!("shard {} partition {}", feed.shard, feed.partition));
        table.pair("  covers up to", stamp(feed.cover.as_ref()));
        table.pair("  known complete", fresh);
        table.pair("  doubts (epoch)", feed.epoch);
    }
    table.pair("token elements uncovered", answer.token_elements_uncovered);
    let configured = answer.configured_false_positive_rate;
    table.pair("configured rate", percent(configured));
    table.render()
}

fn entry_rows(table: &mut Table, entry: &v1::EntryView) {
    let state = match entry.state() {
        v1::EntryState::Ready => "ready",
        v1::EntryState::Building => "being built",
        v1::EntryState::Absent => "absent",
        v1::EntryState::Unspecified => "unknown",
    };
    table.pair("memory says", presence(entry.presence()));
    table.pair("  entry", format!("{state}, generation {}", entry.generation));
    table.pair("  items", grouped(entry.items));
    table.pair("  bytes", grouped(entry.bytes));
    table.pair("  false positives now", percent(entry.false_positive_rate));
    table.pair("  built from commit", stamp(entry.build.as_ref()));
    let flags = [
        (entry.dirty, "owes a rebuild"),
        (entry.journaled, "own write on its way back"),
        (entry.contested, "unmarked lately"),
    ];
    let set: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    table.pair("  remarks", if set.is_empty() { "none".to_owned() } else { set.join(", ") });
    table.pair("  times forgotten", entry.user_epoch);
    for (place, layer) in entry.layers.iter().enumerate() {
        let form = match layer.form() {
            v1::LayerForm::Bloom => {
                format!("Bloom, {} bits, {} probes", grouped(layer.bits), layer.probes)
            }
            v1::LayerForm::Exact => "exact".to_owned(),
            v1::LayerForm::Unspecified => "unknown".to_owned(),
        };
        let rate = percent(layer.false_positive_rate);
        let text = format!("{form}, {} items, {rate} false positives", grouped(layer.items));
        table.pair(&format!("  layer {}", place + 1), text);
    }
}

fn presence(presence: v1::Presence) -> &'static str {
    match presence {
        v1::Presence::Present => "read",
        v1::Presence::Absent => "not read",
        v1::Presence::Unknown | v1::Presence::Unspecified => "unknown",
    }
}

fn stamp(stamp: Option<&v1::Stamp>) -> String {
    stamp.map_or("unknown".to_owned(), |stamp| {
        format!("{} (domain {}, timeline {:016x})", stamp.position, stamp.domain, stamp.timeline)
    })
}

fn stamp_json(stamp: Option<&v1::Stamp>) -> Value {
    stamp.map_or(Value::Null, |stamp| {
        json!({
            "domain": stamp.domain, "timeline": format!("{:016x}", stamp.timeline),
            "position": stamp.position,
        })
    })
}

fn object(answer: &v1::ExplainResponse) -> Value {
    let quality = Quality::from(&answer.quality.unwrap_or_default());
    let storage = answer.storage.as_ref().map(|storage| {
        json!({
            "presence": presence(storage.presence()), "message": storage.message,
            "primary": storage.primary, "snapshot": stamp_json(storage.snapshot.as_ref()),
        })
    });
    let entry = answer.entry.as_ref().map(|entry| {
        let layer = |layer: &v1::LayerView| {
            json!({
                "form": layer.form().as_str_name(), "items": layer.items, "bits": layer.bits,
                "probes": layer.probes, "false_positive_rate": layer.false_positive_rate,
            })
        };
        json!({
            "state": entry.state().as_str_name(), "presence": presence(entry.presence()),
            "generation": entry.generation, "dirty": entry.dirty, "items": entry.items,
            "bytes": entry.bytes, "layers": entry.layers.iter().map(layer).collect::<Vec<_>>(),
            "false_positive_rate": entry.false_positive_rate,
            "build": stamp_json(entry.build.as_ref()), "journaled": entry.journaled,
            "contested": entry.contested, "user_epoch": entry.user_epoch,
        })
    });
    let feed = answer.feed.as_ref().map(|feed| {
        json!({
            "shard": feed.shard, "partition": feed.partition, "epoch": feed.epoch,
            "cover": stamp_json(feed.cover.as_ref()), "fresh_ms_ago": feed.fresh_ms_ago,
        })
    });
    json!({
        "would_show": answer.would_show, "quality": quality_json(&quality), "storage": storage,
        "entry": entry, "feed": feed,
        "token_elements_uncovered": answer.token_elements_uncovered,
        "configured_false_positive_rate": answer.configured_false_positive_rate,
    })
}
