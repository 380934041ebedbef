//! `seen cluster status`: every replica of the map, and how it fares.

use std::process::ExitCode;

use clap::Args;
use seen_cluster::map::SlotMap;
use serde_json::{Value, json};

use super::ask::{self, Told};
use super::opened;
use crate::cli::calls::table::{Table, grouped};
use crate::cli::{CliError, ConfigSources, print};
use crate::node;
use crate::runtime;

/// Arguments of `seen cluster status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Where the configuration is read from: cluster.map names the map
    #[command(flatten)]
    sources: ConfigSources,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks all replicas and prints. The exit status is 1 if one does not answer, is not ready, is another than the map
/// says, or has another epoch.
///
/// # Errors
/// A map that cannot be read.
pub fn run(args: StatusArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    let tls = node::link_tls(&config.tls)?;
    let control = runtime::control()?;
    let (map, told) = control.block_on(async {
        let map = opened(&config).await?;
        let told = ask::all(&map, tls.as_ref()).await;
        Ok::<_, CliError>((map, told))
    })?;
    let sound = told.iter().all(|one| wrong(&map.map, one).is_none());
    match args.json {
        true => print(&format!("{}\n", object(&map.map, &told)))?,
        false => print(&text(&map.map, &told))?,
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is not as the map says, in a few words.
fn wrong(map: &SlotMap, told: &Told) -> Option<String> {
    let (identity, state) = match &told.said {
        Ok(said) => said,
        Err(why) => return Some(why.clone()),
    };
    if identity.cluster != map.cluster {
        return Some(format!("is of cluster {:016x}", identity.cluster));
    }
    if identity.pool != told.pool || identity.slot != u32::from(told.slot.get()) {
        return Some(format!("is of pool {:?}, slot {}", identity.pool, identity.slot));
    }
    if !map.settings.is_empty() && !map.settings.contains(&identity.settings) {
        return Some(format!("has the settings {:016x}", identity.settings));
    }
    if state.map_epoch != map.epoch.get() {
        return Some(format!("has the map of epoch {}", state.map_epoch));
    }
    match (state.draining, state.ready) {
        (true, _) => Some("draining".to_owned()),
        (false, false) => Some(format!("not ready: {}", state.reason)),
        (false, true) => None,
    }
}

fn text(map: &SlotMap, told: &[Told]) -> String {
    let mut head = Table::of_pairs();
    head.pair("cluster", format!("{:016x}", map.cluster)).pair("epoch", map.epoch);
    head.pair("change", if map.is_changing() { "under way" } else { "none" });
    let mut table = Table::new([
        "pool",
        "slot",
        "owns",
        "replica",
        "weight",
        "program",
        "users",
        "incoming %",
        "feed lag ms",
        "state",
    ]);
    for one in told {
        let slot = map.pool(&one.pool).and_then(|pool| pool.slot(one.slot));
        let owns = slot.map(|slot| slot.owned.len()).unwrap_or_default();
        let said = one.said.as_ref().ok();
        table.row([
            one.pool.clone(),
            one.slot.to_string(),
            owns.to_string(),
            one.name.clone(),
            one.weight.to_string(),
            said.map(|(identity, _)| identity.program.clone()).unwrap_or_default(),
            said.map(|(_, state)| grouped(state.users)).unwrap_or_default(),
            said.map(|(_, state)| format!("{:.1}", f64::from(state.incoming_permille) / 10.0))
                .unwrap_or_default(),
            said.map(|(_, state)| (state.feed_lag_us / 1_000).to_string()).unwrap_or_default(),
            wrong(map, one).unwrap_or_else(|| "ready".to_owned()),
        ]);
    }
    format!("{}\n{}", head.render(), table.render())
}

fn object(map: &SlotMap, told: &[Told]) -> Value {
    let replica = |one: &Told| {
        let said = one.said.as_ref().ok();
        json!({
            "pool": one.pool,
            "slot": one.slot.get(),
            "name": one.name,
            "weight": one.weight,
            "wrong": wrong(map, one),
            "ready": said.is_some_and(|(_, state)| state.ready),
            "program": said.map(|(identity, _)| identity.program.clone()),
            "incarnation": said.map(|(identity, _)| format!("{:016x}", identity.incarnation)),
            "map_epoch": said.map(|(_, state)| state.map_epoch),
            "users": said.map(|(_, state)| state.users),
            "feed_lag_us": said.map(|(_, state)| state.feed_lag_us),
            "incoming_permille": said.map(|(_, state)| state.incoming_permille),
        })
    };
    json!({
        "cluster": format!("{:016x}", map.cluster),
        "epoch": map.epoch.get(),
        "changing": map.is_changing(),
        "replicas": told.iter().map(replica).collect::<Vec<_>>(),
    })
}
