//! Why a configuration is refused: each error names the key, where its value came from, and what to
//! write instead.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value of the effective configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
    /// `--set` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag --set"),
        }
    }
}

/// A value outside what its option allows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key} = {value} is out of range (allowed: {allowed})")]
pub struct OutOfRange {
    /// The dotted key.
    pub key: String,
    /// The refused value.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file that was asked for cannot be read.
    #[error("cannot read the configuration file {}: {source}; check --config and SEEN_CONFIG", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value has the wrong shape, or a file is no TOML.
    #[error("{key}: {message} (from {origin})")]
    Invalid {
        /// The dotted key, or `configuration` where the text as a whole is wrong.
        key: String,
        /// What is wrong.
        message: String,
        /// Where it was written.
        origin: Origin,
    },
    /// A key that no option has.
    #[error(
        "unknown key {key} (from {origin}){}; `seen config` lists every key",
        suggestion.as_ref().map(|s| format!(", did you mean {s}?")).unwrap_or_default()
    )]
    Unknown {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// The nearest key that exists.
        suggestion: Option<String>,
    },
    /// A value outside its range.
    #[error("{error} (from {origin})")]
    OutOfRange {
        /// Which value, and what is allowed.
        error: OutOfRange,
        /// Where it was written.
        origin: Origin,
    },
    /// `--set` without a `=`.
    #[error("--set {text:?}: write key=value, for example --set server.threads=4")]
    Flag {
        /// What was given.
        text: String,
    },
}
