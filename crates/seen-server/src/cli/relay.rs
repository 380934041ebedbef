//! `seen relay`: passes the changes of the configured database servers on to a Kafka topic in the project's
//! own format, whose partitions are ranges of virtual slots.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seen_kafka::relay::{RelayOptions, relay};

use super::calls::table::grouped;
use super::observed::{Observed, ObservedArgs};
use super::{CliError, ConfigSources};
use crate::config::{Config, FeedSource, StorageKind};
use crate::node::Source;
use crate::runtime;
use crate::shutdown::Stop;

/// Most events taken from the source at once.
const BATCH_EVENTS_MAX: usize = 4_096;

/// Arguments of `seen relay`.
#[derive(Debug, Clone, Args)]
pub struct RelayArgs {
    /// Where the configuration is read from: mysql says where changes come from, kafka where they go to.
    #[command(flatten)]
    sources: ConfigSources,
    /// The topic to write to, with {shard} in it where mysql.shards is above 1
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// Make the topic, with so many partitions, if it does not exist
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(u16).range(1..=4096))]
    create_topic: Option<u16>,
    /// End once everything is written that had happened by now
    #[arg(long)]
    once: bool,
    /// How long events may wait for others before they are committed together
    #[arg(long, value_name = "DURATION", default_value = "20ms")]
    commit_interval: humantime::Duration,
    /// Bytes of records after which they do not wait
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    commit_bytes: bytesize::ByteSize,
    /// How long Kafka keeps the unfinished transaction of a relay that was killed, and readers wait for it;
    /// a relay that begins ends it at once
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    transaction_timeout: humantime::Duration,
    #[command(flatten)]
    observed: ObservedArgs,
}

/// Relays until a signal ends it.
///
/// # Errors
/// A source or topic that cannot be used, or another relay that took the topic over.
pub fn run(args: RelayArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.clone().load()?.config;
    check(&args, &config)?;
    let observed = Observed::start(args.observed.clone(), &config)?;
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        observed.listen(&stop).await?;
        let source = Source::open(&config).await?;
        let ended = passed_on(&args, &config, &source, &stop).await;
        source.close().await;
        ended
    });
    control.shutdown_background();
    ended
}

fn check(args: &RelayArgs, config: &Config) -> Result<(), CliError> {
    if config.storage.kind == StorageKind::Sqlite {
        return Err(
            "storage.kind is sqlite: the embedded store is of one process, which follows its \
                    changes itself; a relay is for database servers (storage.kind = mysql)"
                .into(),
        );
    }
    if config.mysql.feed == FeedSource::None {
        return Err("mysql.feed is none: nobody tells of changes; set binlog or kafka".into());
    }
    if config.mysql.shards > 1 && !args.topic.contains("{shard}") {
        let shards = config.mysql.shards;
        return Err(
            format!("--topic {:?}: {shards} shards; put {{shard}} in it", args.topic).into()
        );
    }
    let is_same = |shard| topic_of(&args.topic, shard) == config.kafka.topic_of(shard);
    if config.mysql.feed == FeedSource::Kafka && (0..config.mysql.shards).any(is_same) {
        return Err(format!("--topic {:?}: it is what is read (kafka.topic)", args.topic).into());
    }
    Ok(())
}

fn topic_of(topic: &str, shard: u16) -> String {
    topic.replace("{shard}", &shard.to_string())
}

async fn passed_on(
    args: &RelayArgs,
    config: &Config,
    source: &Source,
    stop: &Stop,
) -> Result<ExitCode, CliError> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let namespaces = config.namespaces().into_iter();
    let options = RelayOptions {
        brokers: config.kafka.brokers.clone(),
        client: config.kafka.client_settings()?,
        topics: (0..config.mysql.shards).map(|shard| topic_of(&args.topic, shard)).collect(),
        hash_key: source.hash_key(),
        namespaces: namespaces.map(|namespace| (namespace.id, namespace.name)).collect(),
        create: args.create_topic,
        commit_interval_ms: millis(args.commit_interval.into()),
        commit_bytes: usize::try_from(args.commit_bytes.as_u64()).unwrap_or(usize::MAX),
        batch_events_max: BATCH_EVENTS_MAX,
        transaction_timeout_ms: millis(args.transaction_timeout.into()),
        connect_timeout_ms: millis(config.kafka.connect_timeout),
        once: args.once,
    };
    let (place, brokers) = (source.place(), &config.kafka.brokers);
    eprintln!("seen: relaying {place} to {} on {brokers}", options.topics.join(", "));
    let relayed = relay(source.feed(), options, stop.requested()).await?;
    let why = if stop.is_requested() { "stopped" } else { "the source is read to its end" };
    let (events, records) = (grouped(relayed.events), grouped(relayed.records));
    eprintln!("seen: {why}: {events} events, {records} records written");
    Ok(ExitCode::SUCCESS)
}
