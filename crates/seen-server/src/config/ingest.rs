//! `[ingest]`: what `seen ingest` does unless its flags say otherwise.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, GIB, KIB, MIB, OptionInfo, SectionInfo, ms, option, optional, secs};
use super::units::{size, span};

/// What `[ingest]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "ingest",
    help: "What seen ingest does unless its flags of the same names say otherwise: it marks what waits in a topic of kafka.brokers, through a running service.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    optional("topic", Allowed::Text("a name"), "The topic.", "impressions"),
    option(
        "group",
        Allowed::Text("a name"),
        "The consumer group, whose members share the topic's partitions.",
    ),
    option("server", Allowed::Text("a URL"), "Where the service is."),
    option(
        "format",
        Allowed::OneOf(&["protobuf", "json", "changes"]),
        "What messages are: the API's own MarkRequest, JSON objects, or change events of another store's table.",
    ),
    optional(
        "columns",
        Allowed::Text("as --columns of seen ingest --help"),
        "Which fields of JSON objects, or columns of the other store's table, hold what.",
        "user=member_id,item=article_id,kind=1,time=read_at:s",
    ),
    optional(
        "table",
        Allowed::Text("DATABASE.TABLE"),
        "Whose rows are marked, where messages are change events.",
        "old.reads",
    ),
    option(
        "dialect",
        Allowed::Text("auto, or a format as seen feed decode --help lists them"),
        "The format of all change events; auto tells it from each.",
    ),
    option(
        "namespace",
        Allowed::Text("a history's name"),
        "Into which history JSON objects and change events go.",
    ),
    option(
        "rate",
        Allowed::Share(0.0, 1e9),
        "Items a second at most; 0: as many as there is time for.",
    ),
    option(
        "window",
        Allowed::Count(1, 65_536),
        "Most items that are sent before their messages' offsets are committed.",
    ),
    option("wait", Allowed::Span(ms(1), secs(60)), "How long a message waits for others."),
    option("calls", Allowed::Count(1, 1_024), "Calls at the same time."),
    option("timeout", Allowed::Span(ms(10), secs(600)), "Deadline of a call."),
    optional(
        "dead_letters",
        Allowed::Text("a file"),
        "Where messages are kept that can never be written; without it they are counted and logged only.",
        "/var/lib/seen/dead-messages.jsonl",
    ),
    option("dead_letter_bytes", Allowed::Size(4 * KIB, 64 * GIB), "The largest size of that file."),
];

/// `[ingest]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct IngestConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    pub group: String,
    pub server: String,
    pub format: IngestFormat,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    pub dialect: String,
    pub namespace: String,
    pub rate: f64,
    pub window: u32,
    #[serde(with = "span")]
    pub wait: Duration,
    pub calls: u16,
    #[serde(with = "span")]
    pub timeout: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<PathBuf>,
    #[serde(with = "size")]
    pub dead_letter_bytes: u64,
}

/// What queued messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngestFormat {
    /// `seen.v1.MarkRequest`.
    #[default]
    Protobuf,
    /// An object for each impression.
    Json,
    /// Rows of another store, as Debezium, Canal, Maxwell or TiCDC tell them.
    Changes,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            topic: None,
            group: "seen-ingest".to_owned(),
            server: "http://127.0.0.1:7420".to_owned(),
            format: IngestFormat::Protobuf,
            columns: None,
            table: None,
            dialect: "auto".to_owned(),
            namespace: "feed_read".to_owned(),
            rate: 0.0,
            window: 8_192,
            wait: ms(50),
            calls: 64,
            timeout: secs(5),
            dead_letters: None,
            dead_letter_bytes: 64 * MIB,
        }
    }
}

impl IngestConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)
    }
}
