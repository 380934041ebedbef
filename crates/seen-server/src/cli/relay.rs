//! `seen relay`: passes the changes of the configured database servers on to a Kafka topic in the project's
//! own format, whose partitions are ranges of virtual slots.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seen_kafka::relay::{RelayOptions, relay};

use super::calls::table::grouped;
use super::observed::{Observed, ObservedArgs};
use super::{CliError, ConfigSources};
use crate::config::{Config, FeedSource, OutOfRange, StorageKind};
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
    /// The topic to write to, with {shard} in it where mysql.shards is above 1 [default: relay.topic]
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Make the topic, with so many partitions, if it does not exist [default: relay.create_topic]
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(u16).range(1..=4096))]
    create_topic: Option<u16>,
    /// End once everything is written that had happened by now
    #[arg(long)]
    once: bool,
    /// How long events may wait for others before they are committed together [default:
    /// relay.commit_interval]
    #[arg(long, value_name = "DURATION")]
    commit_interval: Option<String>,
    /// Bytes of records after which they do not wait [default: relay.commit_bytes]
    #[arg(long, value_name = "SIZE")]
    commit_bytes: Option<String>,
    /// How long Kafka keeps the unfinished transaction of a relay that was killed, and readers wait for it;
    /// a relay that begins ends it at once [default: relay.transaction_timeout]
    #[arg(long, value_name = "DURATION")]
    transaction_timeout: Option<String>,
    #[command(flatten)]
    observed: ObservedArgs,
}

impl RelayArgs {
    /// The configuration with these flags above it.
    fn config(&self) -> Result<Config, CliError> {
        let flags = [
            ("topic", self.topic.clone()),
            ("create_topic", self.create_topic.map(|partitions| partitions.to_string())),
            ("commit_interval", self.commit_interval.clone()),
            ("commit_bytes", self.commit_bytes.clone()),
            ("transaction_timeout", self.transaction_timeout.clone()),
        ];
        Ok(self.sources.clone().with("relay", flags).load()?.config)
    }
}

/// Relays until a signal ends it.
///
/// # Errors
/// A source or topic that cannot be used, or another relay that took the topic over.
pub fn run(args: RelayArgs) -> Result<ExitCode, CliError> {
    let config = args.config()?;
    let topic = check(&config)?;
    let observed = Observed::start(args.observed.clone(), &config)?;
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        observed.listen(&stop).await?;
        let source = Source::open(&config).await?;
        let ended = passed_on(args.once, &config, topic, &source, &stop).await;
        source.close().await;
        ended
    });
    control.shutdown_background();
    ended
}

/// The topic to write to, if all of it can be.
fn check(config: &Config) -> Result<&str, CliError> {
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
    let Some(topic) = config.relay.topic.as_deref().filter(|topic| !topic.is_empty()) else {
        return Err("relay.topic is unset: name the topic to write to there, or by --topic".into());
    };
    let refuse = |allowed: String| -> Result<_, CliError> {
        let (key, value) = ("relay.topic".to_owned(), topic.to_owned());
        Err(OutOfRange { key, value, allowed }.into())
    };
    if config.mysql.shards > 1 && !topic.contains("{shard}") {
        let shards = config.mysql.shards;
        return refuse(format!("a name with {{shard}} in it where there are {shards} shards"));
    }
    let is_same = |shard| topic_of(topic, shard) == config.kafka.topic_of(shard);
    if config.mysql.feed == FeedSource::Kafka && (0..config.mysql.shards).any(is_same) {
        return refuse("another one than kafka.topic, which is read".to_owned());
    }
    Ok(topic)
}

fn topic_of(topic: &str, shard: u16) -> String {
    topic.replace("{shard}", &shard.to_string())
}

async fn passed_on(
    once: bool,
    config: &Config,
    topic: &str,
    source: &Source,
    stop: &Stop,
) -> Result<ExitCode, CliError> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let namespaces = config.namespaces().into_iter();
    let options = RelayOptions {
        brokers: config.kafka.brokers.clone(),
        client: config.kafka.client_settings()?,
        topics: (0..config.mysql.shards).map(|shard| topic_of(topic, shard)).collect(),
        hash_key: source.hash_key(),
        namespaces: namespaces.map(|namespace| (namespace.id, namespace.name)).collect(),
        create: (config.relay.create_topic > 0).then_some(config.relay.create_topic),
        commit_interval_ms: millis(config.relay.commit_interval),
        commit_bytes: usize::try_from(config.relay.commit_bytes).unwrap_or(usize::MAX),
        batch_events_max: BATCH_EVENTS_MAX,
        transaction_timeout_ms: millis(config.relay.transaction_timeout),
        connect_timeout_ms: millis(config.kafka.connect_timeout),
        once,
    };
    let (place, brokers) = (source.place(), &config.kafka.brokers);
    eprintln!("seen: relaying {place} to {} on {brokers}", options.topics.join(", "));
    let relayed = relay(source.feed(), options, stop.requested()).await?;
    let why = if stop.is_requested() { "stopped" } else { "the source is read to its end" };
    let (events, records) = (grouped(relayed.events), grouped(relayed.records));
    eprintln!("seen: {why}: {events} events, {records} records written");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: RelayArgs,
    }

    fn config(flags: &[&str]) -> Result<Config, CliError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "[relay]\ntopic = \"slots\"\ncommit_interval = \"30ms\"\ncreate_topic = 8\n";
        std::fs::write(file.path(), text).expect("text");
        let file = file.path().to_str().expect("UTF-8");
        let line = Line::try_parse_from([&["seen", "--config", file], flags].concat());
        line.expect("a command line").args.config()
    }

    #[test]
    fn flags_go_above_the_section() {
        let relay = config(&["--commit-interval", "40ms"]).expect("a configuration").relay;
        assert_eq!((relay.topic.as_deref(), relay.create_topic), (Some("slots"), 8));
        assert_eq!(relay.commit_interval, Duration::from_millis(40));
        let flags = ["--topic", "others", "--create-topic", "4", "--set", "relay.topic=third"];
        let relay = config(&flags).expect("a configuration").relay;
        assert_eq!((relay.topic.as_deref(), relay.create_topic), (Some("others"), 4));
        let refused = config(&["--commit-interval", "2h"]).expect_err("too long").to_string();
        assert!(
            refused.contains("relay.commit_interval") && refused.contains("1ms to"),
            "{refused}"
        );
    }

    #[test]
    fn a_relay_needs_a_topic() {
        let unset = Config { relay: Default::default(), ..mysql() };
        let refused = check(&unset).expect_err("no topic").to_string();
        assert!(refused.contains("relay.topic") && refused.contains("--topic"), "{refused}");
    }

    fn mysql() -> Config {
        let mut config = Config::default();
        config.storage.kind = StorageKind::MySql;
        config
    }
}
