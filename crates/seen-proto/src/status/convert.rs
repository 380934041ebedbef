//! Errors as `tonic::Status` with google.rpc details, and back; and as the `CallError` of a stream.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorDetails, FieldViolation, StatusExt};

use super::{ApiError, ErrorKind, VIOLATIONS_MAX, Violation, clip};
use crate::v1::CallError;

/// The domain in google.rpc.ErrorInfo: whose reasons these are.
pub const DOMAIN: &str = "seen";

/// Longest message that is taken over from another process, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_024;

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut details =
            ErrorDetails::with_error_info(error.kind.reason(), DOMAIN, HashMap::new());
        if !error.violations.is_empty() {
            let violations = error.violations.into_iter().take(VIOLATIONS_MAX);
            details.set_bad_request(
                violations.map(|v| FieldViolation::new(v.field, v.description)).collect::<Vec<_>>(),
            );
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        Status::with_error_details(error.kind.code(), error.message, details)
    }
}

impl From<&Status> for ApiError {
    /// Reads a status back. Without details of ours the bare code decides; see
    /// [`ErrorKind::from_code`].
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let kind = details
            .error_info()
            .filter(|info| info.domain == DOMAIN)
            .and_then(|info| ErrorKind::from_reason(&info.reason))
            .or(ErrorKind::from_code(status.code()))
            .unwrap_or(ErrorKind::Internal);
        let violations = details.bad_request().map(violations_of).unwrap_or_default();
        Self {
            message: clip(status.message(), MESSAGE_BYTES_MAX).to_owned(),
            violations,
            retry_after: details
                .retry_info()
                .and_then(|info| info.retry_delay)
                .or(kind.retry_after()),
            kind,
        }
    }
}

fn violations_of(request: &BadRequest) -> Vec<Violation> {
    let listed = request.field_violations.iter().take(VIOLATIONS_MAX);
    let taken = listed.map(|violation| Violation {
        field: clip(&violation.field, MESSAGE_BYTES_MAX).to_owned().into(),
        description: clip(&violation.description, MESSAGE_BYTES_MAX).to_owned(),
    });
    taken.collect()
}

/// The error as one message of a stream.
pub fn call_error(error: ApiError) -> CallError {
    let status = Status::from(error);
    CallError {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: status.details().to_vec(),
    }
}

/// Reads one message's error of a stream back.
pub fn from_call_error(error: &CallError) -> ApiError {
    let code = match Code::from_i32(error.code) {
        // An error that calls itself OK is nobody's success.
        Code::Ok => Code::Internal,
        code => code,
    };
    let details = error.details.clone().into();
    ApiError::from(&Status::with_details(code, error.message.clone(), details))
}
