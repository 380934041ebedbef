//! A test-only switch that takes away the lines which defend one rule, or one part of it, and only those. Without the
//! `sabotage` feature it compiles to nothing.

use super::Rules;

/// One of the ten rules, or one part of one.
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
    /// Own adds are merged at an install (row 29).
    R1Journal,
    /// A snapshot that is too old is used only where the ring covers the difference (row 3).
    R2Ring,
    /// Only clean entries are given away (row 60).
    R3Clean,
    /// A donor stands where it says (row 31).
    R3Position,
    /// A gap during a build refuses its install (row 52).
    R8Install,
    /// An install clears no doubt that it does not settle.
    R8Whole,
    /// A fence releases only what was acknowledged before its write began (row 26).
    R9Released,
    /// A fence covers only what was presented before its write began.
    R9Presented,
    /// Only the own incarnation's fence proves anything (row 58).
    R9Writer,
    /// A forgotten user's entry goes at once (row 49).
    R10Forget,
    /// A snapshot from before a forget is refused (row 41).
    R10UserEpoch,
    /// A commit that a remove overtook is suspect (row 59).
    R10Suspect,
    /// A late build does not replace a later one (row 7).
    R1Generation,
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

    /// Single lines of some rules, which a simulated cluster is played without.
    pub const PARTS: [Rule; 13] = [
        Rule::R1Journal,
        Rule::R1Generation,
        Rule::R2Ring,
        Rule::R3Clean,
        Rule::R3Position,
        Rule::R8Install,
        Rule::R8Whole,
        Rule::R9Released,
        Rule::R9Presented,
        Rule::R9Writer,
        Rule::R10Forget,
        Rule::R10UserEpoch,
        Rule::R10Suspect,
    ];

    /// The rule, or part of one, of this name.
    pub fn named(name: &str) -> Option<Rule> {
        let mut all = Self::ALL.into_iter().chain(Self::PARTS);
        all.find(|rule| format!("{rule:?}") == name)
    }
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
