//! What a refused call must say: code, reason, field with its limit, and whether a retry helps.

use seen_proto::status::{ApiError, from_call_error};
use seen_proto::v1::CallError;
use tonic::{Code, Status};

/// What is expected of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub code: Code,
    pub reason: &'static str,
    /// The wrong field and what its description must contain (value or limit).
    pub field: Option<(&'static str, &'static str)>,
    pub retry: bool,
}

/// A field out of its range.
pub const fn invalid(field: &'static str, says: &'static str) -> Refusal {
    Refusal {
        code: Code::InvalidArgument,
        reason: "INVALID_ARGUMENT",
        field: Some((field, says)),
        retry: false,
    }
}

/// A failure that names no field.
pub const fn failure(code: Code, reason: &'static str, retry: bool) -> Refusal {
    Refusal { code, reason, field: None, retry }
}

/// A namespace that is not configured.
pub const UNKNOWN_NAMESPACE: Refusal = failure(Code::NotFound, "UNKNOWN_NAMESPACE", false);
/// The time ran out, and nothing was done.
pub const DEADLINE: Refusal = failure(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", true);
/// The time ran out after a commit was sent.
pub const OUTCOME_UNKNOWN: Refusal = failure(Code::Unknown, "OUTCOME_UNKNOWN", true);
/// A queue was full.
pub const OVERLOADED: Refusal = failure(Code::ResourceExhausted, "OVERLOADED", true);
/// Storage cannot be reached.
pub const UNAVAILABLE: Refusal = failure(Code::Unavailable, "UNAVAILABLE", true);

impl Refusal {
    /// Compares a call's status.
    #[track_caller]
    pub fn is(&self, status: &Status) {
        assert_eq!(status.code(), self.code, "{status:?}");
        self.compare(&ApiError::from(status), status.details());
    }

    /// Compares the error of one message of a stream.
    #[track_caller]
    pub fn is_call_error(&self, error: &CallError) {
        assert_eq!(Code::from_i32(error.code), self.code, "{error:?}");
        self.compare(&from_call_error(error), &error.details);
    }

    #[track_caller]
    fn compare(&self, error: &ApiError, details: &[u8]) {
        assert_eq!(error.kind.reason(), self.reason, "{error:?}");
        assert!(has(details, "google.rpc.ErrorInfo") && has(details, self.reason));
        // Read back, an error without RetryInfo has the default of its kind: look at the bytes.
        assert_eq!(has(details, "google.rpc.RetryInfo"), self.retry, "{error:?}");
        assert!(!error.message.is_empty());
        match self.field {
            None => assert_eq!(error.violations, [], "{error:?}"),
            Some((field, says)) => {
                assert!(has(details, "google.rpc.BadRequest"));
                let violation = error.violations.first().expect("a field");
                assert_eq!(violation.field, field, "{error:?}");
                assert!(violation.description.contains(says), "{says:?} in {error:?}");
            }
        }
    }
}

fn has(details: &[u8], text: &str) -> bool {
    details.windows(text.len()).any(|window| window == text.as_bytes())
}
