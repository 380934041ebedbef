//! `seen migrate`: what the schema of the database servers lacks, and making it.

use std::process::ExitCode;

use clap::Args;
use seen_store::MySqlStore;
use seen_store::mysql::SchemaPlan;
use serde_json::json;

use super::{CliError, ConfigSources, print};
use crate::config::{Config, StorageKind};

/// Exit status of `--check` where something is missing.
const MISSING: u8 = 3;

/// Arguments of `seen migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// Make what is missing, also in a database that holds data; without it such a database is only
    /// looked at
    #[arg(long)]
    apply: bool,
    /// Only look, and exit with status 3 if something is missing
    #[arg(long, conflicts_with = "apply")]
    check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was done about what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Nothing,
    Shown,
    Applied,
}

/// Looks, and makes what is missing where that is asked for or harms nobody.
///
/// # Errors
/// Servers that cannot be reached, or a schema that this program cannot go on from.
pub fn run(args: MigrateArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    if config.storage.kind == StorageKind::Sqlite {
        print(
            "storage.kind is sqlite: the embedded store brings its file up to date when it is opened\n",
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let control = crate::runtime::control()?;
    let (plans, done) = control.block_on(migrate(&config, args.apply, args.check))?;
    print(&match args.json {
        true => format!("{:#}\n", object(&plans, done)),
        false => text(&plans, done),
    })?;
    let missing = args.check && done == Done::Shown;
    Ok(if missing { ExitCode::from(MISSING) } else { ExitCode::SUCCESS })
}

async fn migrate(
    config: &Config,
    apply: bool,
    check: bool,
) -> Result<(Vec<SchemaPlan>, Done), CliError> {
    let options = config.mysql_options()?;
    let plans = MySqlStore::plan_schema(options.clone(), config.namespaces()).await?;
    if plans.iter().all(|plan| plan.steps.is_empty()) {
        return Ok((plans, Done::Nothing));
    }
    let holds_data = plans.iter().any(|plan| plan.holds_data);
    if check || (holds_data && !apply) {
        return Ok((plans, Done::Shown));
    }
    let applied = MySqlStore::apply_schema(options.clone(), config.namespaces()).await?;
    // Verified by looking again.
    let left = MySqlStore::plan_schema(options, config.namespaces()).await?;
    match left.iter().flat_map(|plan| &plan.steps).next() {
        None => Ok((applied, Done::Applied)),
        Some(step) => Err(format!("{} is still missing after it was made", step.what).into()),
    }
}

fn text(plans: &[SchemaPlan], done: Done) -> String {
    let mut text = String::new();
    for plan in plans {
        let steps = plan.steps.len();
        text += &format!("-- shard {} (schema {}): {steps} missing\n", plan.shard, plan.database);
        for step in &plan.steps {
            text += &format!("-- {}\n{};\n", step.what, step.sql.trim_end().trim_end_matches(';'));
        }
    }
    text += match done {
        Done::Nothing => "-- the schema is what this program expects\n",
        Done::Shown => "-- nothing was changed; run it with --apply\n",
        Done::Applied => "-- done, and looked at again: nothing is missing\n",
    };
    text
}

fn object(plans: &[SchemaPlan], done: Done) -> serde_json::Value {
    let step = |step: &seen_store::mysql::SchemaStep| json!({ "what": step.what, "sql": step.sql });
    let plan = |plan: &SchemaPlan| {
        let steps: Vec<_> = plan.steps.iter().map(step).collect();
        json!({
            "shard": plan.shard.get(), "schema": plan.database, "holds_data": plan.holds_data,
            "missing": steps,
        })
    };
    let done = match done {
        Done::Nothing => "nothing",
        Done::Shown => "shown",
        Done::Applied => "applied",
    };
    json!({ "shards": plans.iter().map(plan).collect::<Vec<_>>(), "done": done })
}
