//! Whom a request is about is read as prost reads it, for every message that prost reads at all, unless a singular
//! field is sent twice.

#[expect(dead_code, reason = "streams are for other tests")]
mod raw;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use raw::{Sends, filter_bytes, mark_bytes, mutated};
use seen_proto::model::Quality;
use seen_proto::v1;
use seen_proto::v1::DegradedReason;
use seen_proto::wire::{RouteCall, RouteShape, WireError, degraded_reason, encode_filter_response};

/// User, namespace and whether there is a token, as prost says.
type Read = (u64, String, bool);

fn agrees<M: Message + Default>(
    shape: RouteShape,
    raw: &[u8],
    singular: &[u32],
    read: impl Fn(&M) -> Read,
) {
    let Ok(message) = M::decode(raw) else { return };
    let walked = RouteCall::parse(shape, raw);
    if Sends::once(raw, singular, &[]) {
        let call = walked.unwrap_or_else(|error| panic!("{shape:?}: {error}: {raw:02x?}"));
        let found = (call.user.get(), call.namespace.to_owned(), call.has_token);
        assert_eq!(found, read(&message), "{shape:?} {raw:02x?}");
    } else {
        assert!(matches!(walked, Err(WireError::Repeated(_))), "{shape:?} {walked:?} {raw:02x?}");
    }
}

fn check(raw: &[u8]) {
    agrees::<v1::FilterRequest>(RouteShape::Filter, raw, &[1, 4, 5, 6], |message| {
        let first = message.namespaces.first().cloned().unwrap_or_default();
        (message.user, first, !message.token.is_empty())
    });
    agrees::<v1::MarkRequest>(RouteShape::Mark, raw, &[1, 2, 4], |message| {
        (message.user, message.namespace.clone(), !message.token.is_empty())
    });
    agrees::<v1::UnmarkRequest>(RouteShape::Unmark, raw, &[1, 2, 4], |message| {
        (message.user, message.namespace.clone(), !message.token.is_empty())
    });
    agrees::<v1::ForgetRequest>(RouteShape::Forget, raw, &[1, 2, 3, 4], |message| {
        let namespace = match &message.scope {
            Some(v1::forget_request::Scope::Namespace(name)) => name.clone(),
            _ => String::new(),
        };
        (message.user, namespace, !message.token.is_empty())
    });
    let all = [1, 2, 3, 4, 5, 6, 7, 8];
    agrees::<v1::HistoryRequest>(RouteShape::History, raw, &all, |message| {
        (message.user, message.namespace.clone(), false)
    });
    agrees::<v1::ExplainRequest>(RouteShape::Explain, raw, &all[..5], |message| {
        (message.user, message.namespace.clone(), !message.token.is_empty())
    });
}

/// Messages of the other shapes, with fields in order.
fn others() -> impl Strategy<Value = Vec<u8>> {
    let parts = (any::<u64>(), "[a-z_]{0,12}", vec(any::<u8>(), 0..9), any::<(u32, u64, bool)>());
    let which = prop_oneof![Just(0), Just(1), Just(2), Just(3)];
    (which, parts).prop_map(|(which, (user, namespace, token, (kind, id, flag)))| {
        use v1::forget_request::Scope;
        let scope = match flag {
            true => Scope::Namespace(namespace.clone()),
            false => Scope::AllNamespaces(id % 2 == 0),
        };
        match which {
            0 => v1::ForgetRequest { user, scope: Some(scope), token }.encode_to_vec(),
            1 => {
                let (order, until_ms, page_token) = (kind as i32, flag.then_some(id), token);
                let request = v1::HistoryRequest {
                    user,
                    namespace,
                    order,
                    from_ms: id,
                    until_ms,
                    kind: Some(kind),
                    page_size: kind,
                    page_token,
                };
                request.encode_to_vec()
            }
            2 => v1::ExplainRequest { user, namespace, kind, id, token }.encode_to_vec(),
            _ => {
                let items = vec![v1::ItemGroup { kind, ids: vec![id; 3] }];
                v1::UnmarkRequest { user, namespace, items, token }.encode_to_vec()
            }
        }
    })
}

fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases * 4, ..default }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn filters(raw in prop_oneof![filter_bytes().boxed(), mutated(filter_bytes()).boxed()]) {
        check(&raw);
    }

    #[test]
    fn marks(raw in prop_oneof![mark_bytes().boxed(), mutated(mark_bytes()).boxed()]) {
        check(&raw);
    }

    #[test]
    fn the_others(raw in prop_oneof![others().boxed(), mutated(others()).boxed(), (others(), others()).prop_map(|(a, b)| [a, b].concat()).boxed()]) {
        check(&raw);
    }

    #[test]
    fn any_bytes(raw in vec(any::<u8>(), 0..200)) {
        check(&raw);
        let _ = degraded_reason(&raw);
    }

    #[test]
    fn an_answer_is_called_degraded_where_it_is_and_why(
        unseen in proptest::collection::btree_set(0..1_000_usize, 0..50),
        token in vec(any::<u8>(), 0..20),
        which in 0..9,
    ) {
        let reason = DegradedReason::try_from(which - 1).ok();
        let quality = match which {
            0 => Quality::Exact,
            8 => Quality::Filtered { rate: 0.01 },
            _ => Quality::Degraded { rate: 0.01, reason: reason.expect("a reason"), unknown: 3 },
        };
        let mut raw = Vec::new();
        encode_filter_response(&mut raw, &unseen.into_iter().collect(), &quality, &token);
        prop_assert_eq!(degraded_reason(&raw), reason.filter(|_| which < 8));
    }
}

#[test]
fn a_message_of_every_shape_is_read() {
    let filter = v1::FilterRequest {
        user: 7,
        namespaces: vec!["a".to_owned(), "b".to_owned()],
        token: vec![1],
        ..Default::default()
    };
    let raw = filter.encode_to_vec();
    let call = RouteCall::parse(RouteShape::Filter, &raw).expect("valid");
    assert_eq!((call.user.get(), call.namespace, call.has_token), (7, "a", true));
    check(&raw);
    let everywhere = v1::ForgetRequest {
        user: 8,
        scope: Some(v1::forget_request::Scope::AllNamespaces(true)),
        token: Vec::new(),
    };
    let raw = everywhere.encode_to_vec();
    let call = RouteCall::parse(RouteShape::Forget, &raw).expect("valid");
    assert_eq!((call.user.get(), call.namespace, call.has_token), (8, "", false));
    check(&raw);
}
