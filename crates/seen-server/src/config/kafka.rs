//! `[kafka]`: change events by Kafka, read where `mysql.feed` is `kafka`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seen_dialect::Dialect;
use seen_filter::hash::HashKey;
use seen_kafka::{
    DeadLetterOptions, Digits, KeyTemplate, Partitioner, SchemaLookup, SchemaOptions,
};
use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, GIB, KIB, MIB, OptionInfo, SectionInfo, ms, option, optional, secs};
use super::units::{size, span};
use crate::schema_registry;

/// What `[kafka]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "kafka",
    help: "Change events by Kafka, where mysql.feed is kafka: written by Debezium, TiCDC, Canal, Maxwell or seen relay; the format is told from the records.",
    options: OPTIONS,
};

/// The words for how a producer chooses partitions.
const PARTITIONERS: &[&str] = &["key", "slots", "canal", "maxwell", "unknown"];

const OPTIONS: &[OptionInfo] = &[
    option(
        "brokers",
        Allowed::Text("addresses separated by commas, each host:port"),
        "The brokers to begin with.",
    ),
    option(
        "topic",
        Allowed::Text("a name, with {shard} where mysql.shards is above 1"),
        "The topic that carries the histories and the table seen_control, so that fences keep their place among the rows.",
    ),
    option(
        "partitioner",
        Allowed::OneOf(PARTITIONERS),
        "How the producer chooses a row's partition: by the record's key (Debezium, and whoever leaves it to Kafka's clients), by ranges of virtual slots (seen relay), as Canal or Maxwell do by the user's column; or unknown: then all partitions are followed for every user, and with more than one of them nothing is proven by fences.",
    ),
    option(
        "key",
        Allowed::Text("a record's key with {user} in place of the user's id"),
        "With partitioner = key: the key exactly as the producer writes it.",
    ),
    option(
        "key_digits",
        Allowed::OneOf(&["signed", "unsigned"]),
        "How the key says ids from 2^63 on: as negative numbers (Debezium's bigint.unsigned.handling.mode=long) or in full.",
    ),
    option(
        "dialect",
        Allowed::Text("auto, or a format as seen feed decode --help lists them"),
        "The format of all records; auto tells it from each.",
    ),
    optional(
        "schema_registry",
        Allowed::Text("a URL that begins with http:// and holds no login"),
        "Where TiCDC's Avro has its schemas: a registry of Confluent's interface.",
        "http://127.0.0.1:8081",
    ),
    option(
        "schemas",
        Allowed::Text("number=file, separated by ;"),
        "Schemas that no registry has to be asked for, by their numbers there.",
    ),
    option(
        "partitions",
        Allowed::Count(0, 4_096),
        "How many partitions each topic has; 0 asks Kafka at the start, which must be there then.",
    ),
    option(
        "client",
        Allowed::Text("name=value, separated by ;"),
        "Further settings of librdkafka, as in security.protocol=ssl;ssl.ca.location=/etc/seen/ca.pem.",
    ),
    optional(
        "client_file",
        Allowed::Text("a file"),
        "A file of such settings, a line each: the place for sasl.password.",
        "/run/secrets/seen-kafka.properties",
    ),
    option(
        "fetch_ahead",
        Allowed::Size(64 * KIB, GIB),
        "Most bytes fetched ahead of what is applied, for each topic.",
    ),
    option(
        "connect_timeout",
        Allowed::Span(ms(100), secs(60)),
        "How long Kafka may take to answer questions about its topics.",
    ),
    optional(
        "dead_letters",
        Allowed::Text("a file"),
        "Where records that cannot be read are kept, for seen feed decode --base64; whom they concern is in doubt either way.",
        "/var/lib/seen/dead-letters.jsonl",
    ),
    option("dead_letter_bytes", Allowed::Size(4 * KIB, 64 * GIB), "The largest size of that file."),
];

/// `[kafka]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct KafkaConfig {
    pub brokers: String,
    pub topic: String,
    pub partitioner: PartitionedBy,
    pub key: String,
    pub key_digits: KeyDigits,
    pub dialect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<String>,
    pub schemas: String,
    pub partitions: u16,
    pub client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_file: Option<PathBuf>,
    #[serde(with = "size")]
    pub fetch_ahead: u64,
    #[serde(with = "span")]
    pub connect_timeout: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<PathBuf>,
    #[serde(with = "size")]
    pub dead_letter_bytes: u64,
}

/// How the producer chooses partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionedBy {
    /// By the record's key.
    #[default]
    Key,
    /// By ranges of virtual slots.
    Slots,
    /// As Canal does.
    Canal,
    /// As Maxwell does.
    Maxwell,
    /// Nobody knows.
    Unknown,
}

/// How a key says ids from 2^63 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyDigits {
    /// As negative numbers.
    #[default]
    Signed,
    /// In full.
    Unsigned,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            topic: "seen".to_owned(),
            partitioner: PartitionedBy::Key,
            key: "{\"user_id\":{user}}".to_owned(),
            key_digits: KeyDigits::Signed,
            dialect: "auto".to_owned(),
            schema_registry: None,
            schemas: String::new(),
            partitions: 0,
            client: String::new(),
            client_file: None,
            fetch_ahead: 16 * MIB,
            connect_timeout: secs(10),
            dead_letters: None,
            dead_letter_bytes: 64 * MIB,
        }
    }
}

impl KafkaConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self, shards: u16) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        let refuse = |key: &str, value: &str, allowed: String| {
            Err(OutOfRange { key: format!("kafka.{key}"), value: value.to_owned(), allowed })
        };
        if self.topic.is_empty() || (shards > 1 && !self.topic.contains("{shard}")) {
            let allowed = format!("a name, with {{shard}} in it where there are {shards} shards");
            return refuse("topic", &self.topic, allowed);
        }
        if self.dialect != "auto" && Dialect::from_name(&self.dialect).is_none() {
            let names: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.name()).collect();
            return refuse("dialect", &self.dialect, format!("auto, {}", names.join(", ")));
        }
        if let Err(error) = self.template() {
            return refuse("key", &self.key, error.to_string());
        }
        // A login would be shown with the rest of the configuration.
        let is_plain = |url: &&String| url.starts_with("http://") && !url.contains('@');
        if let Some(url) = self.schema_registry.as_ref().filter(|url| !is_plain(url)) {
            let place = url.rsplit('@').next().unwrap_or_default();
            let allowed = "a URL that begins with http:// and holds no login".to_owned();
            return refuse("schema_registry", place, allowed);
        }
        if let Err(part) = schema_files(&self.schemas) {
            return refuse("schemas", part, "number=file, separated by ;".to_owned());
        }
        match settings(&self.client) {
            Ok(_) => Ok(()),
            Err(line) => refuse("client", line, "name=value, separated by ;".to_owned()),
        }
    }

    fn template(&self) -> Result<KeyTemplate, seen_kafka::BadTemplate> {
        let digits = match self.key_digits {
            KeyDigits::Signed => Digits::Signed,
            KeyDigits::Unsigned => Digits::Unsigned,
        };
        KeyTemplate::parse(&self.key, digits)
    }

    /// The topic of a shard.
    pub fn topic_of(&self, shard: u16) -> String {
        self.topic.replace("{shard}", &shard.to_string())
    }

    /// The format of all records, if one is named.
    pub fn dialect(&self) -> Option<Dialect> {
        Dialect::from_name(&self.dialect)
    }

    /// How the producer of this database's changes chooses partitions.
    ///
    /// # Errors
    /// What [`Self::validate`] refuses.
    pub fn partitioner(
        &self,
        hash_key: HashKey,
        database: &str,
    ) -> Result<Partitioner, seen_kafka::BadTemplate> {
        Ok(match self.partitioner {
            PartitionedBy::Key => Partitioner::Key(self.template()?),
            PartitionedBy::Slots => Partitioner::Slots(hash_key),
            PartitionedBy::Canal => Partitioner::Canal { database: database.to_owned() },
            PartitionedBy::Maxwell => Partitioner::Maxwell,
            PartitionedBy::Unknown => Partitioner::Unknown,
        })
    }

    /// The settings of librdkafka, those of the file included.
    ///
    /// # Errors
    /// What is wrong with the file, or the line of it that is no setting.
    pub fn client_settings(&self) -> Result<BTreeMap<String, String>, OutOfRange> {
        let mut all = settings(&self.client).unwrap_or_default();
        if let Some(file) = &self.client_file {
            let refuse = |allowed: String| OutOfRange {
                key: "kafka.client_file".to_owned(),
                value: file.display().to_string(),
                allowed,
            };
            let text = std::fs::read_to_string(file)
                .map_err(|error| refuse(format!("a file that can be read: {error}")))?;
            // The line itself may hold a password.
            let lines = settings(&text.replace('\n', ";"))
                .map_err(|_| refuse("lines of name=value; one of them is not".to_owned()))?;
            all.extend(lines);
        }
        Ok(all)
    }

    /// Where the schemas of records are.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn schema_options(&self) -> Result<SchemaOptions, OutOfRange> {
        let mut known = Vec::new();
        for (id, file) in schema_files(&self.schemas).unwrap_or_default() {
            let json = std::fs::read_to_string(file).map_err(|error| OutOfRange {
                key: "kafka.schemas".to_owned(),
                value: file.to_owned(),
                allowed: format!("a file that can be read: {error}"),
            })?;
            known.push((id, json));
        }
        let lookup = self.schema_registry.clone().map(|registry| {
            let lookup: SchemaLookup = Arc::new(move |id| schema_registry::schema(&registry, id));
            lookup
        });
        Ok(SchemaOptions { known, lookup })
    }

    /// Where records that cannot be read are kept.
    pub fn dead_letter_options(&self) -> Option<DeadLetterOptions> {
        let path = self.dead_letters.clone()?;
        let (bytes_max, bytes_option) = (self.dead_letter_bytes, "kafka.dead_letter_bytes");
        Some(DeadLetterOptions { path, bytes_max, bytes_option })
    }
}

/// Reads numbers and files. The error is the part that is none.
fn schema_files(text: &str) -> Result<Vec<(u32, &str)>, &str> {
    text.split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (id, file) = part.split_once('=').ok_or(part)?;
            Ok((id.trim().parse().map_err(|_| part)?, file.trim()))
        })
        .collect()
}

/// Reads settings separated by semicolons; comments begin with `#`. The error is the part that is none.
fn settings(text: &str) -> Result<BTreeMap<String, String>, &str> {
    text.split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.starts_with('#'))
        .map(|part| {
            let (name, value) = part.split_once('=').ok_or(part)?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_text_and_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# secret\nsasl.username=u\nsasl.password=a=b\n")
            .expect("text");
        let config = KafkaConfig {
            client: "security.protocol=sasl_ssl; sasl.username=other".to_owned(),
            client_file: Some(file.path().to_owned()),
            ..KafkaConfig::default()
        };
        let read = config.client_settings().expect("settings");
        let expected =
            [("sasl.password", "a=b"), ("sasl.username", "u"), ("security.protocol", "sasl_ssl")];
        let read: Vec<_> =
            read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, expected);
        std::fs::write(file.path(), "sasl.password").expect("text");
        let refused = config.client_settings().expect_err("no setting").to_string();
        assert!(refused.contains("client_file") && !refused.contains("sasl"), "{refused}");
    }

    #[test]
    fn schemas_come_from_files_and_a_registry() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{}").expect("text");
        let config = KafkaConfig {
            schemas: format!("7={}; ", file.path().display()),
            schema_registry: Some("http://127.0.0.1:1".to_owned()),
            ..KafkaConfig::default()
        };
        assert_eq!(config.validate(1), Ok(()));
        let read = config.schema_options().expect("schemas");
        assert_eq!(read.known, [(7, "{}".to_owned())]);
        let refused = read.lookup.expect("a registry")(1).expect_err("nobody is there");
        assert!(refused.contains("127.0.0.1:1"), "{refused}");
        let gone = KafkaConfig { schemas: "7=/nowhere.json".to_owned(), ..KafkaConfig::default() };
        assert_eq!(gone.schema_options().expect_err("no file").key, "kafka.schemas");
        let url = Some("http://u:secret@h".to_owned());
        let login = KafkaConfig { schema_registry: url, ..KafkaConfig::default() };
        let refused = login.validate(1).expect_err("a login").to_string();
        assert!(refused.contains("kafka.schema_registry") && !refused.contains("secret"));
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        let fine = KafkaConfig::default();
        assert_eq!(fine.validate(1), Ok(()));
        for (bad, key) in [
            (KafkaConfig { topic: String::new(), ..fine.clone() }, "kafka.topic"),
            (KafkaConfig { dialect: "xml".to_owned(), ..fine.clone() }, "kafka.dialect"),
            (KafkaConfig { key: "{user}{user}".to_owned(), ..fine.clone() }, "kafka.key"),
            (KafkaConfig { client: "ssl".to_owned(), ..fine.clone() }, "kafka.client"),
            (KafkaConfig { fetch_ahead: 1, ..fine.clone() }, "kafka.fetch_ahead"),
            (KafkaConfig { schemas: "a.json".to_owned(), ..fine.clone() }, "kafka.schemas"),
        ] {
            assert_eq!(bad.validate(1).expect_err(key).key, key);
        }
        assert_eq!(fine.validate(2).expect_err("one topic").key, "kafka.topic");
        let sharded = KafkaConfig { topic: "seen-{shard}".to_owned(), ..fine };
        assert_eq!(sharded.validate(2), Ok(()));
        assert_eq!(sharded.topic_of(1), "seen-1");
    }
}
