//! Why a stream was given up.

use thiserror::Error;

use super::wire::EndKind;

/// Why a stream was given up. What it had installed by then stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransferFailure {
    /// Bytes are missing, or were changed on the way.
    #[error("the stream is torn: bytes are missing or were changed; ask again, or another donor")]
    Torn,
    /// Made by another version of the program.
    #[error(
        "the other end speaks versions {} to {} of the stream, this program {} to {}; upgrade the older one",
        .found.oldest, .found.newest, super::wire::STREAM_VERSIONS.oldest, super::wire::STREAM_VERSIONS.newest
    )]
    Version {
        /// The other end's.
        found: super::wire::Versions,
    },
    /// The two ends hash in different ways, as during a rolling upgrade, or are of different clusters.
    #[error(
        "the other end has another {what}; it is of another cluster or version, and its entries are of no use here"
    )]
    Dialect {
        /// What differs.
        what: &'static str,
    },
    /// No namespace has the same name, number and settings at both ends.
    #[error(
        "the two ends share no namespace of the same name, number and settings; compare their configurations"
    )]
    Namespaces,
    /// The other end gives nothing.
    #[error("the other end gives nothing ({0:?})")]
    Declined(EndKind),
    /// The connection, or the file.
    #[error("the stream broke: {0}")]
    Broken(String),
    /// Nothing came for too long.
    #[error("nothing came for {ms} ms")]
    Silent {
        /// How long.
        ms: u64,
    },
}

impl TransferFailure {
    /// True if another attempt at the same end would fail in the same way.
    pub const fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Version { .. }
                | Self::Dialect { .. }
                | Self::Namespaces
                | Self::Declined(EndKind::Incompatible)
        )
    }

    /// A short stable name, used as a metric label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Version { .. } => "version",
            Self::Dialect { .. } => "dialect",
            Self::Namespaces => "namespaces",
            Self::Declined(EndKind::Busy) => "busy",
            Self::Declined(_) => "declined",
            Self::Broken(_) => "broken",
            Self::Silent { .. } => "silent",
        }
    }
}

impl From<std::io::Error> for TransferFailure {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}
