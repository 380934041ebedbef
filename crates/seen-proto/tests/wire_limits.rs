//! The defined answer of the walkers to every odd request, one by one.

use prost::Message;
use prost::encoding::encode_varint;
use seen_proto::limits::{
    CANDIDATES_MAX, GROUPS_MAX, MARK_ITEMS_MAX, MARKED_AT_MS_MAX, NAMESPACES_MAX, TIMEOUT_MS_MAX,
    TOKEN_BYTES_MAX,
};
use seen_proto::model::OnUnknown;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1;
use seen_proto::wire::{FilterCall, MarkCall, StreamCall, WireError};

fn filter() -> v1::FilterRequest {
    v1::FilterRequest { namespaces: vec!["feed".to_owned()], ..Default::default() }
}

fn mark() -> v1::MarkRequest {
    v1::MarkRequest { namespace: "feed".to_owned(), ..Default::default() }
}

fn group(kind: u32, ids: impl IntoIterator<Item = u64>) -> v1::ItemGroup {
    v1::ItemGroup { kind, ids: ids.into_iter().collect() }
}

/// The field that a Filter is refused for.
fn refused(request: v1::FilterRequest) -> String {
    field(FilterCall::parse(&request.encode_to_vec()).map(drop))
}

fn refused_mark(request: v1::MarkRequest) -> String {
    field(MarkCall::parse(&request.encode_to_vec()).map(drop))
}

fn field(outcome: Result<(), WireError>) -> String {
    let error = ApiError::from(outcome.expect_err("must be refused"));
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    error.violations.first().map_or_else(|| error.message, |wrong| wrong.field.to_string())
}

/// A filter's bytes with more fields behind.
fn filter_and(more: &[u8]) -> Vec<u8> {
    [filter().encode_to_vec().as_slice(), more].concat()
}

#[test]
fn all_ids_and_users_are_valid_and_repeats_are_kept() {
    let ids = [0, u64::MAX, 7, 7, 0];
    let raw = v1::FilterRequest {
        user: u64::MAX,
        candidates: vec![group(255, ids), group(0, []), group(255, [7])],
        ..filter()
    }
    .encode_to_vec();
    let call = FilterCall::parse(&raw).expect("valid");
    let walked: Vec<_> = call.segments().flat_map(|run| run.ids.iter()).collect();
    assert_eq!(walked, [0, u64::MAX, 7, 7, 0, 7]);
    assert_eq!((call.user.get(), call.candidates, call.segments().count()), (u64::MAX, 6, 2));
}

#[test]
fn absence_has_a_meaning() {
    let raw = filter().encode_to_vec();
    let call = FilterCall::parse(&raw).expect("no candidates is an empty answer");
    assert_eq!((call.user.get(), call.candidates, call.token), (0, 0, [].as_slice()));
    assert_eq!((call.on_unknown, call.confirm), (OnUnknown::Show, false));
    assert_eq!(call.segments().count(), 0);
    let raw = mark().encode_to_vec();
    assert_eq!(MarkCall::parse(&raw).expect("nothing to mark").items().count(), 0);
    assert_eq!(field(FilterCall::parse(&[]).map(drop)), "namespaces");
    assert_eq!(field(MarkCall::parse(&[]).map(drop)), "namespace");
}

#[test]
fn sizes_are_refused_one_above_the_limit() {
    let sized = |ids: usize| v1::FilterRequest {
        candidates: vec![group(1, 0..500), group(2, 0..ids as u64 - 500)],
        ..filter()
    };
    assert!(FilterCall::parse(&sized(CANDIDATES_MAX).encode_to_vec()).is_ok());
    assert_eq!(refused(sized(CANDIDATES_MAX + 1)), "candidates");
    let groups = v1::FilterRequest { candidates: vec![group(1, []); GROUPS_MAX + 1], ..filter() };
    assert_eq!(refused(groups), "candidates");

    let named = |names| v1::FilterRequest { namespaces: vec!["a".to_owned(); names], ..filter() };
    assert!(FilterCall::parse(&named(NAMESPACES_MAX).encode_to_vec()).is_ok());
    assert_eq!(refused(named(NAMESPACES_MAX + 1)), "namespaces");
    for name in [String::new(), "n".repeat(49)] {
        assert_eq!(refused(v1::FilterRequest { namespaces: vec![name], ..filter() }), "namespaces");
    }

    let carrying = |bytes| v1::FilterRequest { token: vec![1; bytes], ..filter() };
    assert!(FilterCall::parse(&carrying(TOKEN_BYTES_MAX).encode_to_vec()).is_ok());
    assert_eq!(refused(carrying(TOKEN_BYTES_MAX + 1)), "token");

    let kinds = v1::FilterRequest { candidates: vec![group(256, [])], ..filter() };
    assert_eq!(refused(kinds), "candidates.kind");
    for on_unknown in [3, -1, 257, i32::MIN] {
        assert_eq!(refused(v1::FilterRequest { on_unknown, ..filter() }), "on_unknown");
    }
}

#[test]
fn marks_are_refused_one_above_the_limit() {
    let item = |kind, at| v1::MarkItem { kind, id: u64::MAX, marked_at_ms: at };
    let sized = |items| v1::MarkRequest { items: vec![item(255, Some(0)); items], ..mark() };
    assert!(MarkCall::parse(&sized(MARK_ITEMS_MAX).encode_to_vec()).is_ok());
    assert_eq!(refused_mark(sized(MARK_ITEMS_MAX + 1)), "items");

    let one = |item| v1::MarkRequest { items: vec![item], ..mark() };
    let last = one(item(0, Some(MARKED_AT_MS_MAX))).encode_to_vec();
    let call = MarkCall::parse(&last).expect("the last millisecond");
    let (_, at) = call.items().next().expect("one item");
    assert_eq!(at.map(|at| at.get()), Some(MARKED_AT_MS_MAX));
    assert_eq!(refused_mark(one(item(0, Some(MARKED_AT_MS_MAX + 1)))), "items.marked_at_ms");
    assert_eq!(refused_mark(one(item(256, None))), "items.kind");
    assert_eq!(refused_mark(v1::MarkRequest { token: vec![0; 1_025], ..mark() }), "token");
    assert_eq!(refused_mark(v1::MarkRequest { namespace: "n".repeat(49), ..mark() }), "namespace");
}

#[test]
fn singular_fields_are_refused_the_second_time() {
    let user = [&[0x09][..], &[1; 8]].concat();
    let filters = [
        ([user.clone(), user.clone()].concat(), "user"),
        (vec![0x22, 0, 0x22, 0], "token"),
        (vec![0x28, 1, 0x28, 1], "on_unknown"),
        (vec![0x30, 1, 0x30, 1], "confirm"),
        (vec![0x1a, 4, 0x08, 1, 0x08, 1], "candidates.kind"),
    ];
    for (more, name) in filters {
        let raw = filter_and(&more);
        assert!(v1::FilterRequest::decode(&*raw).is_ok(), "prost takes the last {name}");
        assert_eq!(FilterCall::parse(&raw).map(drop), Err(WireError::Repeated(name)));
        assert_eq!(field(FilterCall::parse(&raw).map(drop)), name);
    }
    let id = [&[0x11][..], &[1; 8]].concat();
    let twice = |inner: &[u8]| [&[0x1a, 2 * inner.len() as u8][..], inner, inner].concat();
    let marks = [
        ([user.clone(), user].concat(), "user"),
        (vec![0x12, 1, b'a'], "namespace"),
        (vec![0x22, 0, 0x22, 0], "token"),
        (twice(&[0x08, 1]), "items.kind"),
        (twice(&id), "items.id"),
        (twice(&[0x18, 1]), "items.marked_at_ms"),
    ];
    for (more, name) in marks {
        let raw = [mark().encode_to_vec(), more].concat();
        assert!(v1::MarkRequest::decode(&*raw).is_ok(), "prost takes the last {name}");
        assert_eq!(MarkCall::parse(&raw).map(drop), Err(WireError::Repeated(name)));
    }
    for more in [vec![0x09; 18], vec![0x12, 0, 0x12, 0], vec![0x18, 1, 0x18, 1]] {
        let parsed = StreamCall::parse(&more).map(drop);
        assert!(matches!(parsed, Err(WireError::Repeated(_))), "{more:02x?}");
    }
}

#[test]
fn numbers_end_within_64_bits() {
    let confirm = |last: u8| {
        let mut more = vec![0x30];
        more.extend([0x80; 9]);
        more.push(last);
        filter_and(&more)
    };
    for last in 0..=0x80 {
        let raw = confirm(last);
        assert_eq!(FilterCall::parse(&raw).is_ok(), last < 2, "{last:#x}");
        assert_eq!(v1::FilterRequest::decode(&*raw).is_ok(), last < 2, "{last:#x}");
    }
}

#[test]
fn a_kind_may_follow_its_ids() {
    let ids = [&[0x11][..], &[9; 8], &[0x12, 16], &[8; 16], &[0x08, 3]].concat();
    let mut more = vec![0x1a];
    encode_varint(ids.len() as u64, &mut more);
    more.extend(ids);
    let raw = filter_and(&more);
    let call = FilterCall::parse(&raw).expect("valid");
    let runs: Vec<_> = call.segments().map(|run| (run.kind.get(), run.ids.len())).collect();
    assert_eq!(runs, [(3, 1), (3, 2)]);
}

#[test]
fn a_stream_message_is_answered_under_its_id() {
    let message =
        |timeout_ms, filter| v1::FilterStreamRequest { request_id: 5, filter, timeout_ms };
    let wrong = v1::FilterRequest::default();
    for (message, name) in [
        (message(TIMEOUT_MS_MAX + 1, Some(filter())), "timeout_ms"),
        (message(0, None), "filter"),
        (message(0, Some(wrong)), "namespaces"),
    ] {
        let raw = message.encode_to_vec();
        let call = StreamCall::parse(&raw).expect("the envelope can be read");
        assert_eq!(call.request_id, 5);
        let parts = call.timeout_ms().and_then(|_| call.filter()).map(drop);
        assert_eq!(field(parts), name);
    }
    let raw =
        v1::MarkStreamRequest { mark: Some(mark()), timeout_ms: 60_000, request_id: u64::MAX };
    let raw = raw.encode_to_vec();
    let call = StreamCall::parse(&raw).expect("valid");
    assert_eq!((call.request_id, call.timeout_ms()), (u64::MAX, Ok(60_000)));
    assert_eq!(call.mark().expect("valid").namespace, "feed");
}
