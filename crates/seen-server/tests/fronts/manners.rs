//! How calls end that are not simply answered: cancelled, cut off, slow, unread, drained. Of both fronts.

use bytes::Bytes;
use h2::Reason;
use tokio::time::timeout;

use super::cases::{FILTER, MARK, filter, filter_ask, mark};
use super::script::LARGE_BYTES;
use super::stage::Stage;
use super::wire::{Ask, Wire, ask, framed, read};
use super::{HANG, WIDE};

fn hold_both() -> [Ask; 2] {
    [filter_ask("hold"), ask(MARK, [framed(0, &mark("hold"))])]
}

#[tokio::test]
async fn a_cancelled_call_is_not_waited_for_and_others_go_on() {
    for stage in Stage::both().await {
        let mut wire = Wire::connect(stage.address, WIDE).await;
        for (held, ask) in (1..).zip(hold_both()) {
            let (reply, mut stream) = wire.send(&ask).await.expect("open");
            timeout(HANG, stage.script.until(|log| log.held == held)).await.expect("held");
            stream.send_reset(Reason::CANCEL);
            let gone = stage.script.until(|log| log.abandoned == held);
            timeout(HANG, gone).await.unwrap_or_else(|_| panic!("{} waits on", stage.name));
            assert!(read(reply).await.is_err());
        }
        let told = wire.told(&filter_ask("say")).await.expect("answered");
        assert_eq!(told.grpc_status(), Some(0), "{}", stage.name);
    }
}

#[tokio::test]
async fn a_connection_that_goes_takes_its_calls_along() {
    for stage in Stage::both().await {
        let mut wire = Wire::connect(stage.address, WIDE).await;
        let mut open = Vec::new();
        for ask in hold_both() {
            open.push(wire.send(&ask).await.expect("open"));
        }
        timeout(HANG, stage.script.until(|log| log.held == 2)).await.expect("held");
        wire.cut();
        let gone = stage.script.until(|log| log.abandoned == 2);
        timeout(HANG, gone).await.unwrap_or_else(|_| panic!("{} waits on", stage.name));
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_half_way_is_never_asked() {
    for stage in Stage::both().await {
        let mut wire = Wire::connect(stage.address, WIDE).await;
        let half = framed(0, &mark("say")).slice(..9);
        let (reply, mut stream) = wire.begin(&ask(MARK, [])).await.expect("open");
        stream.send_data(half, false).expect("open");
        // Once this is answered, the half has been read.
        wire.told(&filter_ask("say")).await.expect("answered");
        stream.send_reset(Reason::CANCEL);
        assert!(read(reply).await.is_err());
        wire.told(&filter_ask("say")).await.expect("answered");
        let asked = stage.script.log().asked;
        assert_eq!((asked.get("mark"), asked.get("filter")), (None, Some(&2)), "{}", stage.name);
    }
}

#[tokio::test]
async fn a_call_may_come_slowly() {
    let mut answers = Vec::new();
    for stage in Stage::both().await {
        let mut wire = Wire::connect(stage.address, WIDE).await;
        let whole = framed(0, &filter("large"));
        let (reply, mut stream) = wire.begin(&ask(FILTER, [])).await.expect("open");
        for piece in [whole.slice(..2), whole.slice(2..30), whole.slice(30..), Bytes::new()] {
            // Once this is answered, all before it has been read.
            wire.told(&filter_ask("say")).await.expect("answered");
            let last = piece.is_empty();
            stream.send_data(piece, last).expect("open");
        }
        let told = timeout(HANG, read(reply)).await.expect("no hang").expect("answered");
        assert!(told.body.len() > LARGE_BYTES);
        answers.push(told);
    }
    assert_eq!(answers[1], answers[0]);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_up_no_other() {
    for stage in Stage::both().await {
        let mut wire = Wire::connect(stage.address, 700).await;
        let mut unread = Vec::new();
        for _ in 0..20 {
            unread.push(wire.send(&filter_ask("large")).await.expect("open"));
        }
        let told = timeout(HANG, wire.told(&filter_ask("large"))).await.expect("no hang");
        assert!(told.expect("answered").body.len() > LARGE_BYTES);
        for (reply, _stream) in unread {
            let told = timeout(HANG, read(reply)).await.expect("no hang").expect("answered");
            assert!(told.body.len() > LARGE_BYTES, "{}", stage.name);
        }
    }
}

#[tokio::test]
async fn a_drain_answers_what_runs_and_says_goodbye() {
    for stage in Stage::both().await {
        let mut wire = Wire::connect(stage.address, WIDE).await;
        let mut held = Vec::new();
        for ask in hold_both() {
            held.push(wire.send(&ask).await.expect("open"));
        }
        timeout(HANG, stage.script.until(|log| log.held == 2)).await.expect("held");
        stage.stop.request();
        let goodbye = async { while wire.told(&filter_ask("say")).await.is_ok() {} };
        timeout(HANG, goodbye).await.unwrap_or_else(|_| panic!("{}: no GOAWAY", stage.name));
        stage.script.gate.add_permits(2);
        for (reply, _stream) in held {
            let told = timeout(HANG, read(reply)).await.expect("no hang").expect("answered whole");
            assert_eq!(told.grpc_status(), Some(0), "{}", stage.name);
        }
        timeout(HANG, wire.ended()).await.expect("the connection ends").expect("without an error");
        let drained = timeout(HANG, stage.close()).await.expect("the front ends");
        assert!(drained.is_none_or(|drained| drained.cut == 0), "{drained:?}");
    }
}

#[tokio::test]
async fn a_thousand_calls_of_one_connection_are_all_answered() {
    for stage in Stage::both().await {
        let mut wire = Wire::connect(stage.address, WIDE).await;
        let mut open = Vec::new();
        for at in 0..1_000 {
            let word = ["say", "later", "large", "full"][at % 4];
            open.push((word, wire.send(&filter_ask(word)).await.expect("open")));
        }
        // Together: what is not read keeps the connection's window from the others.
        let read = open.into_iter().map(|(word, (reply, stream))| {
            let name = stage.name;
            async move {
                let told = read(reply).await.unwrap_or_else(|reset| panic!("{name}: {reset:?}"));
                drop(stream);
                let code = if word == "full" { 8 } else { 0 };
                assert_eq!(told.grpc_status(), Some(code), "{name}: {word}");
            }
        });
        let all = timeout(HANG, futures_util::future::join_all(read)).await;
        all.unwrap_or_else(|_| panic!("{} hangs", stage.name));
    }
}
