//! The table of error kinds, and errors on the way to a caller and back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use seen_filter::{StoreError, StoreErrorKind};
use seen_proto::status::{
    ApiError, Blame, ErrorKind, VIOLATIONS_MAX, Violation, call_error, from_call_error,
};
use seen_proto::token::{ClusterId, Token};
use tonic::{Code, Status};
use tonic_types::StatusExt;

#[test]
fn every_kind_comes_back_as_it_was_sent() {
    for kind in ErrorKind::ALL {
        let error = ApiError::new(kind, "what happened");
        let status = Status::from(error.clone());
        assert_eq!(status.code(), kind.code());
        assert_eq!(ApiError::from(&status), error, "{kind:?} as a status");
        assert_eq!(from_call_error(&call_error(error.clone())), error, "{kind:?} in a stream");
        let info = status.get_details_error_info().expect("always sent");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (kind.reason(), "seen"));
    }
}

#[test]
fn reasons_and_labels_are_distinct_and_match() {
    let labels: HashSet<_> = ErrorKind::ALL.into_iter().map(ErrorKind::label).collect();
    let reasons: HashSet<_> = ErrorKind::ALL.into_iter().map(ErrorKind::reason).collect();
    assert_eq!((labels.len(), reasons.len()), (ErrorKind::ALL.len(), ErrorKind::ALL.len()));
    for kind in ErrorKind::ALL {
        assert_eq!(kind.label().to_uppercase(), kind.reason());
        assert_eq!(ErrorKind::from_reason(kind.reason()), Some(kind));
        assert_ne!(kind.code(), Code::Ok);
        assert!(kind.blame() != Blame::Caller || !kind.retry_helps(), "{kind:?}");
    }
    assert_eq!(ErrorKind::from_reason("SOMETHING_NEW"), None);
}

#[test]
fn the_proto_file_names_every_reason() {
    let proto = include_str!("../../../proto/seen/v1/seen.proto");
    for kind in ErrorKind::ALL {
        assert!(proto.contains(kind.reason()), "{} is not documented", kind.reason());
    }
}

#[test]
fn a_wrong_field_is_named_in_the_details() {
    let status = Status::from(ApiError::invalid("items.kind", "256; kinds are 0 to 255"));
    let request = status.get_details_bad_request().expect("names the field");
    assert_eq!(request.field_violations.len(), 1);
    assert_eq!(request.field_violations[0].field, "items.kind");
    assert_eq!(status.message(), "items.kind: 256; kinds are 0 to 255");
    assert!(status.get_details_retry_info().is_none());
}

#[test]
fn a_retry_time_travels_where_a_retry_helps() {
    let error = ApiError::new(ErrorKind::Overloaded, "queue full")
        .retry_after(Duration::from_millis(1_250));
    let status = Status::from(error.clone());
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(delay, Some(Duration::from_millis(1_250)));
    assert_eq!(ApiError::from(&status), error);
}

#[test]
fn a_status_without_our_details_is_read_by_its_code() {
    for raw in 1..=16 {
        let status = Status::new(Code::from_i32(raw), "from a proxy");
        let error = ApiError::from(&status);
        assert_eq!(Some(error.kind), ErrorKind::from_code(status.code()));
        assert_eq!(error.message, "from a proxy");
    }
    let foreign =
        tonic_types::ErrorDetails::with_error_info("TOO_LARGE", "elsewhere", HashMap::new());
    let status = Status::with_error_details(Code::Unavailable, "not ours", foreign);
    assert_eq!(ApiError::from(&status).kind, ErrorKind::Unavailable);
    // A write that a peer gave up on may have happened.
    assert_eq!(ErrorKind::from_code(Code::Cancelled), Some(ErrorKind::OutcomeUnknown));
}

#[test]
fn hostile_details_are_cut_and_never_panic() {
    let mut error = ApiError::new(ErrorKind::InvalidArgument, "é".repeat(10_000));
    let violation = Violation { field: "f".into(), description: "é".repeat(10_000) };
    error.violations = vec![violation; 100];
    let back = ApiError::from(&Status::from(error));
    assert_eq!(back.message.len(), 1_024);
    assert_eq!(back.violations.len(), VIOLATIONS_MAX);
    assert!(back.violations.iter().all(|violation| violation.description.len() <= 1_024));
    for len in 0..64_u8 {
        let garbage: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(37)).collect();
        let error = seen_proto::v1::CallError { code: 0, message: String::new(), details: garbage };
        assert_eq!(from_call_error(&error).kind, ErrorKind::Internal);
    }
}

#[test]
fn storage_and_token_errors_have_a_kind() {
    let expected = [
        (StoreErrorKind::Unavailable, ErrorKind::Unavailable),
        (StoreErrorKind::Overloaded, ErrorKind::Overloaded),
        (StoreErrorKind::Expired, ErrorKind::DeadlineExceeded),
        (StoreErrorKind::OutcomeUnknown, ErrorKind::OutcomeUnknown),
        (StoreErrorKind::Full, ErrorKind::StorageFull),
        (StoreErrorKind::ReadOnly, ErrorKind::ReadOnly),
        (StoreErrorKind::Corrupt, ErrorKind::Corrupt),
        (StoreErrorKind::Schema, ErrorKind::Internal),
        (StoreErrorKind::NotKept, ErrorKind::NotKept),
        (StoreErrorKind::InvalidRequest, ErrorKind::InvalidArgument),
    ];
    for (store, api) in expected {
        let error = ApiError::from(StoreError::new(store, "disk"));
        assert_eq!((error.kind, error.message.as_str()), (api, "disk"));
        assert_eq!(store.retry_helps(), api.retry_helps(), "{store:?}");
    }
    let cluster = ClusterId::new(1);
    let kinds = [
        (vec![1, 2], ErrorKind::TokenGarbage),
        (vec![7; 40], ErrorKind::TokenVersion),
        (vec![1; 2_000], ErrorKind::InvalidArgument),
    ];
    for (raw, kind) in kinds {
        let error = ApiError::from(Token::decode(&raw, cluster).expect_err("no token"));
        assert_eq!(error.kind, kind);
        assert_eq!(error.violations[0].field, "token");
    }
    let unknown = ApiError::unknown_namespace(&"é".repeat(100));
    assert_eq!(unknown.kind, ErrorKind::UnknownNamespace);
    assert!(unknown.message.len() < 200);
}
