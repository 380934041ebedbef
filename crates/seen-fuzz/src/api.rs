//! The calls of the API: the walkers over raw bytes against prost, and the models.

use bytes::Bytes;
use seen_proto::limits::{
    CANDIDATES_MAX, GROUPS_MAX, KIND_MAX, MARK_ITEMS_MAX, MARKED_AT_MS_MAX, NAMESPACES_MAX,
    TIMEOUT_MS_MAX, TOKEN_BYTES_MAX,
};
use seen_proto::message::{decode, encode};
use seen_proto::model::{
    DrainCall, EvictCall, ExplainCall, ForgetCall, HistoryCall, OnUnknown, PushCall, RebuildCall,
    UnmarkCall,
};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1;
use seen_proto::wire::{
    FilterCall, MarkCall, PushHead, RouteCall, RouteShape, StreamCall, WireError, degraded_reason,
};

use crate::{Target, take};

/// An empty message in a list takes two bytes of the wire and this much of memory, at most, in a list that has just doubled.
const PER_BYTE: usize = 256;

pub(crate) const FILTER: Target = Target {
    name: "filter",
    run: filter,
    seeds: filters,
    memory_bytes: 65_536,
    memory_per_byte: PER_BYTE,
};

pub(crate) const MARK: Target = Target {
    name: "mark",
    run: mark,
    seeds: marks,
    memory_bytes: 65_536,
    memory_per_byte: PER_BYTE,
};

pub(crate) const STREAM: Target = Target {
    name: "stream",
    run: stream,
    seeds: streams,
    memory_bytes: 65_536,
    memory_per_byte: PER_BYTE,
};

pub(crate) const OTHER_CALLS: Target = Target {
    name: "other_calls",
    run: other_calls,
    seeds: others,
    memory_bytes: 65_536,
    memory_per_byte: PER_BYTE,
};

fn is_name(name: &str) -> bool {
    (1..=seen_filter::settings::NAME_BYTES_MAX).contains(&name.len())
}

fn filter_fits(request: &v1::FilterRequest) -> bool {
    let ids: usize = request.candidates.iter().map(|group| group.ids.len()).sum();
    (1..=NAMESPACES_MAX).contains(&request.namespaces.len())
        && request.namespaces.iter().all(|name| is_name(name))
        && request.candidates.len() <= GROUPS_MAX
        && ids <= CANDIDATES_MAX
        && request.candidates.iter().all(|group| group.kind <= KIND_MAX)
        && request.token.len() <= TOKEN_BYTES_MAX
        && (0..=2).contains(&request.on_unknown)
}

fn mark_fits(request: &v1::MarkRequest) -> bool {
    is_name(&request.namespace)
        && request.items.len() <= MARK_ITEMS_MAX
        && request.items.iter().all(|item| {
            item.kind <= KIND_MAX && item.marked_at_ms.is_none_or(|ms| ms <= MARKED_AT_MS_MAX)
        })
        && request.token.len() <= TOKEN_BYTES_MAX
}

fn same_filter(call: &FilterCall<'_>, request: &v1::FilterRequest) {
    assert_eq!(call.user.get(), request.user);
    assert_eq!(call.namespaces.as_slice(), request.namespaces);
    assert_eq!(call.token, request.token);
    assert_eq!(call.confirm, request.confirm);
    assert_eq!(call.on_unknown == OnUnknown::Hide, request.on_unknown == 2);
    let groups = request.candidates.iter();
    let asked = groups.flat_map(|group| group.ids.iter().map(|id| (group.kind, *id)));
    let walked = call
        .segments()
        .flat_map(|run| run.ids.iter().map(move |id| (u32::from(run.kind.get()), id)));
    assert!(walked.eq(asked), "the candidates differ");
}

fn same_mark(call: &MarkCall<'_>, request: &v1::MarkRequest) {
    assert_eq!(call.user.get(), request.user);
    assert_eq!(call.namespace, request.namespace);
    assert_eq!(call.token, request.token);
    assert_eq!(call.items().len(), request.items.len());
    let walked = call.items().map(|(item, at)| v1::MarkItem {
        kind: item.kind.get().into(),
        id: item.id.get(),
        marked_at_ms: at.map(|at| at.get()),
    });
    assert!(walked.eq(request.items.iter().copied()), "the items differ");
}

/// A refusal is prost's too, or one of a limit, which is named, or of a field that was sent twice.
fn refusal_is_right<M: std::fmt::Debug>(error: &WireError, decoded: &Result<M, ApiError>) {
    match error {
        WireError::Malformed(what) => {
            assert!(decoded.is_err(), "{what} is refused, and prost reads {decoded:?}");
        }
        WireError::Repeated(field) => assert!(!field.is_empty()),
        WireError::Invalid { field, description } => {
            assert!(!field.is_empty() && !description.is_empty());
        }
    }
    is_told(&ApiError::from(error.clone()));
}

/// Who is told so can do something about it.
fn is_told(error: &ApiError) {
    assert!(!error.message.is_empty());
    if error.kind == ErrorKind::InvalidArgument && !error.message.contains("cannot be read") {
        let named = |one: &seen_proto::status::Violation| error.message.contains(&*one.field);
        assert!(!error.violations.is_empty() && error.violations.iter().all(named), "{error:?}");
    }
}

/// A proxy sends the request to the one who answers for this user.
fn same_way(shape: RouteShape, raw: &[u8], user: u64, namespace: &str, has_token: bool) {
    let route = RouteCall::parse(shape, raw).expect("what is answered can be sent on");
    assert_eq!((route.user.get(), route.namespace, route.has_token), (user, namespace, has_token));
}

fn filter(raw: &[u8]) {
    let decoded = decode::<v1::FilterRequest>(Bytes::copy_from_slice(raw));
    match (FilterCall::parse(raw), &decoded) {
        (Ok(call), Ok(request)) => {
            assert!(filter_fits(request), "beyond the limits: {request:?}");
            same_filter(&call, request);
            let first = request.namespaces.first().map_or("", String::as_str);
            same_way(RouteShape::Filter, raw, request.user, first, !request.token.is_empty());
        }
        (Ok(call), Err(error)) => panic!("{call:?}, which prost refuses: {error}"),
        (Err(error), decoded) => refusal_is_right(&error, decoded),
    }
    if let Ok(request) = decoded {
        // As prost writes it, nothing is sent twice: the limits alone decide.
        let written = encode(&request);
        match FilterCall::parse(&written) {
            Ok(call) => same_filter(&call, &request),
            Err(error) => assert!(!filter_fits(&request), "{error}: {request:?}"),
        }
    }
    let _ = degraded_reason(raw);
}

fn mark(raw: &[u8]) {
    let decoded = decode::<v1::MarkRequest>(Bytes::copy_from_slice(raw));
    match (MarkCall::parse(raw), &decoded) {
        (Ok(call), Ok(request)) => {
            assert!(mark_fits(request), "beyond the limits: {request:?}");
            same_mark(&call, request);
            let (user, has_token) = (request.user, !request.token.is_empty());
            same_way(RouteShape::Mark, raw, user, &request.namespace, has_token);
        }
        (Ok(call), Err(error)) => panic!("{call:?}, which prost refuses: {error}"),
        (Err(error), decoded) => refusal_is_right(&error, decoded),
    }
    if let Ok(request) = decoded {
        let written = encode(&request);
        match MarkCall::parse(&written) {
            Ok(call) => same_mark(&call, &request),
            Err(error) => assert!(!mark_fits(&request), "{error}: {request:?}"),
        }
    }
}

fn stream(raw: &[u8]) {
    let decoded = decode::<v1::FilterStreamRequest>(Bytes::copy_from_slice(raw));
    let walked = StreamCall::parse(raw);
    let parts = walked
        .as_ref()
        .map_err(WireError::clone)
        .and_then(|call| Ok((call.request_id, call.timeout_ms()?, call.filter()?)));
    match (parts, &decoded) {
        (Ok((request_id, timeout_ms, call)), Ok(message)) => {
            assert_eq!(request_id, message.request_id);
            assert!((1..=TIMEOUT_MS_MAX).contains(&timeout_ms));
            same_filter(&call, message.filter.as_ref().expect("it was walked"));
        }
        (Ok(_), Err(error)) => panic!("walked, and prost refuses: {error}"),
        (Err(error), decoded) => refusal_is_right(&error, decoded),
    }
    if let (Ok(call), Ok(message)) =
        (walked, decode::<v1::MarkStreamRequest>(Bytes::copy_from_slice(raw)))
        && let (Ok(call), Some(request)) = (call.mark(), message.mark)
    {
        same_mark(&call, &request);
    }
    let pushed = decode::<v1::FilterUsersRequest>(Bytes::copy_from_slice(raw));
    if let Ok(request) = pushed {
        let head = PushHead::parse(raw).expect("prost reads it");
        assert_eq!(head.request_id, request.request_id);
        assert!((1..=TIMEOUT_MS_MAX).contains(&head.timeout_ms()));
    }
}

/// How a message is read, and how it is written.
type Codec<M> = (fn(Bytes) -> Result<M, ApiError>, fn(&M) -> Bytes);

/// A message and its validated form; and that the proxy, if it can read whom it is about, reads what all others read.
fn call<M: Clone, C: TryFrom<M, Error = ApiError>>(
    raw: &[u8],
    shape: Option<RouteShape>,
    (read, write): Codec<M>,
) -> Option<(M, C)> {
    let decoded = read(Bytes::copy_from_slice(raw));
    if let Some(shape) = shape {
        match (RouteCall::parse(shape, raw), &decoded) {
            (Ok(_), _) | (Err(WireError::Repeated(_)), Ok(_)) | (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => panic!("{error}: only for what is sent twice"),
        }
    }
    let message = decoded.inspect_err(is_told).ok()?;
    let again = read(write(&message)).expect("what prost wrote");
    assert!(write(&again) == write(&message));
    let call = C::try_from(message.clone()).inspect_err(is_told).ok()?;
    Some((message, call))
}

fn other_calls(mut data: &[u8]) {
    let [which] = take(&mut data);
    match which % 8 {
        0 => drop(call::<v1::UnmarkRequest, UnmarkCall>(
            data,
            Some(RouteShape::Unmark),
            (decode, encode),
        )),
        1 => drop(call::<v1::ForgetRequest, ForgetCall>(
            data,
            Some(RouteShape::Forget),
            (decode, encode),
        )),
        2 => drop(call::<v1::ExplainRequest, ExplainCall>(
            data,
            Some(RouteShape::Explain),
            (decode, encode),
        )),
        3 => history(data),
        4 => drop(call::<v1::FilterUsersRequest, PushCall>(data, None, (decode, encode))),
        5 => drop(call::<v1::EvictUserRequest, EvictCall>(data, None, (decode, encode))),
        6 => drop(call::<v1::RebuildUserRequest, RebuildCall>(data, None, (decode, encode))),
        _ => drop(call::<v1::DrainRequest, DrainCall>(data, None, (decode, encode))),
    }
}

/// A page's token leads to the page behind it, and fits no other listing.
fn history(raw: &[u8]) {
    let Some((request, call)) =
        call::<v1::HistoryRequest, HistoryCall>(raw, Some(RouteShape::History), (decode, encode))
    else {
        return;
    };
    let Some(cursor) = call.after else { return };
    let page_token = call.next_page_token(cursor);
    let next = v1::HistoryRequest { page_token, ..request };
    let followed = HistoryCall::try_from(next.clone()).expect("a token of this listing");
    assert_eq!(followed.after, Some(cursor));
    let other = v1::HistoryRequest { user: next.user ^ 1, ..next };
    assert!(HistoryCall::try_from(other).is_err(), "the token of another user's listing");
}

fn filter_request() -> v1::FilterRequest {
    v1::FilterRequest {
        user: 42,
        namespaces: vec!["feed_read".to_owned(), "push_sent".to_owned()],
        candidates: vec![
            v1::ItemGroup { kind: 1, ids: vec![1, u64::MAX, 3] },
            v1::ItemGroup { kind: 255, ids: vec![] },
            v1::ItemGroup { kind: 0, ids: (0..20).collect() },
        ],
        token: vec![1, 2, 3],
        on_unknown: 2,
        confirm: true,
    }
}

fn mark_request() -> v1::MarkRequest {
    let item = |kind, id, marked_at_ms| v1::MarkItem { kind, id, marked_at_ms };
    v1::MarkRequest {
        user: 42,
        namespace: "feed_read".to_owned(),
        items: vec![
            item(1, 7, None),
            item(0, u64::MAX, Some(1_700_000_000_000)),
            item(255, 0, Some(0)),
        ],
        token: vec![9; 20],
    }
}

fn filters() -> Vec<Vec<u8>> {
    let nested = [&[0x12, 1, b'n'][..], &[0x7b; 99], &[0x78, 0x01], &[0x7c; 99]].concat();
    let small = v1::FilterRequest { namespaces: vec!["n".to_owned()], ..Default::default() };
    vec![encode(&filter_request()).to_vec(), encode(&small).to_vec(), nested]
}

fn marks() -> Vec<Vec<u8>> {
    vec![encode(&mark_request()).to_vec()]
}

fn streams() -> Vec<Vec<u8>> {
    let filter =
        v1::FilterStreamRequest { request_id: 7, filter: Some(filter_request()), timeout_ms: 40 };
    let mark = v1::MarkStreamRequest { request_id: 8, mark: Some(mark_request()), timeout_ms: 0 };
    let push = v1::FilterUsersRequest {
        request_id: 99,
        namespaces: vec!["push_sent".to_owned()],
        users: vec![1, 2, 3],
        timeout_ms: 500,
        ..Default::default()
    };
    vec![encode(&filter).to_vec(), encode(&mark).to_vec(), encode(&push).to_vec()]
}

fn others() -> Vec<Vec<u8>> {
    let namespace = || "feed_read".to_owned();
    let history = v1::HistoryRequest {
        user: 5,
        namespace: namespace(),
        order: 2,
        from_ms: 10,
        until_ms: Some(20),
        kind: Some(1),
        page_size: 50,
        ..Default::default()
    };
    let listing = HistoryCall::try_from(history.clone()).expect("a seed");
    let row = seen_filter::Item::new(1, 9);
    let cursor = seen_proto::model::PageCursor::Recent(seen_filter::UnixMillis::new(15), row);
    let paged = v1::HistoryRequest { page_token: listing.next_page_token(cursor), ..history };
    let explain =
        v1::ExplainRequest { user: 5, namespace: namespace(), kind: 1, id: 9, token: vec![1] };
    let forget = v1::ForgetRequest {
        user: 5,
        scope: Some(v1::forget_request::Scope::AllNamespaces(true)),
        ..Default::default()
    };
    [(2, encode(&explain)), (3, encode(&paged)), (1, encode(&forget)), (0, encode(&mark_request()))]
        .into_iter()
        .map(|(which, message)| [&[which], &message[..]].concat())
        .collect()
}
