//! The kinds of failure and what each of them means to caller, operator and proxy.

use std::time::Duration;

use seen_filter::StoreErrorKind;
use tonic::Code;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request is wrong; the caller must change it.
    Caller,
    /// This process.
    Service,
    /// What this process depends on: storage, or the time and load it was given.
    Dependency,
}

/// Why a call failed, as far as anybody may act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A field is wrong; the violations say which.
    InvalidArgument,
    /// No such namespace is configured.
    UnknownNamespace,
    /// The session token is damaged, or never was one.
    TokenGarbage,
    /// The session token is of a format that this program does not know.
    TokenVersion,
    /// The session token is another cluster's.
    TokenOfAnotherCluster,
    /// The page token is damaged, or belongs to another listing.
    PageTokenGarbage,
    /// The message is larger than [`crate::limits::MESSAGE_BYTES_MAX`].
    TooLarge,
    /// The namespace does not keep what was asked for.
    NotKept,
    /// Storage takes no writes; reads go on.
    ReadOnly,
    /// Storage has no space left; reads go on.
    StorageFull,
    /// Storage cannot be reached. Certainly nothing was written.
    Unavailable,
    /// This process is ending; another one may answer. Certainly nothing was written.
    Draining,
    /// A bounded queue is full. Certainly nothing was written.
    Overloaded,
    /// The time that the caller allowed ran out. Certainly nothing was written.
    DeadlineExceeded,
    /// A commit was sent and its outcome is not known (coherence row 11); repeating a mark is safe.
    OutcomeUnknown,
    /// Stored data failed a check of its own.
    Corrupt,
    /// A fault of this program.
    Internal,
}

/// One row of the table: gRPC code, reason in ErrorInfo, metric label, blame, retry.
struct Row {
    code: Code,
    reason: &'static str,
    label: &'static str,
    blame: Blame,
    retry_ms: Option<u64>,
}

const fn row(
    code: Code,
    reason: &'static str,
    label: &'static str,
    blame: Blame,
    retry_ms: Option<u64>,
) -> Row {
    Row { code, reason, label, blame, retry_ms }
}

impl ErrorKind {
    /// Every kind, so that metrics and tests can list them.
    pub const ALL: [ErrorKind; 17] = [
        Self::InvalidArgument,
        Self::UnknownNamespace,
        Self::TokenGarbage,
        Self::TokenVersion,
        Self::TokenOfAnotherCluster,
        Self::PageTokenGarbage,
        Self::TooLarge,
        Self::NotKept,
        Self::ReadOnly,
        Self::StorageFull,
        Self::Unavailable,
        Self::Draining,
        Self::Overloaded,
        Self::DeadlineExceeded,
        Self::OutcomeUnknown,
        Self::Corrupt,
        Self::Internal,
    ];

    /// The table. TooLarge is OUT_OF_RANGE because that is what tonic's own decoder answers before
    /// any handler runs; the same cause must not have two codes.
    #[rustfmt::skip]
    const fn row(self) -> Row {
        use Blame::{Caller, Dependency, Service};
        match self {
            Self::InvalidArgument => row(Code::InvalidArgument, "INVALID_ARGUMENT", "invalid_argument", Caller, None),
            Self::UnknownNamespace => row(Code::NotFound, "UNKNOWN_NAMESPACE", "unknown_namespace", Caller, None),
            Self::TokenGarbage => row(Code::InvalidArgument, "TOKEN_GARBAGE", "token_garbage", Caller, None),
            Self::TokenVersion => row(Code::InvalidArgument, "TOKEN_VERSION", "token_version", Caller, None),
            Self::TokenOfAnotherCluster => row(Code::InvalidArgument, "TOKEN_OTHER_CLUSTER", "token_other_cluster", Caller, None),
            Self::PageTokenGarbage => row(Code::InvalidArgument, "PAGE_TOKEN_GARBAGE", "page_token_garbage", Caller, None),
            Self::TooLarge => row(Code::OutOfRange, "TOO_LARGE", "too_large", Caller, None),
            Self::NotKept => row(Code::FailedPrecondition, "NOT_KEPT", "not_kept", Caller, None),
            Self::ReadOnly => row(Code::FailedPrecondition, "READ_ONLY", "read_only", Dependency, None),
            Self::StorageFull => row(Code::ResourceExhausted, "STORAGE_FULL", "storage_full", Dependency, Some(10_000)),
            Self::Unavailable => row(Code::Unavailable, "UNAVAILABLE", "unavailable", Dependency, Some(200)),
            Self::Draining => row(Code::Unavailable, "DRAINING", "draining", Service, Some(0)),
            Self::Overloaded => row(Code::ResourceExhausted, "OVERLOADED", "overloaded", Service, Some(100)),
            Self::DeadlineExceeded => row(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline_exceeded", Dependency, Some(0)),
            Self::OutcomeUnknown => row(Code::Unknown, "OUTCOME_UNKNOWN", "outcome_unknown", Dependency, Some(0)),
            Self::Corrupt => row(Code::DataLoss, "CORRUPT", "corrupt", Dependency, None),
            Self::Internal => row(Code::Internal, "INTERNAL", "internal", Service, None),
        }
    }

    /// The gRPC code that a call ends with.
    pub const fn code(self) -> Code {
        self.row().code
    }

    /// The stable name in google.rpc.ErrorInfo; callers may branch on it.
    pub const fn reason(self) -> &'static str {
        self.row().reason
    }

    /// The kind with this [`reason`](Self::reason).
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.reason() == reason)
    }

    /// The kind that a bare code most likely means: what a proxy or another server on the way
    /// answers, without details. `None` for OK.
    pub const fn from_code(code: Code) -> Option<Self> {
        Some(match code {
            Code::Ok => return None,
            Code::InvalidArgument => Self::InvalidArgument,
            Code::NotFound => Self::UnknownNamespace,
            Code::OutOfRange => Self::TooLarge,
            Code::FailedPrecondition => Self::NotKept,
            Code::Unavailable => Self::Unavailable,
            Code::ResourceExhausted => Self::Overloaded,
            // Sent by a peer that gave up in the middle, so that a write may have happened.
            Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Aborted => {
                Self::OutcomeUnknown
            }
            Code::DataLoss => Self::Corrupt,
            Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::Internal => Self::Internal,
        })
    }

    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// Whose fault it is.
    pub const fn blame(self) -> Blame {
        self.row().blame
    }

    /// True if the same call may succeed later or elsewhere.
    pub const fn retry_helps(self) -> bool {
        self.row().retry_ms.is_some()
    }

    /// How long to wait before the same call is worth repeating; 0 = at once. `None` where it never
    /// is.
    pub fn retry_after(self) -> Option<Duration> {
        self.row().retry_ms.map(Duration::from_millis)
    }
}

impl From<StoreErrorKind> for ErrorKind {
    fn from(kind: StoreErrorKind) -> Self {
        match kind {
            StoreErrorKind::Unavailable => Self::Unavailable,
            StoreErrorKind::Overloaded => Self::Overloaded,
            StoreErrorKind::Expired => Self::DeadlineExceeded,
            StoreErrorKind::OutcomeUnknown => Self::OutcomeUnknown,
            StoreErrorKind::Full => Self::StorageFull,
            StoreErrorKind::ReadOnly => Self::ReadOnly,
            StoreErrorKind::Corrupt => Self::Corrupt,
            StoreErrorKind::NotKept => Self::NotKept,
            // What the door lets through and a table does not hold: ids too large for its columns.
            StoreErrorKind::InvalidRequest => Self::InvalidArgument,
            // A schema that does not fit is found at start-up, not by a caller.
            StoreErrorKind::Schema => Self::Internal,
        }
    }
}
