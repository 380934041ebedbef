//! `[log]`: what is logged on stderr, and how.

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, OptionInfo, SectionInfo, option};

/// What `[log]` is about.
pub const SECTION: SectionInfo =
    SectionInfo { name: "log", help: "What is logged on stderr, and how.", options: OPTIONS };

const OPTIONS: &[OptionInfo] = &[
    option("format", Allowed::OneOf(&["pretty", "json"]), "For people, or one JSON object a line."),
    option(
        "level",
        Allowed::Text("error, warn, info, debug, trace, or by module: info,seen_store=debug"),
        "What is logged.",
    ),
    option(
        "queue_lines_max",
        Allowed::Count(64, 1_000_000),
        "Lines that may wait to be written; further ones are dropped and counted, so that a slow terminal slows no request.",
    ),
];

/// The words that are a level.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: String,
    pub queue_lines_max: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, level: "info".to_owned(), queue_lines_max: 8_192 }
    }
}

impl LogConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        let refuse = |reason: String| OutOfRange {
            key: "log.level".to_owned(),
            value: self.level.clone(),
            allowed: format!("a level or directives such as info,seen_store=debug; {reason}"),
        };
        // The filter takes a misspelt level for the name of a module, and would log nothing.
        for word in self.level.split(',').filter(|word| !word.contains(['=', '['])) {
            if !LEVELS.contains(&word.trim().to_ascii_lowercase().as_str()) {
                return Err(refuse(format!("{word:?} is no level")));
            }
        }
        match self.level.parse::<tracing_subscriber::EnvFilter>() {
            Ok(_) => Ok(()),
            Err(error) => Err(refuse(error.to_string())),
        }
    }
}
