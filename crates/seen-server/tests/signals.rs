//! Real signals, sent to this process; so this file holds one test.

use std::process::Command;

use seen_server::shutdown::Stop;
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;

fn send(signal: &str) {
    let pid = std::process::id().to_string();
    let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
    assert!(sent.success());
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_exits() {
    let (second, exits) = oneshot::channel();
    let stop = Stop::on_signals_then(move |kind| {
        let _ = second.send(kind);
    })
    .expect("handlers");
    assert!(!stop.is_requested());
    send("-TERM");
    stop.requested().await;
    assert!(stop.is_requested());
    send("-INT");
    assert_eq!(exits.await, Ok(SignalKind::interrupt()));
}
