//! Why an attempt failed, and what that says about a write.

use std::error::Error;

use seen_proto::status::{ApiError, ErrorKind};
use tonic::{Code, ConnectError, Status};

/// What a call does to the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it may be repeated at any time.
    Read,
    /// It changes it: a second attempt while the first one may still run could undo what came in
    /// between (coherence row 38).
    Write,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) error: ApiError,
    /// True if the attempt is over: the service answered it, or it never got there. False if it may
    /// still be running.
    pub(crate) ended: bool,
}

impl Failure {
    /// Reads what a call ended with. A status with details is the service's own word. Without them
    /// it was made on the way, and says little about what became of a write. `url` is for people.
    pub(crate) fn of(status: &Status, effect: Effect, url: &str) -> Self {
        let said = ApiError::from(status);
        if !status.details().is_empty() {
            return Self { error: said, ended: true };
        }
        if let Some(reason) = unreached(status, url) {
            return Self { error: ApiError::new(ErrorKind::Unavailable, reason), ended: true };
        }
        let message = format!("{} on the way: {}", status.code(), chain(status));
        match (status.code(), effect) {
            // Refused before any handler ran, by the service or by something in front of it.
            (
                Code::InvalidArgument
                | Code::NotFound
                | Code::OutOfRange
                | Code::FailedPrecondition
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unimplemented,
                _,
            ) => Self { error: ApiError { message, ..said }, ended: true },
            (_, Effect::Write) => {
                Self { error: ApiError::new(ErrorKind::OutcomeUnknown, message), ended: false }
            }
            (Code::DeadlineExceeded | Code::Cancelled, Effect::Read) => {
                Self { error: ApiError::new(ErrorKind::DeadlineExceeded, message), ended: true }
            }
            (Code::ResourceExhausted, Effect::Read) => {
                Self { error: ApiError::new(ErrorKind::Overloaded, message), ended: true }
            }
            (_, Effect::Read) => {
                Self { error: ApiError::new(ErrorKind::Unavailable, message), ended: true }
            }
        }
    }

    /// The time of an attempt ran out here. Whether a write was done is not known.
    pub(crate) fn timed_out(effect: Effect, allowed_ms: u128) -> Self {
        match effect {
            Effect::Read => {
                let what = format!("no answer within {allowed_ms} ms; allow more, or ask again");
                Self { error: ApiError::new(ErrorKind::DeadlineExceeded, what), ended: true }
            }
            Effect::Write => {
                let what = format!(
                    "no answer within {allowed_ms} ms, so that it may be written or not; repeat it"
                );
                // Over, too: the service does not begin what is past its time (row 38).
                Self { error: ApiError::new(ErrorKind::OutcomeUnknown, what), ended: true }
            }
        }
    }
}

/// Why no connection could be had; `None` if there was one.
fn unreached(status: &Status, url: &str) -> Option<String> {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            let why = causes(error);
            return Some(format!("cannot connect to {url}: {why}; is the service running?"));
        }
        source = error.source();
    }
    None
}

/// The message with what it comes from.
fn chain(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), causes(source)),
        None => status.message().to_owned(),
    }
}

fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_own_word_is_taken() {
        for kind in ErrorKind::ALL {
            let status = Status::from(ApiError::new(kind, "why"));
            let failure = Failure::of(&status, Effect::Write, "");
            assert_eq!((failure.error.kind, failure.ended), (kind, true));
        }
    }

    #[test]
    fn a_bare_status_leaves_a_write_open_and_a_read_to_be_repeated() {
        for code in [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal] {
            let status = Status::new(code, "broken pipe");
            let write = Failure::of(&status, Effect::Write, "");
            assert_eq!((write.error.kind, write.ended), (ErrorKind::OutcomeUnknown, false));
            let read = Failure::of(&status, Effect::Read, "");
            assert!(read.error.kind.retry_helps() && read.ended, "{code}");
        }
        let large = Failure::of(&Status::out_of_range("too large"), Effect::Write, "");
        assert_eq!((large.error.kind, large.ended), (ErrorKind::TooLarge, true));
    }
}
