//! `seen ingest`: marks what waits in a Kafka topic, through a running service.

mod changes;
mod message;
mod sink;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use seen_client::limits::MARK_ITEMS_MAX;
use seen_client::{Client, ClientOptions};
use seen_kafka::DeadLetterOptions;
use seen_kafka::ingest::{IngestOptions, ingest};

use super::calls::table::grouped;
use super::feed::table::{TableName, Wanted};
use super::observed::{Observed, ObservedArgs};
use super::{CliError, ConfigSources};
use crate::config::{Config, IngestConfig, IngestFormat, KafkaConfig};
use crate::runtime;
use crate::shutdown::Stop;

use changes::Changes;
use message::{Columns, Form};
use sink::ServiceSink;

/// Arguments of `seen ingest`.
#[derive(Debug, Clone, Args)]
pub struct IngestArgs {
    /// Where the configuration is read from: kafka says where the topic is.
    #[command(flatten)]
    sources: ConfigSources,
    /// The topic [default: ingest.topic, as each of the following]
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// The consumer group; its members share the topic's partitions
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Where the service is
    #[arg(long, value_name = "URL", env = "SEEN_SERVER")]
    server: Option<String>,
    /// What messages are: the API's own MarkRequest (protobuf), JSON objects (json), or change events of
    /// another store's table (changes)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The fields of JSON objects, as in user=member_id,item=article_id,kind=1,time=read_at:s; times are in
    /// milliseconds (:ms) or seconds (:s), and where no time is named an item counts as read when it is
    /// written [unset: user=user,item=item,kind=0]. Of change events: the table's columns, as in
    /// user=member_id,item=article_id,kind=1,time=read_at:s,deleted=gone [unset: those of the store's own
    /// tables]
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<String>,
    /// Whose rows are marked, where messages are change events
    #[arg(long, value_name = "DB.TABLE")]
    table: Option<String>,
    /// The format of all change events; auto tells it from each record
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
    /// Into which history JSON objects and change events go
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Items a second at most; 0: as many as there is time for
    #[arg(long, value_name = "ITEMS_PER_S", allow_hyphen_values = true)]
    rate: Option<String>,
    /// Most items that are sent before their messages' offsets are committed
    #[arg(long, value_name = "ITEMS")]
    window: Option<String>,
    /// How long a message waits for others
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    /// Calls at the same time
    #[arg(long, value_name = "N")]
    calls: Option<String>,
    /// Deadline of a call
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// A file for messages that can never be written; without it they are counted and logged only
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<String>,
    /// The largest size of that file
    #[arg(long, value_name = "SIZE")]
    dead_letter_bytes: Option<String>,
    /// End once the topic has been read to its end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    observed: ObservedArgs,
}

impl IngestArgs {
    /// The configuration with these flags above it.
    fn config(&self) -> Result<Config, CliError> {
        let flags = [
            ("topic", &self.topic),
            ("group", &self.group),
            ("server", &self.server),
            ("format", &self.format),
            ("columns", &self.columns),
            ("table", &self.table),
            ("dialect", &self.dialect),
            ("namespace", &self.namespace),
            ("rate", &self.rate),
            ("window", &self.window),
            ("wait", &self.wait),
            ("calls", &self.calls),
            ("timeout", &self.timeout),
            ("dead_letters", &self.dead_letters),
            ("dead_letter_bytes", &self.dead_letter_bytes),
        ];
        let flags = flags.map(|(key, value)| (key, value.clone()));
        Ok(self.sources.clone().with("ingest", flags).load()?.config)
    }
}

/// Reads and marks until a signal ends it.
///
/// # Errors
/// A topic or service that cannot be used.
pub fn run(args: IngestArgs) -> Result<ExitCode, CliError> {
    let config = args.config()?;
    let wanted = &config.ingest;
    let form = form(wanted, &config.kafka)?;
    let options = options(&config, args.once)?;
    let observed = Observed::start(args.observed.clone(), &config)?;
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        observed.listen(&stop).await?;
        // Its connections are of the runtime.
        let client = Client::new(ClientOptions {
            connect_timeout: wanted.timeout,
            ..ClientOptions::new(&wanted.server)
        })?;
        let rate = (wanted.rate > 0.0).then_some(wanted.rate);
        let sink = Arc::new(ServiceSink::new(form, client, wanted.timeout, rate));
        eprintln!("seen: marking what {} holds on {}", options.topic, wanted.server);
        let done = ingest(sink, options, stop.requested()).await?;
        let (messages, items) = (grouped(done.messages), grouped(done.items));
        eprintln!("seen: {messages} messages committed: {items} items, {} dead", done.dead);
        Ok(ExitCode::SUCCESS)
    });
    control.shutdown_background();
    ended
}

fn options(config: &Config, once: bool) -> Result<IngestOptions, CliError> {
    let wanted = &config.ingest;
    let Some(topic) = wanted.topic.clone().filter(|topic| !topic.is_empty()) else {
        return Err("ingest.topic is unset: name the topic there, or by --topic".into());
    };
    let dead_letters = wanted.dead_letters.clone().map(|path| DeadLetterOptions {
        path,
        bytes_max: wanted.dead_letter_bytes,
        bytes_option: "ingest.dead_letter_bytes",
    });
    Ok(IngestOptions {
        brokers: config.kafka.brokers.clone(),
        client: config.kafka.client_settings()?,
        topic,
        group: wanted.group.clone(),
        window_items_max: wanted.window as usize,
        window_ms: u64::try_from(wanted.wait.as_millis()).unwrap_or(u64::MAX),
        items_max: MARK_ITEMS_MAX,
        calls_max: usize::from(wanted.calls),
        dead_letters,
        once,
    })
}

/// How messages are read.
fn form(wanted: &IngestConfig, kafka: &KafkaConfig) -> Result<Form, CliError> {
    let namespace = wanted.namespace.clone();
    if wanted.table.is_some() && wanted.format != IngestFormat::Changes {
        return Err("ingest.table (--table) is for ingest.format = changes".into());
    }
    match (wanted.format, wanted.columns.as_deref(), wanted.table.as_deref()) {
        (IngestFormat::Protobuf, None, _) => Ok(Form::Protobuf),
        (IngestFormat::Protobuf, Some(_), _) => {
            Err("ingest.columns (--columns) is for ingest.format = json or changes".into())
        }
        (IngestFormat::Json, columns, _) => {
            let columns = columns.map(str::parse::<Columns>).transpose();
            let columns = columns.map_err(|error| format!("ingest.columns: {error}"))?;
            Ok(Form::Json { namespace, columns: columns.unwrap_or_default() })
        }
        (IngestFormat::Changes, columns, Some(table)) => {
            let table = TableName::parse(table)
                .map_err(|error| format!("ingest.table = {table}: {error}"))?;
            let dialect = Wanted::parse(&wanted.dialect);
            let dialect =
                dialect.map_err(|error| format!("ingest.dialect = {}: {error}", wanted.dialect))?;
            let (tables, schemas) = (table.followed(columns)?, kafka.schema_options()?);
            Ok(Form::Changes(Changes::new(namespace, tables, dialect.0, &schemas)))
        }
        (IngestFormat::Changes, _, None) => {
            Err("ingest.format = changes needs ingest.table (--table)".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: IngestArgs,
    }

    fn config(flags: &[&str]) -> Result<Config, CliError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "[ingest]\ntopic = \"clicks\"\nformat = \"json\"\nwindow = 100\nrate = 5.0\n\
                    server = \"http://one:1\"\ndead_letters = \"dead\"\n";
        std::fs::write(file.path(), text).expect("text");
        let file = file.path().to_str().expect("UTF-8");
        let line = Line::try_parse_from([&["seen", "--config", file], flags].concat());
        line.expect("a command line").args.config()
    }

    #[test]
    fn flags_go_above_the_section() {
        let flags = ["--window", "200", "--server", "http://two:2", "--dead-letter-bytes", "8KiB"];
        let config = config(&flags).expect("a configuration");
        let told = options(&config, true).expect("options");
        assert_eq!((told.topic.as_str(), told.window_items_max), ("clicks", 200));
        assert_eq!((config.ingest.server.as_str(), config.ingest.rate), ("http://two:2", 5.0));
        let letters = told.dead_letters.expect("a file");
        assert_eq!((letters.bytes_max, letters.bytes_option), (8_192, "ingest.dead_letter_bytes"));
        assert!(matches!(form(&config.ingest, &config.kafka), Ok(Form::Json { .. })));
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        for (flags, key) in [
            (&["--window", "0"][..], "ingest.window"),
            (&["--wait", "2h"], "ingest.wait"),
            (&["--rate", "-1"], "ingest.rate"),
            (&["--format", "xml"], "ingest.format"),
        ] {
            let Err(refused) = config(flags).map_err(|error| error.to_string()) else {
                panic!("{flags:?} is taken")
            };
            assert!(refused.contains(key), "{flags:?}: {refused}");
        }
        for (flags, key) in [
            (&["--table", "old.reads"][..], "ingest.table"),
            (&["--format", "protobuf", "--columns", "user=u"], "ingest.columns"),
            (&["--format", "changes"], "ingest.table"),
            (&["--format", "changes", "--table", "reads"], "ingest.table"),
            (&["--format", "changes", "--table", "a.b", "--dialect", "xml"], "ingest.dialect"),
        ] {
            let config = config(flags).expect("a configuration");
            let refused = form(&config.ingest, &config.kafka);
            let refused = refused.expect_err("refused").to_string();
            assert!(refused.contains(key), "{flags:?}: {refused}");
        }
    }
}
