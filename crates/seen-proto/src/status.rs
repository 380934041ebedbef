//! Why a call failed: one table from error kind to gRPC code, metric label, blame, and whether a
//! retry can help; and the conversion to and from `tonic::Status` with google.rpc details.

mod convert;
mod kind;

use std::borrow::Cow;
use std::time::Duration;

use seen_filter::StoreError;
use thiserror::Error;

pub use convert::{DOMAIN, call_error, from_call_error};
pub use kind::{Blame, ErrorKind};

use crate::token::TokenError;

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's name as the .proto has it, with positions: `items[3].kind`.
    pub field: Cow<'static, str>,
    /// What is wrong: the value, the limit, and what to do.
    pub description: String,
}

/// Most violations that one error lists.
pub const VIOLATIONS_MAX: usize = 16;

/// A failed call, as the caller is told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What happened and what to do next, for people.
    pub message: String,
    /// The wrong fields, at most [`VIOLATIONS_MAX`]; empty for most kinds.
    pub violations: Vec<Violation>,
    /// When to try again; `None` where a retry does not help or the time is the caller's choice.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error of `kind` with a message for people; the kind decides about a retry.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            violations: Vec::new(),
            retry_after: kind.retry_after(),
        }
    }

    /// A wrong field: `description` states value, limit and what to do.
    pub fn invalid(field: impl Into<Cow<'static, str>>, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.into(), description: description.into() };
        let message = format!("{}: {}", violation.field, violation.description);
        Self { violations: vec![violation], ..Self::new(ErrorKind::InvalidArgument, message) }
    }

    /// The namespace `name` is not configured here. At most 48 bytes of the name are repeated.
    pub fn unknown_namespace(name: &str) -> Self {
        let shown = clip(name, seen_filter::settings::NAME_BYTES_MAX);
        let message = format!(
            "namespace {shown:?} is not configured here; AdminService/Status lists those that are"
        );
        Self::new(ErrorKind::UnknownNamespace, message)
    }

    /// The same error with another time to try again after.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}

/// The longest start of `text` of at most `bytes_max` bytes, so that a hostile value does not fill
/// an answer or a log.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind.into(), error.message)
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let kind = match error {
            TokenError::Truncated { .. } | TokenError::Garbage { .. } => ErrorKind::TokenGarbage,
            TokenError::Version { .. } => ErrorKind::TokenVersion,
            TokenError::OtherCluster { .. } => ErrorKind::TokenOfAnotherCluster,
            TokenError::TooLong { .. } => return Self::invalid("token", error.to_string()),
        };
        let message = error.to_string();
        let violation = Violation { field: "token".into(), description: message.clone() };
        Self { violations: vec![violation], ..Self::new(kind, message) }
    }
}
