//! `seen demo`: a service on the embedded store in a fresh folder, and a real history replayed
//! against it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use seen_filter::Item;

use super::calls::NAMESPACE_DEFAULT;
use super::replay::embedded::Embedded;
use super::replay::{Example, Pace, Source, watched};
use super::{CliError, ConfigSources, print};
use crate::runtime;
use crate::shutdown::Stop;

/// Who handled which change in five public projects, 2001 to 2026: 11,366 users, 260,208 items,
/// 662,308 events.
const HISTORY: &[u8] = include_bytes!("../../../../data/codereview.tsv.zst");
/// Its name for people.
const HISTORY_NAME: &str = "data/codereview.tsv.zst";
/// Where the API listens unless it is told otherwise.
const API_USUAL: &str = "127.0.0.1:7420";

/// Arguments of `seen demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// Where the service keeps its data [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// End after the replay instead of serving on
    #[arg(long)]
    exit: bool,
    #[command(flatten)]
    pace: Pace,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// Replays, reports, and serves on until a signal. The exit status is 1 if an unflagged answer called
/// a read item unread.
///
/// # Errors
/// What keeps the service from starting, or too many failed calls.
pub fn run(args: DemoArgs) -> Result<ExitCode, CliError> {
    let control = runtime::control()?;
    control.block_on(async {
        let stop = Stop::on_signals()?;
        refuse_used(args.data_dir.as_ref())?;
        let config = args.sources.load()?.config;
        let embedded = Embedded::start_at_usual(config, args.data_dir).await?;
        eprintln!("seen: serving on {}; replaying {HISTORY_NAME}", embedded.addresses().api);
        let options = args.pace.options(embedded.server(), NAMESPACE_DEFAULT.to_owned(), 0);
        let history = vec![Source::Bytes(HISTORY_NAME, HISTORY)];
        let outcome = watched(options, history, Some(embedded.admin()), stop.clone()).await;
        let Ok((report, example)) = outcome else {
            embedded.stop().await?;
            return outcome.map(|_| ExitCode::FAILURE);
        };
        eprint!("{}", report.warnings());
        match args.json {
            true => print(&format!("{}\n", report.json()))?,
            false => print(&report.table())?,
        }
        if !args.exit && !stop.is_requested() {
            if let Some(example) = example {
                eprint!("{}", next_steps(&example, &embedded.addresses().api.to_string()));
            }
            tokio::select! {
                () = stop.requested() => {}
                () = embedded.stop_requested() => {}
            }
        }
        embedded.stop().await?;
        Ok(report.exit_code())
    })
}

/// A demonstration in a folder with somebody's data would count that data's items as false positives,
/// and mix its own into it.
fn refuse_used(data_dir: Option<&PathBuf>) -> Result<(), CliError> {
    let Some(data_dir) = data_dir else { return Ok(()) };
    let used = std::fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some());
    if used {
        let what = format!(
            "--data-dir {}: the folder is not empty; the demonstration needs a fresh one",
            data_dir.display()
        );
        return Err(what.into());
    }
    Ok(())
}

/// Three commands to try, on a user of the data.
fn next_steps(example: &Example, api: &str) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "seen".to_owned());
    let server = match api {
        API_USUAL => String::new(),
        _ => format!(" --server http://{api}"),
    };
    let Example { user, count, read, unread } = example;
    let written = |item: &Item| match item.kind.get() {
        0 => item.id.to_string(),
        _ => item.to_string(),
    };
    let items: Vec<String> = read.iter().chain([unread]).map(written).collect();
    let explained = written(read.first().unwrap_or(unread));
    let about = format!("{server} --user {user}");
    format!(
        "\nStill serving on {api}; Ctrl-C ends it. User {user} has read {count} items. In another \
         terminal:\n\n  \
         {program} filter{about} {}\n  \
         {program} explain{about} {explained}\n  \
         {program} history{about} --limit 10\n\n",
        items.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::history_file::HistoryFile;

    #[test]
    fn the_bundled_history_is_whole() {
        let mut file = HistoryFile::from_bytes(HISTORY_NAME, HISTORY, 0).expect("readable");
        let mut events = 0;
        let mut last = 0;
        while let Some(event) = file.next_event().expect("well formed") {
            assert!(event.at.get() >= last, "in the order of time");
            last = event.at.get();
            events += 1;
        }
        assert_eq!(events, 662_308);
    }

    #[test]
    fn the_commands_to_try_are_commands() {
        let read = vec![Item::new(0, 5), Item::new(3, 6)];
        let example = Example { user: 42, count: 2, read, unread: Item::new(0, 7) };
        for api in [API_USUAL, "127.0.0.1:5555"] {
            let text = next_steps(&example, api);
            let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
            assert_eq!(commands.len(), 3);
            for command in commands {
                Cli::try_parse_from(command.split_whitespace()).expect("it parses");
            }
            assert_eq!(text.contains("--server"), api != API_USUAL);
        }
    }

    #[test]
    fn a_used_folder_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(refuse_used(Some(&folder.path().to_owned())).is_ok());
        assert!(refuse_used(Some(&folder.path().join("new"))).is_ok());
        std::fs::write(folder.path().join("file"), "x").expect("written");
        let error = refuse_used(Some(&folder.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }
}
