//! `seen feed replay`: a range of a topic, as captured records.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use seen_kafka::{Next, TopicReader};

use super::lines;
use super::topics;
use crate::cli::{CliError, ConfigSources};
use crate::config::Config;

/// Longest wait for a record before the time is looked at.
const POLL_MAX: Duration = Duration::from_millis(100);

/// Arguments of `seen feed replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// The first record, of each partition [default: the oldest kept]
    #[arg(long, value_name = "OFFSET", conflicts_with = "from_time")]
    from: Option<u64>,
    /// Records that are not older: a time (2026-01-31T12:00:00Z), or how long ago (15m)
    #[arg(long, value_name = "TIME", value_parser = lines::parse_moment)]
    from_time: Option<i64>,
    /// The last record, of each partition [default: the newest]
    #[arg(long, value_name = "OFFSET", conflicts_with = "to_time")]
    to: Option<u64>,
    /// Records before the first that is newer
    #[arg(long, value_name = "TIME", value_parser = lines::parse_moment)]
    to_time: Option<i64>,
    /// Only this partition
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u16>,
    /// Which shard's topic, where there are several
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    shard: u16,
    /// At most so many records
    #[arg(long, value_name = "RECORDS")]
    limit: Option<u64>,
    /// Print keys, values and headers as base64; needed where they are no text
    #[arg(long)]
    base64: bool,
}

/// Prints the range.
///
/// # Errors
/// Kafka does not answer, a topic or partition is not there, or a record that is no text.
pub fn run(args: ReplayArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.clone().load()?.config;
    topics::require_topic(&config)?;
    let all = topics::configured(&config)?;
    let topic = all.get(usize::from(args.shard)).ok_or_else(|| {
        format!("--shard {}: there are 0 to {}", args.shard, all.len().saturating_sub(1))
    })?;
    let reader = topic.reader(&config)?;
    let ranges = ranges(&args, &reader)?;
    let places: Vec<_> = ranges.iter().map(|(number, (from, _))| (*number, *from)).collect();
    if places.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    reader.read_from(&places)?;
    print(&args, &config, &reader, ranges)
}

/// By partition: the first record, and the one after the last. Empty ranges are left out.
fn ranges(args: &ReplayArgs, reader: &TopicReader) -> Result<BTreeMap<u16, (u64, u64)>, CliError> {
    let ends = reader.ends()?;
    if let Some(partition) = args.partition
        && usize::from(partition) >= ends.len()
    {
        let (topic, count) = (reader.topic(), ends.len());
        return Err(format!("--partition {partition}: topic {topic} has 0 to {}", count - 1).into());
    }
    let at = |time: Option<i64>| time.map(|time| reader.places_at(time)).transpose();
    // What is newer begins a millisecond later.
    let (first, last) = (at(args.from_time)?, at(args.to_time.map(|time| time + 1))?);
    let mut ranges = BTreeMap::new();
    for (number, (low, high)) in (0..).zip(&ends) {
        if args.partition.is_some_and(|only| only != number) {
            continue;
        }
        let place = |places: &Option<Vec<u64>>| places.as_ref()?.get(usize::from(number)).copied();
        let from = args.from.or(place(&first)).unwrap_or(*low);
        let to = args.to.map(|last| last.saturating_add(1)).or(place(&last)).unwrap_or(*high);
        if from < *low {
            eprintln!("seen: partition {number}: records before {low} are no longer kept");
        }
        let (from, to) = (from.max(*low), to.min(*high));
        if from < to {
            ranges.insert(number, (from, to));
        }
    }
    Ok(ranges)
}

fn print(
    args: &ReplayArgs,
    config: &Config,
    reader: &TopicReader,
    mut open: BTreeMap<u16, (u64, u64)>,
) -> Result<ExitCode, CliError> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut last = Instant::now();
    while left > 0 && !open.is_empty() {
        match reader.next(POLL_MAX)? {
            Next::Record(record) => {
                last = Instant::now();
                let number = u16::try_from(record.partition).unwrap_or(u16::MAX);
                let offset = u64::try_from(record.offset).unwrap_or(0);
                let Some((_, to)) = open.get(&number).copied() else { continue };
                if offset < to {
                    left -= 1;
                    if !lines::hand_on(&lines::captured(&record, args.base64)?)? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                if offset + 1 >= to {
                    open.remove(&number);
                }
            }
            Next::End(number) => {
                open.remove(&u16::try_from(number).unwrap_or(u16::MAX));
            }
            Next::Nothing | Next::Away(_) if last.elapsed() > config.kafka.connect_timeout => {
                let waited = humantime::format_duration(config.kafka.connect_timeout);
                return Err(format!("kafka has sent nothing for {waited}").into());
            }
            Next::Nothing | Next::Away(_) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}
