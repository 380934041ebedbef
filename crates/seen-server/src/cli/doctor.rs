//! `seen doctor`: what is wrong with the database servers or the change feed, and the statement or option
//! that mends it.

mod feed;

use std::process::ExitCode;

use clap::Args;
use seen_store::MySqlStore;
use seen_store::mysql::{
    ACTIVE_USERS, Examination, ExamineOptions, Finding, LengthEstimate, Severity, WantedFeed,
};
use serde_json::{Value, json};

use super::calls::table::{Table, grouped};
use super::feed::topics;
use super::{CliError, ConfigSources, print};
use crate::config::{Config, FeedSource, StorageKind};
use feed::FeedLook;

/// Exit status where there is an error.
const ERRORS: u8 = 4;
/// What the table of users takes beside a user's filter, in bytes; measured, see `ARCHITECTURE.md`.
const TABLE_BYTES: u64 = 47;

/// Arguments of `seen doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// Look at the change feed: read the configured topics and check what their producer sends
    #[arg(long)]
    feed: bool,
    /// With --feed: newest records of each topic to look at
    #[arg(long, value_name = "RECORDS", default_value_t = 20_000, requires = "feed",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    sample: u64,
    /// With --feed: how long to wait for a fence or watermark to come
    #[arg(long, value_name = "DURATION", default_value = "3s", requires = "feed")]
    wait: humantime::Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Looks, and changes nothing. Exits with status 4 if there are errors, and 0 with warnings and notes
/// alone.
///
/// # Errors
/// No server that can be examined, or a configuration that cannot be used.
pub fn run(args: DoctorArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    let no_topic = if args.feed { topics::no_topic(&config) } else { None };
    if args.feed && no_topic.is_none() {
        let look = FeedLook { records_max: args.sample, wait: args.wait.into() };
        let findings = crate::runtime::control()?.block_on(feed::examine(&config, look))?;
        return say(args.json, &Examination { findings, ..Examination::default() });
    }
    if let Some(why) = no_topic.filter(|_| !args.json) {
        print(&format!("{why}: there is no topic to look at\n\n"))?;
    }
    let examination = match config.storage.kind {
        StorageKind::Sqlite if !args.json => {
            print(&format!(
                "storage.kind is sqlite: the embedded store in {} has no server, and sets itself up \
                 when it is opened; nothing to examine\n",
                config.storage.data_dir.display()
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
        StorageKind::Sqlite => Examination::default(),
        StorageKind::MySql => crate::runtime::control()?.block_on(examine(&config))?,
    };
    say(args.json, &examination)
}

fn say(json: bool, examination: &Examination) -> Result<ExitCode, CliError> {
    print(&match json {
        true => format!("{:#}\n", object(examination)),
        false => text(examination),
    })?;
    let errors = count(examination, Severity::Error);
    Ok(if errors > 0 { ExitCode::from(ERRORS) } else { ExitCode::SUCCESS })
}

async fn examine(config: &Config) -> Result<Examination, CliError> {
    let feed = match config.mysql.feed {
        // Whoever writes to Kafka reads the same log, where there is one.
        FeedSource::Auto | FeedSource::Kafka => WantedFeed::Auto,
        FeedSource::Binlog => WantedFeed::Binlog,
        FeedSource::None => WantedFeed::None,
    };
    let snapshot_lag_ms = u64::try_from(config.mysql.snapshot_lag.as_millis()).unwrap_or(u64::MAX);
    let how = ExamineOptions { feed, snapshot_lag_ms, ..ExamineOptions::default() };
    Ok(MySqlStore::examine(config.mysql_options()?, config.namespaces(), how).await?)
}

fn count(examination: &Examination, severity: Severity) -> usize {
    examination.findings.iter().filter(|finding| finding.severity == severity).count()
}

fn text(examination: &Examination) -> String {
    let mut text = String::new();
    for Finding { severity, subject, what, mend } in &examination.findings {
        text += &format!("{severity}: {subject}\n    {what}\n");
        if let Some(mend) = mend {
            text += &format!("    mend: {mend}\n");
        }
        text += "\n";
    }
    for lengths in &examination.lengths {
        text += &histories(lengths);
        text += "\n";
    }
    let number = |severity, name: &str| match count(examination, severity) {
        1 => format!("1 {name}"),
        many => format!("{many} {name}s"),
    };
    let numbers = [
        number(Severity::Error, "error"),
        number(Severity::Warning, "warning"),
        number(Severity::Note, "note"),
    ];
    text + &numbers.join(", ") + "\n"
}

/// How long histories are, and what they take in memory.
fn histories(lengths: &LengthEstimate) -> String {
    let looked_at = match lengths.are_all {
        true => format!("all {} users", grouped(lengths.users)),
        false => format!("{} users looked at", grouped(lengths.users)),
    };
    let mut rows = Table::new(["ROWS", "50 %", "90 %", "99 %", "MOST", "MEAN"]);
    let [p50, p90, p99, most] =
        [lengths.rows_p50, lengths.rows_p90, lengths.rows_p99, lengths.rows_max].map(grouped);
    let mean = format!("{:.1}", lengths.rows_mean);
    rows.row(["a user".to_owned(), p50, p90, p99, most, mean]);
    let mut memory = Table::new(["ACTIVE USERS", "AS BUILT", "GROWN BY HALF"]);
    for users in ACTIVE_USERS {
        let (built, grown) = bytes(lengths, users);
        let shown = |bytes| bytesize::ByteSize(bytes).to_string();
        memory.row([grouped(users), shown(built), shown(grown)]);
    }
    format!(
        "histories of {} ({looked_at})\n{}memory at a false-positive rate of {} %, {TABLE_BYTES} bytes \
         a user for the table of users included\n{}",
        lengths.namespace,
        rows.render(),
        lengths.false_positive_rate * 100.0,
        memory.render()
    )
}

/// What so many active users take.
fn bytes(lengths: &LengthEstimate, users: u64) -> (u64, u64) {
    let (built, grown) = lengths.bytes_of(users);
    (built + users * TABLE_BYTES, grown + users * TABLE_BYTES)
}

fn object(examination: &Examination) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "severity": finding.severity.to_string(), "subject": finding.subject,
            "what": finding.what, "mend": finding.mend,
        })
    };
    let memory = |lengths: &LengthEstimate, users| {
        let (built, grown) = bytes(lengths, users);
        json!({ "active_users": users, "bytes_built": built, "bytes_grown": grown })
    };
    let lengths = |lengths: &LengthEstimate| {
        let each = ACTIVE_USERS.iter().map(|users| memory(lengths, *users));
        json!({
            "namespace": lengths.namespace,
            "false_positive_rate": lengths.false_positive_rate,
            "users": lengths.users, "are_all": lengths.are_all,
            "rows_p50": lengths.rows_p50, "rows_p90": lengths.rows_p90,
            "rows_p99": lengths.rows_p99, "rows_max": lengths.rows_max,
            "rows_mean": lengths.rows_mean,
            "memory": each.collect::<Vec<_>>(),
        })
    };
    json!({
        "findings": examination.findings.iter().map(finding).collect::<Vec<_>>(),
        "lengths": examination.lengths.iter().map(lengths).collect::<Vec<_>>(),
        "errors": count(examination, Severity::Error),
        "warnings": count(examination, Severity::Warning),
        "notes": count(examination, Severity::Note),
    })
}
