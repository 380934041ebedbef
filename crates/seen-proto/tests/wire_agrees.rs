//! The walkers read every message as prost does, and refuse exactly what prost or the limits refuse,
//! and a singular field that is sent twice.

mod raw;

use proptest::prelude::*;
use prost::Message;
use raw::{Sends, filter_bytes, mark_bytes, mutated};
use seen_proto::limits::{
    CANDIDATES_MAX, GROUPS_MAX, KIND_MAX, MARK_ITEMS_MAX, MARKED_AT_MS_MAX, NAMESPACES_MAX,
    TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX, TOKEN_BYTES_MAX,
};
use seen_proto::model::OnUnknown;
use seen_proto::v1;
use seen_proto::wire::{FilterCall, MarkCall, StreamCall};

const NAME_BYTES_MAX: usize = seen_filter::settings::NAME_BYTES_MAX;

fn valid_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// What the limits say about a message that prost has read.
fn valid_filter(request: &v1::FilterRequest) -> bool {
    let ids: usize = request.candidates.iter().map(|group| group.ids.len()).sum();
    (1..=NAMESPACES_MAX).contains(&request.namespaces.len())
        && request.namespaces.iter().all(|name| valid_name(name))
        && request.candidates.len() <= GROUPS_MAX
        && ids <= CANDIDATES_MAX
        && request.candidates.iter().all(|group| group.kind <= KIND_MAX)
        && request.token.len() <= TOKEN_BYTES_MAX
        && (0..=2).contains(&request.on_unknown)
}

fn valid_mark(request: &v1::MarkRequest) -> bool {
    valid_name(&request.namespace)
        && request.items.len() <= MARK_ITEMS_MAX
        && request.items.iter().all(|item| {
            item.kind <= KIND_MAX && item.marked_at_ms.is_none_or(|ms| ms <= MARKED_AT_MS_MAX)
        })
        && request.token.len() <= TOKEN_BYTES_MAX
}

fn assert_same_filter(call: &FilterCall<'_>, request: &v1::FilterRequest) {
    assert_eq!(call.user.get(), request.user);
    assert_eq!(call.namespaces.as_slice(), request.namespaces);
    assert_eq!(call.token, request.token);
    assert_eq!(call.confirm, request.confirm);
    assert_eq!(call.on_unknown == OnUnknown::Hide, request.on_unknown == 2);
    let groups = request.candidates.iter();
    let expected: Vec<(u32, u64)> =
        groups.flat_map(|group| group.ids.iter().map(|id| (group.kind, *id))).collect();
    let walked: Vec<(u32, u64)> = call
        .segments()
        .flat_map(|run| run.ids.iter().map(move |id| (run.kind.get().into(), id)))
        .collect();
    assert_eq!(walked, expected);
    assert_eq!(call.candidates, expected.len());
    assert!(call.segments().all(|run| !run.ids.is_empty()));
}

fn assert_same_mark(call: &MarkCall<'_>, request: &v1::MarkRequest) {
    assert_eq!(call.user.get(), request.user);
    assert_eq!(call.namespace, request.namespace);
    assert_eq!(call.token, request.token);
    assert_eq!(call.items().len(), request.items.len());
    let walked: Vec<v1::MarkItem> = call
        .items()
        .map(|(item, at)| v1::MarkItem {
            kind: item.kind.get().into(),
            id: item.id.get(),
            marked_at_ms: at.map(|at| at.get()),
        })
        .collect();
    assert_eq!(walked, request.items);
}

fn check_filter(raw: &[u8]) {
    let decoded = v1::FilterRequest::decode(raw).ok().filter(valid_filter);
    let once = Sends::once(raw, &[1, 4, 5, 6], &[(3, &[1])]);
    match (FilterCall::parse(raw), decoded.filter(|_| once)) {
        (Ok(call), Some(request)) => assert_same_filter(&call, &request),
        (Err(_), None) => {}
        (walked, decoded) => panic!("walker: {walked:?}\nprost: {decoded:?}\n{raw:02x?}"),
    }
}

fn check_mark(raw: &[u8]) {
    let decoded = v1::MarkRequest::decode(raw).ok().filter(valid_mark);
    let once = Sends::once(raw, &[1, 2, 4], &[(3, &[1, 2, 3])]);
    match (MarkCall::parse(raw), decoded.filter(|_| once)) {
        (Ok(call), Some(request)) => assert_same_mark(&call, &request),
        (Err(_), None) => {}
        (walked, decoded) => panic!("walker: {walked:?}\nprost: {decoded:?}\n{raw:02x?}"),
    }
}

fn check_stream(raw: &[u8]) {
    let decoded = v1::FilterStreamRequest::decode(raw).ok();
    let valid = decoded.as_ref().and_then(|message| message.filter.as_ref()).filter(|filter| {
        let timeout_ms = decoded.as_ref().map_or(0, |message| message.timeout_ms);
        valid_filter(filter) && timeout_ms <= TIMEOUT_MS_MAX
    });
    let payload = Sends::payload(raw, 2);
    let once = Sends::once(raw, &[1, 2, 3], &[])
        && payload.is_none_or(|inner| Sends::once(inner, &[1, 4, 5, 6], &[(3, &[1])]));
    let walked = StreamCall::parse(raw)
        .and_then(|call| Ok((call.request_id, call.timeout_ms()?, call.filter()?)));
    match (walked, valid.filter(|_| once)) {
        (Ok((request_id, timeout_ms, filter)), Some(request)) => {
            let message = decoded.as_ref().expect("valid");
            assert_eq!(request_id, message.request_id);
            let sent = Some(message.timeout_ms).filter(|ms| *ms != 0);
            assert_eq!(timeout_ms, sent.unwrap_or(TIMEOUT_MS_DEFAULT));
            assert_same_filter(&filter, request);
        }
        (Err(_), None) => {}
        (walked, valid) => panic!("walker: {walked:?}\nprost: {valid:?}\n{raw:02x?}"),
    }
}

fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases * 8, ..default }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn filters(raw in filter_bytes()) {
        check_filter(&raw);
    }

    #[test]
    fn damaged_filters(raw in mutated(filter_bytes())) {
        check_filter(&raw);
    }

    #[test]
    fn marks(raw in mark_bytes()) {
        check_mark(&raw);
    }

    #[test]
    fn damaged_marks(raw in mutated(mark_bytes())) {
        check_mark(&raw);
    }

    #[test]
    fn any_bytes(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_filter(&raw);
        check_mark(&raw);
        check_stream(&raw);
    }

    #[test]
    fn streams(raw in raw::stream_bytes()) {
        check_stream(&raw);
    }

    #[test]
    fn damaged_streams(raw in mutated(raw::stream_bytes())) {
        check_stream(&raw);
    }
}

/// `depth` groups inside each other, with a field in the innermost.
fn nested(depth: usize) -> Vec<u8> {
    let mut raw = vec![0x7b; depth];
    raw.extend([0x78, 0x01]);
    raw.extend(vec![0x7c; depth]);
    raw
}

#[test]
fn unknown_groups_nest_as_deep_as_prost_lets_them() {
    for depth in 95..105 {
        let mut top = vec![0x12, 1, b'n'];
        top.extend(nested(depth));
        check_filter(&top);
        check_mark(&top);

        let group = nested(depth);
        let mut inside = vec![0x12, 1, b'n', 0x1a];
        prost::encoding::encode_varint(group.len() as u64, &mut inside);
        inside.extend(&group);
        check_filter(&inside);
        check_mark(&inside);

        for filter in [top, inside] {
            let mut stream = vec![0x12];
            prost::encoding::encode_varint(filter.len() as u64, &mut stream);
            stream.extend(&filter);
            check_stream(&stream);
        }
    }
    assert!(FilterCall::parse(&[&[0x12, 1, b'n'], nested(99).as_slice()].concat()).is_ok());
    assert!(FilterCall::parse(&[&[0x12, 1, b'n'], nested(100).as_slice()].concat()).is_err());
}
