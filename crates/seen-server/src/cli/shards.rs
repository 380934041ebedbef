//! `seen shards`: where users live on the database servers, and whether every row is there.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use seen_filter::{NamespaceSettings, Shard, UserId};
use seen_store::MySqlStore;
use seen_store::mysql::{Placement, ShardStatus, Standing};
use serde_json::{Value, json};

use super::calls::table::{Table, grouped};
use super::{CliError, ConfigSources, print};
use crate::config::{Config, StorageKind};

/// Exit status of `--verify` where rows are in the wrong place.
const MISPLACED: u8 = 5;

/// Arguments of `seen shards`.
#[derive(Debug, Clone, Args)]
pub struct ShardsArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// Say where these users live
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    user: Vec<u64>,
    /// Go through all users and exit with status 5 if rows of one are on a shard where he does not live
    #[arg(long)]
    verify: bool,
    /// Tell these shards of a newer map, the first step of moving them: whoever goes by an older one,
    /// this configuration included, is refused there when this returns
    #[arg(long, value_name = "SHARD", value_delimiter = ',', requires = "epoch")]
    raise: Vec<u16>,
    /// The newer map's mysql.map_epoch
    #[arg(long, value_name = "EPOCH", requires = "raise")]
    epoch: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found of one shard.
struct Found {
    status: ShardStatus,
    database: String,
    map_epoch: Option<u32>,
    placements: Vec<(String, Placement)>,
}

/// Opens the store and looks.
///
/// # Errors
/// Servers that cannot be reached, or a configuration that cannot be used.
pub fn run(args: ShardsArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    if config.storage.kind == StorageKind::Sqlite {
        print("storage.kind is sqlite: the embedded store is one shard, where everybody lives\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let control = crate::runtime::control()?;
    if let Some(epoch) = args.epoch {
        return control.block_on(raise(&config, &args.raise, epoch, args.json));
    }
    let (found, users) = control.block_on(look(&config, &args.user, args.verify))?;
    print(&match args.json {
        true => format!("{:#}\n", object(&found, &users)),
        false => text(&found, &users, args.verify),
    })?;
    let all = found.iter().flat_map(|shard| &shard.placements);
    let misplaced = all.map(|(_, placement)| placement.misplaced).sum::<u64>() > 0;
    Ok(if misplaced { ExitCode::from(MISPLACED) } else { ExitCode::SUCCESS })
}

/// Tells shards of a newer map.
async fn raise(
    config: &Config,
    shards: &[u16],
    epoch: u32,
    as_json: bool,
) -> Result<ExitCode, CliError> {
    // By the newer map itself: so that it can be done again where it was done in part, or not for certain.
    let store = opened(config, epoch).await?;
    let mut told = Vec::with_capacity(shards.len());
    for shard in shards {
        let before = store.raise_map_epoch(Shard::new(*shard), epoch).await?;
        told.push((*shard, before));
    }
    store.close().await;
    print(&match as_json {
        true => {
            let one = |(shard, before): &(u16, u32)| json!({ "shard": shard, "epoch": epoch, "before": before });
            format!("{:#}\n", json!({ "raised": told.iter().map(one).collect::<Vec<_>>() }))
        }
        false => {
            let one = |(shard, before): &(u16, u32)| match *before == epoch {
                true => format!(
                    "shard {shard}: map epoch {epoch} already; older maps are refused there\n"
                ),
                false => format!(
                    "shard {shard}: map epoch {before} -> {epoch}; older maps are refused there\n"
                ),
            };
            told.iter().map(one).collect()
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the store by the configured map, or by one of this age if that is newer.
async fn opened(config: &Config, map_epoch: u32) -> Result<Arc<MySqlStore>, CliError> {
    let mut options = config.mysql_options()?;
    options.map_epoch = options.map_epoch.max(map_epoch);
    // A look makes nobody's partitions.
    options.upkeep = false;
    Ok(MySqlStore::open(options, config.namespaces()).await?)
}

async fn look(
    config: &Config,
    users: &[u64],
    verify: bool,
) -> Result<(Vec<Found>, Vec<(u64, u16)>), CliError> {
    let databases: Vec<String> =
        config.mysql_options()?.shards.iter().map(|one| one.database.as_str().to_owned()).collect();
    let namespaces = config.namespaces();
    let store = opened(config, 0).await?;
    let homes = users.iter().map(|id| (*id, store.shard_of(UserId::new(*id)).get())).collect();
    let mut found = Vec::new();
    for (status, database) in store.status().into_iter().zip(databases) {
        let placements = match verify {
            true => placements(&store, &status, &namespaces).await?,
            false => Vec::new(),
        };
        let map_epoch = store.map_epoch(status.shard);
        found.push(Found { status, database, map_epoch, placements });
    }
    store.close().await;
    Ok((found, homes))
}

async fn placements(
    store: &MySqlStore,
    status: &ShardStatus,
    namespaces: &[NamespaceSettings],
) -> Result<Vec<(String, Placement)>, CliError> {
    let mut placements = Vec::with_capacity(namespaces.len());
    for settings in namespaces {
        let bar = ProgressBar::new_spinner();
        let style = "{spinner} shard {prefix}: {pos} users, {per_sec}";
        bar.set_style(ProgressStyle::with_template(style)?);
        bar.set_prefix(format!("{} {}", status.shard, settings.name));
        bar.enable_steady_tick(Duration::from_millis(100));
        let placement = store
            .verify_placement(status.shard, settings.id, |users| bar.set_position(users))
            .await?;
        bar.finish_and_clear();
        placements.push((settings.name.clone(), placement));
    }
    Ok(placements)
}

fn text(found: &[Found], users: &[(u64, u16)], verify: bool) -> String {
    let mut table = Table::new(["SHARD", "SCHEMA", "PRIMARY", "VERSION", "MAP EPOCH"]);
    let mut troubles = String::new();
    for shard in found {
        let (primary, version) = match &shard.status.standing {
            Standing::One(primary) => (primary.address.to_string(), primary.facts.version.clone()),
            _ => ("none".to_owned(), String::new()),
        };
        let epoch = shard.map_epoch.map_or("unknown".to_owned(), |epoch| epoch.to_string());
        let number = shard.status.shard.to_string();
        table.row([number, shard.database.clone(), primary, version, epoch]);
        if let Some(trouble) = &shard.status.trouble {
            troubles += &format!("shard {} is not in use: {trouble}\n", shard.status.shard);
        }
    }
    let mut text = table.render() + &troubles;
    if !users.is_empty() {
        let mut homes = Table::new(["USER", "SHARD"]);
        for (user, shard) in users {
            homes.row([user.to_string(), shard.to_string()]);
        }
        text += &format!("\n{}", homes.render());
    }
    if verify {
        let mut placed = Table::new(["SHARD", "NAMESPACE", "USERS", "MISPLACED", "FIRST OF THEM"]);
        for shard in found {
            for (name, placement) in &shard.placements {
                let named: Vec<String> = placement.named.iter().map(ToString::to_string).collect();
                placed.row([
                    shard.status.shard.to_string(),
                    name.clone(),
                    grouped(placement.users),
                    grouped(placement.misplaced),
                    named.join(" "),
                ]);
            }
        }
        text += &format!("\n{}", placed.render());
    }
    text
}

fn object(found: &[Found], users: &[(u64, u16)]) -> Value {
    let shard = |shard: &Found| {
        let primary = shard.status.standing.primary().map(|p| p.address.to_string());
        let placements: serde_json::Map<_, _> = shard
            .placements
            .iter()
            .map(|(name, placement)| {
                let named: Vec<u64> = placement.named.iter().map(|user| user.get()).collect();
                let (users, misplaced) = (placement.users, placement.misplaced);
                let value = json!({ "users": users, "misplaced": misplaced, "first": named });
                (name.clone(), value)
            })
            .collect();
        json!({
            "shard": shard.status.shard.get(), "schema": shard.database, "primary": primary,
            "map_epoch": shard.map_epoch, "namespaces": placements,
            "trouble": shard.status.trouble.as_ref().map(ToString::to_string),
        })
    };
    let users: Vec<Value> =
        users.iter().map(|(user, shard)| json!({ "user": user, "shard": shard })).collect();
    json!({ "shards": found.iter().map(shard).collect::<Vec<_>>(), "users": users })
}
