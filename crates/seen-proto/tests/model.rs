//! What the door lets through, and what it answers to everything else.

use seen_filter::{Item, UnixMillis};
use seen_proto::limits::{
    GROUPS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, PAGE_TOKEN_BYTES_MAX, PUSH_ITEMS_MAX,
    PUSH_TIMEOUT_MS_DEFAULT, PUSH_USERS_MAX, TIMEOUT_MS_MAX, TOKEN_BYTES_MAX, UNMARK_ITEMS_MAX,
};
use seen_proto::model::{
    DrainCall, EvictCall, ExplainCall, ForgetCall, ForgetScope, HistoryCall, HistoryOrder,
    PageCursor, PushCall, RebuildCall, UnmarkCall,
};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1;
use seen_proto::v1::forget_request::Scope;

/// The field that the door complains about.
fn refused<T: std::fmt::Debug>(outcome: Result<T, ApiError>) -> String {
    let error = outcome.expect_err("must be refused");
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    error.violations[0].field.clone().into_owned()
}

fn ids(count: usize) -> v1::ItemGroup {
    v1::ItemGroup { kind: 255, ids: vec![u64::MAX; count] }
}

fn unmark(groups: Vec<v1::ItemGroup>) -> v1::UnmarkRequest {
    v1::UnmarkRequest {
        user: u64::MAX,
        namespace: "feed".to_owned(),
        items: groups,
        token: vec![1; TOKEN_BYTES_MAX],
    }
}

#[test]
fn unmark_is_bounded() {
    let call = UnmarkCall::try_from(unmark(vec![ids(UNMARK_ITEMS_MAX)])).expect("at the limits");
    assert_eq!(call.items, vec![Item::new(255, u64::MAX); UNMARK_ITEMS_MAX]);
    assert!(UnmarkCall::try_from(unmark(vec![])).is_ok_and(|call| call.items.is_empty()));

    let over = vec![ids(UNMARK_ITEMS_MAX), ids(1)];
    assert_eq!(refused(UnmarkCall::try_from(unmark(over))), "items");
    assert_eq!(refused(UnmarkCall::try_from(unmark(vec![ids(0); GROUPS_MAX + 1]))), "items");
    let kind = vec![v1::ItemGroup { kind: 256, ids: vec![] }];
    assert_eq!(refused(UnmarkCall::try_from(unmark(kind))), "items.kind");
    let token = v1::UnmarkRequest { token: vec![1; TOKEN_BYTES_MAX + 1], ..unmark(vec![]) };
    assert_eq!(refused(UnmarkCall::try_from(token)), "token");
    for namespace in [String::new(), "n".repeat(49)] {
        let request = v1::UnmarkRequest { namespace, ..unmark(vec![]) };
        assert_eq!(refused(UnmarkCall::try_from(request)), "namespace");
    }
}

#[test]
fn forgetting_everywhere_must_be_said() {
    let forget = |scope| ForgetCall::try_from(v1::ForgetRequest { scope, ..Default::default() });
    assert_eq!(refused(forget(None)), "namespace");
    assert_eq!(refused(forget(Some(Scope::AllNamespaces(false)))), "all_namespaces");
    assert_eq!(refused(forget(Some(Scope::Namespace(String::new())))), "namespace");
    let scope = |scope| forget(Some(scope)).map(|call| call.scope);
    assert_eq!(scope(Scope::AllNamespaces(true)), Ok(ForgetScope::All));
    let one = Scope::Namespace("feed".to_owned());
    assert_eq!(scope(one), Ok(ForgetScope::Namespace("feed".to_owned())));
}

fn push(items: usize, users: usize) -> v1::FilterUsersRequest {
    v1::FilterUsersRequest {
        request_id: 9,
        namespaces: vec!["feed".to_owned()],
        items: vec![ids(items)],
        users: vec![0; users],
        ..Default::default()
    }
}

#[test]
fn filter_users_is_bounded() {
    let call = PushCall::try_from(push(PUSH_ITEMS_MAX, PUSH_USERS_MAX)).expect("at the limits");
    assert_eq!((call.items.len(), call.users.len()), (PUSH_ITEMS_MAX, PUSH_USERS_MAX));
    assert_eq!((call.request_id, call.timeout_ms), (9, PUSH_TIMEOUT_MS_DEFAULT));
    assert!(PushCall::try_from(push(0, 0)).is_ok());

    assert_eq!(refused(PushCall::try_from(push(PUSH_ITEMS_MAX + 1, 1))), "items");
    assert_eq!(refused(PushCall::try_from(push(1, PUSH_USERS_MAX + 1))), "users");
    for names in [0, 9] {
        let namespaces = vec!["feed".to_owned(); names];
        let request = v1::FilterUsersRequest { namespaces, ..push(1, 1) };
        assert_eq!(refused(PushCall::try_from(request)), "namespaces");
    }
    let late = v1::FilterUsersRequest { timeout_ms: TIMEOUT_MS_MAX + 1, ..push(1, 1) };
    assert_eq!(refused(PushCall::try_from(late)), "timeout_ms");
    let choice = v1::FilterUsersRequest { on_unknown: 3, ..push(1, 1) };
    assert_eq!(refused(PushCall::try_from(choice)), "on_unknown");
}

fn history() -> v1::HistoryRequest {
    v1::HistoryRequest { user: 7, namespace: "feed".to_owned(), ..Default::default() }
}

#[test]
fn history_ranges_are_checked() {
    let call = HistoryCall::try_from(history()).expect("the defaults");
    assert_eq!(call.rows_max, PAGE_ROWS_DEFAULT);
    assert_eq!((call.order, call.until, call.kind), (HistoryOrder::Key, None, None));
    assert_eq!(call.after, None);

    let rows = v1::HistoryRequest { page_size: PAGE_ROWS_MAX as u32 + 1, ..history() };
    assert_eq!(refused(HistoryCall::try_from(rows)), "page_size");
    let order = v1::HistoryRequest { order: 3, ..history() };
    assert_eq!(refused(HistoryCall::try_from(order)), "order");
    let range = v1::HistoryRequest { from_ms: 5, until_ms: Some(4), ..history() };
    assert_eq!(refused(HistoryCall::try_from(range)), "until_ms");
    let kind = v1::HistoryRequest { kind: Some(256), ..history() };
    assert_eq!(refused(HistoryCall::try_from(kind)), "kind");
}

/// All that a page token is bound to, each changed once.
fn other_listings(request: &v1::HistoryRequest) -> Vec<v1::HistoryRequest> {
    vec![
        v1::HistoryRequest { user: request.user + 1, ..request.clone() },
        v1::HistoryRequest { namespace: "other".to_owned(), ..request.clone() },
        v1::HistoryRequest { order: 3 - request.order.max(1), ..request.clone() },
        v1::HistoryRequest { from_ms: 1, ..request.clone() },
        v1::HistoryRequest { until_ms: Some(0), ..request.clone() },
        v1::HistoryRequest { kind: Some(0), ..request.clone() },
    ]
}

#[test]
fn page_tokens_fit_their_own_listing_only() {
    let item = Item::new(3, u64::MAX);
    let cursors = [
        (0, PageCursor::Key(item)),
        (1, PageCursor::Key(item)),
        (2, PageCursor::Recent(UnixMillis::new(u64::MAX), item)),
    ];
    for (order, cursor) in cursors {
        let request = v1::HistoryRequest { order, ..history() };
        let first = HistoryCall::try_from(request.clone()).expect("valid");
        let page_token = first.next_page_token(cursor);
        assert!(page_token.len() <= PAGE_TOKEN_BYTES_MAX);

        let next = v1::HistoryRequest { page_token, page_size: 5, ..request };
        let call = HistoryCall::try_from(next.clone()).expect("its own token");
        assert_eq!((call.after, call.rows_max), (Some(cursor), 5));
        for other in other_listings(&next) {
            let error = HistoryCall::try_from(other).expect_err("another listing");
            assert_eq!(error.kind, ErrorKind::PageTokenGarbage);
        }
        for at in 0..next.page_token.len() {
            let mut damaged = next.clone();
            damaged.page_token[at] ^= 0x10;
            let error = HistoryCall::try_from(damaged).expect_err("damaged");
            assert_eq!(error.kind, ErrorKind::PageTokenGarbage);
            let cut = next.page_token[..at].to_vec();
            let cut = HistoryCall::try_from(v1::HistoryRequest { page_token: cut, ..next.clone() });
            assert!(at == 0 || cut.is_err());
        }
    }
}

#[test]
fn the_small_calls_are_checked() {
    let explain = v1::ExplainRequest { namespace: "feed".to_owned(), ..Default::default() };
    let call = ExplainCall::try_from(explain.clone()).expect("ids of 0 are ids");
    assert_eq!(call.item, Item::new(0, 0));
    let kind = v1::ExplainRequest { kind: 256, ..explain };
    assert_eq!(refused(ExplainCall::try_from(kind)), "kind");
    assert_eq!(refused(ExplainCall::try_from(v1::ExplainRequest::default())), "namespace");

    let evict = EvictCall::try_from(v1::EvictUserRequest::default());
    assert_eq!(evict.map(|call| call.namespace), Ok(None));
    assert_eq!(refused(RebuildCall::try_from(v1::RebuildUserRequest::default())), "namespace");

    let drain = |timeout_ms| DrainCall::try_from(v1::DrainRequest { timeout_ms });
    assert_eq!(drain(0), Ok(DrainCall { timeout_ms: None }));
    assert_eq!(drain(TIMEOUT_MS_MAX), Ok(DrainCall { timeout_ms: Some(TIMEOUT_MS_MAX) }));
    assert_eq!(refused(drain(TIMEOUT_MS_MAX + 1)), "timeout_ms");
}
