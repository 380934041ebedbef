//! What is wrong, or might be, with a server or a table, and the statement that mends it.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works, worse than it could, or not in every case.
    Warning,
    /// The store does not open, or what it promises does not hold.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a table, a setting, a privilege.
    pub subject: String,
    /// What is so, and what follows from it.
    pub what: String,
    /// The statement that mends it, if there is one.
    pub mend: Option<String>,
}

impl Finding {
    /// Something that keeps the store from working.
    pub(crate) fn error(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::Error, subject, what)
    }

    /// Something that makes it worse.
    pub(crate) fn warning(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, subject, what)
    }

    /// Something good to know.
    pub(crate) fn note(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Severity::Note, subject, what)
    }

    fn new(severity: Severity, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity, subject: subject.into(), what: what.into(), mend: None }
    }

    /// With the statement that mends it.
    pub(crate) fn mended_by(mut self, statement: impl Into<String>) -> Self {
        self.mend = Some(statement.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)?;
        match &self.mend {
            Some(mend) => write!(f, "; mend it by: {mend}"),
            None => Ok(()),
        }
    }
}
