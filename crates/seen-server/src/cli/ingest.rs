//! `seen ingest`: marks what waits in a Kafka topic, through a running service.

mod message;
mod sink;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use seen_client::limits::MARK_ITEMS_MAX;
use seen_client::{Client, ClientOptions};
use seen_kafka::DeadLetterOptions;
use seen_kafka::ingest::{IngestOptions, ingest};

use super::calls::NAMESPACE_DEFAULT;
use super::calls::table::grouped;
use super::observed::{Observed, ObservedArgs};
use super::{CliError, ConfigSources};
use crate::runtime;
use crate::shutdown::Stop;

use message::{Columns, Form};
use sink::ServiceSink;

/// Arguments of `seen ingest`.
#[derive(Debug, Clone, Args)]
pub struct IngestArgs {
    /// Where the configuration is read from: kafka says where the topic is.
    #[command(flatten)]
    sources: ConfigSources,
    /// The topic
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// The consumer group; its members share the topic's partitions
    #[arg(long, value_name = "NAME", default_value = "seen-ingest")]
    group: String,
    /// Where the service is
    #[arg(long, value_name = "URL", env = "SEEN_SERVER", default_value = "http://127.0.0.1:7420")]
    server: String,
    /// What messages are: the API's own MarkRequest, or JSON objects
    #[arg(long, value_enum, default_value_t = Format::Protobuf)]
    format: Format,
    /// The fields of JSON objects, as in user=member_id,item=article_id,kind=1,time=read_at:s; times are in
    /// milliseconds (:ms) or seconds (:s), and where no time is named an item counts as read when it is
    /// written [default: user=user,item=item,kind=0]
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<Columns>,
    /// Into which history JSON objects go
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    /// Items a second at most [default: as many as there is time for]
    #[arg(long, value_name = "ITEMS_PER_S", value_parser = super::replay::parse_rate)]
    rate: Option<f64>,
    /// Most items that are sent before their messages' offsets are committed
    #[arg(long, value_name = "ITEMS", default_value_t = 8_192,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// How long a message waits for others
    #[arg(long, value_name = "DURATION", default_value = "50ms")]
    wait: humantime::Duration,
    /// Calls at the same time
    #[arg(long, value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..=1_024))]
    calls: u16,
    /// Deadline of a call
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: humantime::Duration,
    /// A file for messages that can never be written; without it they are counted and logged only
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// The largest size of that file
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    dead_letter_bytes: bytesize::ByteSize,
    /// End once the topic has been read to its end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    observed: ObservedArgs,
}

/// What messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `seen.v1.MarkRequest`.
    Protobuf,
    /// An object for each impression.
    Json,
}

/// Reads and marks until a signal ends it.
///
/// # Errors
/// A topic or service that cannot be used.
pub fn run(args: IngestArgs) -> Result<ExitCode, CliError> {
    let form = match (args.format, args.columns.clone()) {
        (Format::Protobuf, None) => Form::Protobuf,
        (Format::Protobuf, Some(_)) => return Err("--columns is for --format json".into()),
        (Format::Json, columns) => {
            Form::Json { namespace: args.namespace.clone(), columns: columns.unwrap_or_default() }
        }
    };
    let config = args.sources.clone().load()?.config;
    let observed = Observed::start(args.observed.clone(), &config)?;
    let wait: Duration = args.wait.into();
    let options = IngestOptions {
        brokers: config.kafka.brokers.clone(),
        client: config.kafka.client_settings()?,
        topic: args.topic.clone(),
        group: args.group.clone(),
        window_items_max: args.window as usize,
        window_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        items_max: MARK_ITEMS_MAX,
        calls_max: usize::from(args.calls),
        dead_letters: args
            .dead_letters
            .clone()
            .map(|path| DeadLetterOptions { path, bytes_max: args.dead_letter_bytes.as_u64() }),
        once: args.once,
    };
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        observed.listen(&stop).await?;
        // Its connections are of the runtime.
        let client = Client::new(ClientOptions {
            connect_timeout: args.timeout.into(),
            ..ClientOptions::new(&args.server)
        })?;
        let sink = Arc::new(ServiceSink::new(form, client, args.timeout.into(), args.rate));
        eprintln!("seen: marking what {} holds on {}", args.topic, args.server);
        let done = ingest(sink, options, stop.requested()).await?;
        let (messages, items) = (grouped(done.messages), grouped(done.items));
        eprintln!("seen: {messages} messages committed: {items} items, {} dead", done.dead);
        Ok(ExitCode::SUCCESS)
    });
    control.shutdown_background();
    ended
}
