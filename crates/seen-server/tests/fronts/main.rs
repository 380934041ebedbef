//! The hot front beneath tonic, and tonic's own server: no caller can tell which of the two answers.

mod alone;
mod cases;
mod clients;
mod malformed;
mod manners;
mod script;
mod secured;
mod stage;
mod tools;
mod wire;
mod writes;

use std::time::Duration;

use stage::Stage;
use wire::{Ask, Told, Wire};

/// No test waits for a condition longer than this; none asserts how long anything took.
const HANG: Duration = Duration::from_secs(60);
/// Window of a client that takes everything at once.
const WIDE: u32 = 1 << 20;

/// Asks every case over one connection.
async fn conversation(stage: &Stage, mut wire: Wire) -> Vec<(String, Told)> {
    let mut told = Vec::new();
    for case in cases::all() {
        let answer = tokio::time::timeout(HANG, wire.told(&case.ask)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{}: {} hangs", stage.name, case.name));
        let answer =
            answer.unwrap_or_else(|reset| panic!("{}: {}: {reset:?}", stage.name, case.name));
        assert_eq!(
            answer.grpc_status(),
            Some(case.code),
            "{}: {}: {answer:?}",
            stage.name,
            case.name
        );
        told.push((case.name, answer));
    }
    told
}

#[tokio::test]
async fn the_same_is_said_by_both() {
    for window_bytes in [WIDE, 700, 16] {
        let [tonic, ours] = Stage::both().await;
        let wire = Wire::connect(tonic.address, window_bytes).await;
        let expected = conversation(&tonic, wire).await;
        let wire = Wire::connect(ours.address, window_bytes).await;
        let told = conversation(&ours, wire).await;
        for (expected, told) in expected.iter().zip(&told) {
            assert_eq!(told, expected, "window of {window_bytes}");
        }
        assert_eq!(ours.script.log(), tonic.script.log(), "what was asked and refused");
    }
}

/// What HTTP/2 itself refuses.
fn refused() -> Vec<Ask> {
    let ask = || cases::filter_ask("say");
    vec![
        ask().with("content-length", b"3"),
        ask().with("content-length", b"100000"),
        ask().with("content-length", b"many"),
        ask().with("seen-tag", &[b'x'; 40_000]),
    ]
}

#[tokio::test]
async fn the_same_is_refused_by_both() {
    let mut outcomes = Vec::new();
    for stage in Stage::both().await {
        let mut outcome = Vec::new();
        for ask in refused() {
            let mut wire = Wire::connect(stage.address, WIDE).await;
            let told = tokio::time::timeout(HANG, wire.told(&ask)).await;
            outcome.push(told.unwrap_or_else(|_| panic!("{}: {ask:?} hangs", stage.name)));
        }
        assert_eq!(stage.script.log().asked.len(), 0, "{}", stage.name);
        outcomes.push(outcome);
    }
    assert_eq!(outcomes[1], outcomes[0]);
}
