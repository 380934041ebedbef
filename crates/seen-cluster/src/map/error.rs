//! Why a map is refused.

use std::fmt;

/// Why a map is refused: where, what stands there, and what may stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapError {
    /// The line of the file, from 1, where it is known.
    pub line: Option<usize>,
    /// The dotted name of the field, such as `pool.feed.slot.2.virtual`. Empty if it is about the file.
    pub field: String,
    /// What stands there. Empty if it is about several.
    pub value: String,
    /// What is wrong, with the limit.
    pub problem: String,
}

impl MapError {
    /// About the whole file.
    pub(crate) fn file(problem: impl Into<String>) -> Self {
        Self::at("", "", problem)
    }

    /// About one field.
    pub(crate) fn at(
        field: impl Into<String>,
        value: impl fmt::Display,
        problem: impl Into<String>,
    ) -> Self {
        /// More of a value says no more.
        const SHOWN: usize = 80;
        let value: String = value.to_string().chars().take(SHOWN).collect();
        Self { line: None, field: field.into(), value, problem: problem.into() }
    }

    /// The same, at a line.
    pub(crate) fn on_line(mut self, line: Option<usize>) -> Self {
        self.line = self.line.or(line);
        self
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match (self.field.is_empty(), self.value.is_empty()) {
            (true, _) => {}
            (false, true) => write!(f, "{}: ", self.field)?,
            (false, false) => write!(f, "{} = {:?}: ", self.field, self.value)?,
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for MapError {}
