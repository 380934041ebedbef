//! `seen cluster plan`: the steps from the map as it is to the one that is wished.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use seen_cluster::map::plan::{Plan, Step};
use serde_json::{Value, json};

use super::wish::WishArgs;
use super::{map_path, read_map};
use crate::cli::{CliError, ConfigSources, print};

/// Arguments of `seen cluster plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// Where the configuration is read from: cluster.map names the map
    #[command(flatten)]
    sources: ConfigSources,
    #[command(flatten)]
    wishes: WishArgs,
    /// Write the whole map of each step into this folder, as epoch-<number>.toml: for maps that seen cluster apply cannot
    /// write, such as a ConfigMap
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON, with the whole map of each step
    #[arg(long)]
    json: bool,
}

/// Prints the steps. Changes nothing.
///
/// # Errors
/// A map that cannot be read, or a wish that cannot be had.
pub fn run(args: PlanArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    let plan = args.wishes.plan(&read_map(map_path(&config)?)?)?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("--out {}: {error}", folder.display()))?;
        for step in &plan.steps {
            let path = folder.join(format!("epoch-{}.toml", step.map.epoch));
            std::fs::write(&path, step.map.to_toml())
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
    }
    match args.json {
        true => print(&format!("{}\n", object(&plan)))?,
        false => print(&text(&plan))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a step changes and waits for, for people.
pub(super) fn step_text(at: usize, of: usize, step: &Step) -> String {
    let mut text =
        format!("step {} of {of}: {} (epoch {})\n", at + 1, step.kind.label(), step.map.epoch);
    for line in &step.lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {line}");
    }
    for line in step.wait.lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn text(plan: &Plan) -> String {
    if plan.steps.is_empty() {
        return format!("epoch {} is as wished: nothing to do\n", plan.from.epoch);
    }
    let of = plan.steps.len();
    let steps = plan.steps.iter().enumerate().map(|(at, step)| step_text(at, of, step));
    steps.collect::<Vec<_>>().join("\n")
}

fn object(plan: &Plan) -> Value {
    let step = |step: &Step| {
        json!({
            "kind": step.kind.label(),
            "epoch": step.map.epoch.get(),
            "changes": step.lines,
            "waits": step.wait.lines(),
            "map": step.map.to_toml(),
        })
    };
    json!({
        "from": plan.from.epoch.get(),
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
    })
}
