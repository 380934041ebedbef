//! `[limits]`: how many answers are verified behind the caller's back.

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, OptionInfo, SectionInfo, option};

/// What `[limits]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "limits",
    help: "How many answers are verified in storage behind the caller's back.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    option(
        "seen_sample",
        Allowed::Share(0.0, 1.0),
        "Share of Filter answers of which one candidate called seen is verified, for the live false-positive rate.",
    ),
    option(
        "unread_sample",
        Allowed::Share(0.0, 1.0),
        "Share of Filter answers of which one candidate called unread is verified; a row found is a false negative.",
    ),
    option(
        "sample_checks_per_s_max",
        Allowed::Count(1, 100_000),
        "Verifications of both samples in a second.",
    ),
];

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct LimitsConfig {
    pub seen_sample: f64,
    pub unread_sample: f64,
    pub sample_checks_per_s_max: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { seen_sample: 0.01, unread_sample: 0.001, sample_checks_per_s_max: 50 }
    }
}

impl LimitsConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)
    }
}
