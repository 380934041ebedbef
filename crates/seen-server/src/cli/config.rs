//! `seen config`: the effective configuration, with where each value came from.

use std::process::ExitCode;

use clap::Args;

use super::{CliError, ConfigSources, print};
use crate::config::{example, markdown};

/// Arguments of `seen config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// Print one JSON object: key to value and origin
    #[arg(long)]
    json: bool,
    /// Print the table of all options in Markdown instead
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print a documented file with every option at its default instead
    #[arg(long, conflicts_with_all = ["json", "markdown"])]
    example: bool,
}

/// Prints it.
///
/// # Errors
/// A configuration that cannot be used, or a stdout that cannot be written.
pub fn run(args: ConfigArgs) -> Result<ExitCode, CliError> {
    let text = if args.markdown {
        markdown()
    } else if args.example {
        example()
    } else {
        let effective = args.sources.load()?;
        match args.json {
            true => format!("{:#}\n", effective.json()),
            false => effective.table(),
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
