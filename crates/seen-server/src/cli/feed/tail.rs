//! `seen feed tail`: what comes, as it comes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seen_dialect::Decoder;
use seen_kafka::{KafkaRecord, Next, TopicReader};

use super::lines;
use super::topics;
use crate::cli::{CliError, ConfigSources};

/// Longest wait for a record of one topic before the next is asked.
const POLL_MAX: Duration = Duration::from_millis(100);

/// Arguments of `seen feed tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// Begin with the oldest record kept, not with what comes next
    #[arg(long, conflicts_with = "from")]
    from_beginning: bool,
    /// Begin with this record of each partition
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// Only this partition
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u16>,
    /// End after so many records
    #[arg(long, value_name = "RECORDS")]
    limit: Option<u64>,
    /// Print a JSON object each record
    #[arg(long)]
    json: bool,
}

struct Followed {
    reader: TopicReader,
    decoder: Decoder,
}

/// Follows until it is interrupted, or the limit is reached.
///
/// # Errors
/// Kafka does not answer, or a topic is not there.
pub fn run(args: TailArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.clone().load()?.config;
    topics::require_topic(&config)?;
    let mut all = Vec::new();
    for topic in topics::configured(&config)? {
        let reader = topic.reader(&config)?;
        let places = places(&args, &reader)?;
        reader.read_from(&places)?;
        all.push(Followed { reader, decoder: topic.decoder(&config) });
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut is_away = false;
    while left > 0 {
        for followed in &mut all {
            match followed.reader.next(POLL_MAX)? {
                Next::Record(record) if left > 0 => {
                    left -= 1;
                    is_away = false;
                    if !lines::hand_on(&said(&mut followed.decoder, &record, args.json)?)? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Next::Away(why) if !is_away => {
                    is_away = true;
                    eprintln!("seen: kafka is away ({why}); waiting");
                }
                Next::Record(_) | Next::End(_) | Next::Nothing | Next::Away(_) => {}
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn places(args: &TailArgs, reader: &TopicReader) -> Result<Vec<(u16, u64)>, CliError> {
    let ends = reader.ends()?;
    if let Some(partition) = args.partition
        && usize::from(partition) >= ends.len()
    {
        let (topic, count) = (reader.topic(), ends.len());
        return Err(format!("--partition {partition}: topic {topic} has 0 to {}", count - 1).into());
    }
    let all = (0..).zip(&ends);
    let wanted = all.filter(|(number, _)| args.partition.is_none_or(|only| only == *number));
    let place = |(number, (low, high)): (u16, &(u64, u64))| {
        let from = match args.from {
            Some(offset) => offset.clamp(*low, *high),
            None if args.from_beginning => *low,
            None => *high,
        };
        (number, from)
    };
    Ok(wanted.map(place).collect())
}

fn said(decoder: &mut Decoder, record: &KafkaRecord, json: bool) -> Result<String, CliError> {
    let mut events = Vec::new();
    let dialect = record.with(|record| decoder.decode(record, &mut events));
    match json {
        true => lines::said_json(record, dialect, &events),
        false => Ok(lines::said_text(record, dialect, &events)),
    }
}
