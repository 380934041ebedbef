//! A test-only switch that takes away the lines which defend one rule, and only those. Without the
//! `sabotage` feature it compiles to nothing.

use super::Rules;

/// One of the ten rules, or one part of R9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "named as in the table of the module `rules`")]
pub enum Rule {
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    /// A fence has come back when it does, and not when it is begun, written or not.
    R9Begun,
    /// A commit that stands for a fence proves it when it is complete, and not before.
    R9Stands,
    /// A fence that passes a written one tells of lost events.
    R9Passed,
    /// A feed that is not the source is not fresh because nothing follows in it (row 25).
    R9Quiet,
}

impl Rule {
    /// All rules, in order.
    pub const ALL: [Rule; 14] = [
        Rule::R1,
        Rule::R2,
        Rule::R3,
        Rule::R4,
        Rule::R5,
        Rule::R6,
        Rule::R7,
        Rule::R8,
        Rule::R9,
        Rule::R10,
        Rule::R9Begun,
        Rule::R9Passed,
        Rule::R9Stands,
        Rule::R9Quiet,
    ];
}

impl Rules {
    /// Takes the defence of one rule away.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn sabotaged(mut self, rule: Rule) -> Self {
        self.sabotaged = Some(rule);
        self
    }

    /// True unless a test has taken this rule away.
    #[cfg(feature = "sabotage")]
    pub(super) fn defends(&self, rule: Rule) -> bool {
        self.sabotaged != Some(rule)
    }

    /// Always true outside of sabotage tests.
    #[cfg(not(feature = "sabotage"))]
    #[inline(always)]
    pub(super) const fn defends(&self, _rule: Rule) -> bool {
        true
    }
}
