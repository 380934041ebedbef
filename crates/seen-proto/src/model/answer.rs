//! How far an answer can be trusted, and what to answer where nothing is known.

use seen_filter::CommitStamp;
use seen_filter::history::Row;

use crate::v1;
use crate::v1::DegradedReason;

/// What to answer about a candidate of which nothing certain is known in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnUnknown {
    /// Call it unread.
    #[default]
    Show,
    /// Call it read.
    Hide,
}

impl OnUnknown {
    /// The choice that this number stands for on the wire.
    ///
    /// # Errors
    /// A description of the number that stands for none.
    pub fn from_wire(raw: i32) -> Result<Self, String> {
        match v1::OnUnknown::try_from(raw) {
            Ok(v1::OnUnknown::Unspecified | v1::OnUnknown::Show) => Ok(Self::Show),
            Ok(v1::OnUnknown::Hide) => Ok(Self::Hide),
            Err(_) => Err(format!("{raw}; ON_UNKNOWN_SHOW (1) or ON_UNKNOWN_HIDE (2)")),
        }
    }
}

impl From<OnUnknown> for v1::OnUnknown {
    fn from(choice: OnUnknown) -> Self {
        match choice {
            OnUnknown::Show => Self::Show,
            OnUnknown::Hide => Self::Hide,
        }
    }
}

/// How far an answer can be trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quality {
    /// Both "read" and "unread" are certain.
    Exact,
    /// "Unread" is certain.
    Filtered {
        /// Highest expected share of unread candidates that were called read, 0 to 1.
        rate: f64,
    },
    /// An item that was read may have been called unread.
    Degraded {
        /// As for `Filtered`.
        rate: f64,
        /// Why.
        reason: DegradedReason,
        /// How many candidates [`OnUnknown`] decided.
        unknown: u32,
    },
}

impl From<Quality> for v1::Quality {
    fn from(quality: Quality) -> Self {
        let (level, rate, reason, unknown) = match quality {
            Quality::Exact => (v1::QualityLevel::Exact, 0.0, DegradedReason::Unspecified, 0),
            Quality::Filtered { rate } => {
                (v1::QualityLevel::Filtered, rate, DegradedReason::Unspecified, 0)
            }
            Quality::Degraded { rate, reason, unknown } => {
                (v1::QualityLevel::Degraded, rate, reason, unknown)
            }
        };
        Self { level: level.into(), false_positive_rate: rate, reason: reason.into(), unknown }
    }
}

impl From<&v1::Quality> for Quality {
    /// Reads an answer. A level or reason of a later version is taken as degraded, the weakest.
    fn from(quality: &v1::Quality) -> Self {
        let rate = quality.false_positive_rate;
        match v1::QualityLevel::try_from(quality.level) {
            Ok(v1::QualityLevel::Exact) => Self::Exact,
            Ok(v1::QualityLevel::Filtered) => Self::Filtered { rate },
            _ => Self::Degraded {
                rate,
                reason: DegradedReason::try_from(quality.reason).unwrap_or_default(),
                unknown: quality.unknown,
            },
        }
    }
}

impl From<CommitStamp> for v1::Stamp {
    fn from(stamp: CommitStamp) -> Self {
        Self {
            domain: stamp.domain.get(),
            timeline: stamp.timeline.get(),
            position: stamp.position,
        }
    }
}

impl From<Row> for v1::HistoryRow {
    fn from(row: Row) -> Self {
        Self {
            kind: row.item.kind.get().into(),
            id: row.item.id.get(),
            marked_at_ms: row.marked_at.get(),
        }
    }
}
