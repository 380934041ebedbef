//! Every bad input of the unary calls: code, reason, field and limit.

use seen_proto::token::{AckSeq, ClusterId, Element, Token, Wildcard};
use seen_proto::v1;
use seen_proto::v1::forget_request::Scope;
use tonic::{Code, Status};

use super::ask::{KIND, READ, explain, filter, forget, group, history, mark, patient, unmark};
use super::refusal::{Refusal, UNKNOWN_NAMESPACE, failure, invalid};
use super::stage::Stage;
use super::wire::{Fields, Wire};

/// A refused token.
fn token(reason: &'static str, says: &'static str) -> Refusal {
    let failure = failure(Code::InvalidArgument, reason, false);
    Refusal { field: Some(("token", says)), ..failure }
}

/// What may be wrong with a token, and what is said about it.
fn bad_tokens(good: &[u8]) -> Vec<(Vec<u8>, Refusal)> {
    let mut flipped = good.to_vec();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let mut later = good.to_vec();
    later[0] = 9;
    let mut foreign = Vec::new();
    let mut elsewhere = Token::new();
    let incarnation = seen_filter::Incarnation::new(5);
    let wildcard = Wildcard { incarnation, seq: AckSeq::new(1) };
    elsewhere.add(Element::Wildcard(wildcard), || wildcard);
    elsewhere.encode(ClusterId::new(0xabcd), &mut foreign);
    vec![
        (vec![1, 2, 3], token("TOKEN_GARBAGE", "cut off after 3 bytes")),
        (good[..last].to_vec(), token("TOKEN_GARBAGE", "cut off")),
        (flipped, token("TOKEN_GARBAGE", "checksum")),
        (vec![1; 100], token("TOKEN_GARBAGE", "")),
        (later, token("TOKEN_VERSION", "format 9")),
        (foreign, token("TOKEN_OTHER_CLUSTER", "000000000000abcd")),
        (vec![1; 1_025], invalid("token", "1025 bytes; at most 1024")),
    ]
}

#[tokio::test]
async fn bad_tokens_are_refused_by_every_call_that_takes_one() {
    let mut stage = Stage::open().await;
    let good = stage.api.mark(mark(1, READ, [1])).await;
    let api = &mut stage.api.0;
    for (token, refusal) in bad_tokens(&good) {
        let t = || token.clone();
        let ask = v1::FilterRequest { token: t(), ..filter(1, &[READ], [1]) };
        refusal.is(&api.filter(patient(ask)).await.expect_err("a bad token"));
        let ask = v1::MarkRequest { token: t(), ..mark(2, READ, [1]) };
        refusal.is(&api.mark(patient(ask)).await.expect_err("a bad token"));
        let ask = v1::UnmarkRequest { token: t(), ..unmark(1, READ, [1]) };
        refusal.is(&api.unmark(patient(ask)).await.expect_err("a bad token"));
        let ask = v1::ForgetRequest { token: t(), ..forget(1, READ) };
        refusal.is(&api.forget(patient(ask)).await.expect_err("a bad token"));
        let ask = v1::ExplainRequest { token: t(), ..explain(1, READ, 1) };
        refusal.is(&api.explain(patient(ask)).await.expect_err("a bad token"));
    }
    assert_eq!(
        stage.api.unread(1, READ, &[1]).await,
        [0_u64; 0],
        "nothing was unmarked or forgotten"
    );
    assert_eq!(stage.api.unread(2, READ, &[1]).await, [1], "nothing was marked");
    stage.close().await;
}

#[tokio::test]
async fn bad_filters_are_refused() {
    let mut stage = Stage::open().await;
    let of = |candidates| v1::FilterRequest { candidates, ..filter(1, &[READ], []) };
    let split = vec![group(1, 0..500), group(2, 0..501)];
    let bad = vec![
        (filter(1, &["nowhere"], [1]), UNKNOWN_NAMESPACE),
        (filter(1, &[READ, "nowhere"], [1]), UNKNOWN_NAMESPACE),
        (filter(1, &[], [1]), invalid("namespaces", "none; name 1 to 8")),
        (filter(1, &[READ, ""], [1]), invalid("namespaces", "empty")),
        (filter(1, &["x".repeat(49).as_str()], [1]), invalid("namespaces", "49 bytes")),
        (filter(1, &[READ; 9], [1]), invalid("namespaces", "at most 8")),
        (filter(1, &[READ], 0..1_001), invalid("candidates", "more than 1000 ids")),
        (of(split), invalid("candidates", "more than 1000 ids")),
        (of(vec![group(1, []); 1_001]), invalid("candidates", "more than 1000 groups")),
        (of(vec![group(256, [1])]), invalid("candidates.kind", "256; kinds are 0 to 255")),
        (of(vec![group(u32::MAX, [])]), invalid("candidates.kind", "4294967295")),
        (
            v1::FilterRequest { on_unknown: 3, ..filter(1, &[READ], [1]) },
            invalid("on_unknown", "3; ON_UNKNOWN_SHOW (1) or ON_UNKNOWN_HIDE (2)"),
        ),
        (
            v1::FilterRequest { on_unknown: -1, ..filter(1, &[READ], [1]) },
            invalid("on_unknown", "-1"),
        ),
    ];
    for (request, refusal) in bad {
        let said = format!("{refusal:?}");
        let refused = stage.api.0.filter(patient(request)).await;
        refusal.is(&refused.expect_err(&said));
    }
    stage.close().await;
}

#[tokio::test]
async fn bad_writes_are_refused_and_write_nothing() {
    let mut stage = Stage::open().await;
    let item = |kind, at| v1::MarkItem { kind, id: 1, marked_at_ms: at };
    let of = |items| v1::MarkRequest { items, ..mark(1, READ, []) };
    let bad = vec![
        (mark(1, "nowhere", [1]), UNKNOWN_NAMESPACE),
        (mark(1, "", [1]), invalid("namespace", "empty")),
        (mark(1, &"x".repeat(49), [1]), invalid("namespace", "49 bytes")),
        (mark(1, READ, 0..1_001), invalid("items", "more than 1000 items")),
        (
            of(vec![item(1, None), item(256, None)]),
            invalid("items.kind", "256; kinds are 0 to 255"),
        ),
        (
            of(vec![item(1, Some(253_402_300_800_000))]),
            invalid("items.marked_at_ms", "at most 253402300799999"),
        ),
    ];
    for (request, refusal) in bad {
        let said = format!("{refusal:?}");
        refusal.is(&stage.api.0.mark(patient(request)).await.expect_err(&said));
    }
    let of = |items| v1::UnmarkRequest { items, ..unmark(1, READ, []) };
    let bad = vec![
        (unmark(1, "nowhere", [1]), UNKNOWN_NAMESPACE),
        (unmark(1, "", [1]), invalid("namespace", "empty")),
        (unmark(1, READ, 0..1_001), invalid("items", "1001 ids in all; at most 1000")),
        (of(vec![group(256, [1])]), invalid("items.kind", "256; kinds are 0 to 255")),
        (of(vec![group(1, []); 1_001]), invalid("items", "1001 groups; at most 1000")),
    ];
    for (request, refusal) in bad {
        let said = format!("{refusal:?}");
        refusal.is(&stage.api.0.unmark(patient(request)).await.expect_err(&said));
    }
    let scoped = |scope| v1::ForgetRequest { scope, ..forget(1, READ) };
    let bad = vec![
        (forget(1, "nowhere"), UNKNOWN_NAMESPACE),
        (forget(1, ""), invalid("namespace", "empty")),
        (scoped(None), invalid("namespace", "absent")),
        (scoped(Some(Scope::AllNamespaces(false))), invalid("all_namespaces", "false")),
    ];
    for (request, refusal) in bad {
        let said = format!("{refusal:?}");
        refusal.is(&stage.api.0.forget(patient(request)).await.expect_err(&said));
    }
    assert_eq!(stage.api.history(history(1, READ)).await.rows, []);
    stage.close().await;
}

#[tokio::test]
async fn bad_listings_are_refused() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(1, READ, 0..30)).await;
    stage.api.mark(mark(2, READ, 0..30)).await;
    let good = || v1::HistoryRequest { page_size: 10, ..history(1, READ) };
    let page = stage.api.history(good()).await;
    let next = || v1::HistoryRequest { page_token: page.next_page_token.clone(), ..good() };
    let garbage = failure(Code::InvalidArgument, "PAGE_TOKEN_GARBAGE", false);
    let bad = vec![
        (history(1, "nowhere"), UNKNOWN_NAMESPACE),
        (history(1, ""), invalid("namespace", "empty")),
        (v1::HistoryRequest { order: 3, ..good() }, invalid("order", "3; HISTORY_ORDER_KEY (1)")),
        (v1::HistoryRequest { order: -1, ..good() }, invalid("order", "-1")),
        (
            v1::HistoryRequest { kind: Some(256), ..good() },
            invalid("kind", "256; kinds are 0 to 255"),
        ),
        (
            v1::HistoryRequest { page_size: 1_001, ..good() },
            invalid("page_size", "1001; at most 1000"),
        ),
        (
            v1::HistoryRequest { from_ms: 10, until_ms: Some(9), ..good() },
            invalid("until_ms", "9; not before from_ms, which is 10"),
        ),
        (v1::HistoryRequest { page_token: vec![7; 22], ..good() }, garbage),
        (v1::HistoryRequest { page_token: vec![1; 5_000], ..good() }, garbage),
        (v1::HistoryRequest { user: 2, ..next() }, garbage),
        (v1::HistoryRequest { namespace: "push_sent".to_owned(), ..next() }, garbage),
        (v1::HistoryRequest { order: 2, ..next() }, garbage),
        (v1::HistoryRequest { from_ms: 1, ..next() }, garbage),
        (v1::HistoryRequest { until_ms: Some(0), ..next() }, garbage),
        (v1::HistoryRequest { kind: Some(0), ..next() }, garbage),
    ];
    for (request, refusal) in bad {
        let said = format!("{request:?}");
        refusal.is(&stage.api.0.history(patient(request)).await.expect_err(&said));
    }
    let other_size = v1::HistoryRequest { page_size: 3, ..next() };
    assert_eq!(stage.api.history(other_size).await.rows.len(), 3, "the size may change");
    let of = |kind| v1::ExplainRequest { kind, ..explain(1, READ, 1) };
    for (request, refusal) in [
        (explain(1, "nowhere", 1), UNKNOWN_NAMESPACE),
        (explain(1, "", 1), invalid("namespace", "empty")),
        (of(256), invalid("kind", "256; kinds are 0 to 255")),
    ] {
        refusal.is(&stage.api.0.explain(patient(request)).await.expect_err("bad"));
    }
    stage.close().await;
}

#[tokio::test]
async fn messages_beyond_the_limit_are_refused_whoever_sends_them() {
    let mut stage = Stage::open().await;
    let ids = 5 * 1_024 * 1_024 / 8;
    let too_large = |refused: Status| assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let request = filter(1, &[READ], 0..ids);
    too_large(stage.api.0.filter(patient(request)).await.expect_err("5 MB"));
    let request = mark(1, READ, 0..ids / 2);
    too_large(stage.api.0.mark(patient(request)).await.expect_err("5 MB"));
    let request = unmark(1, READ, 0..ids);
    too_large(stage.api.0.unmark(patient(request)).await.expect_err("5 MB"));
    let name = "x".repeat(5 * 1_024 * 1_024);
    too_large(stage.api.0.forget(patient(forget(1, &name))).await.expect_err("5 MB"));
    too_large(stage.api.0.history(patient(history(1, &name))).await.expect_err("5 MB"));
    too_large(stage.api.0.explain(patient(explain(1, &name, 1))).await.expect_err("5 MB"));
    let request = v1::EvictUserRequest { user: 1, namespace: name };
    too_large(stage.admin.evict_user(patient(request)).await.expect_err("5 MB"));
    // The connection lives on.
    assert_eq!(stage.api.unread(1, READ, &[1]).await, [1]);
    stage.close().await;
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn singular_fields_that_come_twice_are_refused() {
    let stage = Stage::open().await;
    let mut wire = Wire::connect(stage.at.api).await;
    let f = Fields::default;
    let item = f().varint(1, u64::from(KIND)).fixed64(2, 9);
    let asked = || f().fixed64(1, 7).bytes(2, READ.as_bytes());
    let says = "sent twice; send it once";
    let cases = [
        ("Filter", asked().fixed64(1, 7), "user"),
        ("Filter", asked().bytes(4, b"").bytes(4, b""), "token"),
        ("Filter", asked().varint(5, 1).varint(5, 1), "on_unknown"),
        ("Filter", asked().varint(6, 0).varint(6, 1), "confirm"),
        ("Filter", asked().bytes(3, &f().varint(1, 1).varint(1, 1).0), "candidates.kind"),
        ("Mark", asked().fixed64(1, 8), "user"),
        ("Mark", asked().bytes(2, b"push_sent"), "namespace"),
        ("Mark", asked().bytes(4, b"").bytes(4, b""), "token"),
        ("Mark", asked().bytes(3, &item.clone().varint(1, 1).0), "items.kind"),
        ("Mark", asked().bytes(3, &item.clone().fixed64(2, 9).0), "items.id"),
        ("Mark", asked().bytes(3, &item.clone().varint(3, 1).varint(3, 2).0), "items.marked_at_ms"),
    ];
    for (method, message, field) in cases {
        let refused = wire.call(method, &[], &message.0).await.expect_err(field);
        invalid(field, says).is(&refused);
    }
    // Fields in any order, unknown ones, unpacked ids, and repeated namespaces are all fine.
    let group = f().fixed64(2, 9).varint(1, 1).bytes(2, &10_u64.to_le_bytes());
    let shuffled = f().bytes(3, &group.0).bytes(15, b"news").bytes(2, b"push_sent").varint(6, 1);
    let shuffled = shuffled.fixed64(1, 7).bytes(2, READ.as_bytes());
    assert!(wire.call("Filter", &[], &shuffled.0).await.is_ok());
    for garbage in [&[0xff_u8; 9][..], &[0x0a, 0x05, 1], &[0x08, 1]] {
        for method in ["Filter", "Mark"] {
            let refused = wire.call(method, &[], garbage).await.expect_err("no protobuf");
            failure(Code::InvalidArgument, "INVALID_ARGUMENT", false).is(&refused);
        }
        assert!(wire.call("Unmark", &[], garbage).await.is_err());
    }
    // In a stream what is wrong within a question is answered under its id; without one it ends.
    for (method, field) in [("FilterStream", "user"), ("MarkStream", "user")] {
        let twice = f().fixed64(1, 5).bytes(2, &asked().fixed64(1, 7).0);
        let answer = wire.call(method, &[], &twice.0).await.expect("the stream goes on");
        assert!(holds(&answer, says) && holds(&answer, field), "{answer:?}");
        let refused = wire.call(method, &[], &f().fixed64(1, 5).fixed64(1, 6).0).await;
        invalid("request_id", says).is(&refused.expect_err("under which id?"));
        let refused = wire.call(method, &[], &[0x08, 1]).await.expect_err("no protobuf");
        failure(Code::InvalidArgument, "INVALID_ARGUMENT", false).is(&refused);
    }
    let missing = wire.call("Nothing", &[], &[]).await.expect_err("no such method");
    assert_eq!(missing.code(), Code::Unimplemented);
    stage.close().await;
}

#[tokio::test]
async fn malformed_and_expired_deadlines_are_refused() {
    let mut stage = Stage::open().await;
    let mut wire = Wire::connect(stage.at.api).await;
    let f = Fields::default;
    let read = READ.as_bytes();
    let (item, group) = (f().fixed64(2, 9), f().bytes(2, &9_u64.to_le_bytes()));
    let calls = [
        ("Filter", f().bytes(2, read).bytes(3, &group.0)),
        ("Mark", f().bytes(2, read).bytes(3, &item.0)),
        ("Unmark", f().bytes(2, read).bytes(3, &group.0)),
        ("Forget", f().bytes(2, read)),
        ("History", f().bytes(2, read)),
        ("Explain", f().bytes(2, read)),
    ];
    for (method, message) in &calls {
        for bad in ["", "90", "m", "90x", "-1m", "123456789m", "1.5S", "9 m"] {
            let refused = wire.call(method, &[("grpc-timeout", bad)], &message.0).await;
            invalid("grpc-timeout", "1 to 8 digits").is(&refused.expect_err(bad));
        }
        for past in ["0m", "1n", "0S", "999n"] {
            let refused = wire.call(method, &[("grpc-timeout", past)], &message.0).await;
            super::refusal::DEADLINE.is(&refused.expect_err(method));
        }
        for fine in ["50S", "1M", "99999999H", "50000000u", "50000m"] {
            let answered = wire.call(method, &[("grpc-timeout", fine)], &message.0).await;
            assert!(answered.is_ok(), "{method} within {fine}: {answered:?}");
        }
    }
    assert_eq!(stage.api.history(history(0, READ)).await.rows, [], "and was forgotten at the end");
    stage.close().await;
}
