//! Writes are done once.

use seen_cluster::link::NotSent;
use seen_proto::status::ErrorKind;

use super::*;
use crate::fake::Mode;

#[tokio::test(start_paused = true)]
async fn a_write_is_never_asked_twice_at_once() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    bench.net.all().iter().for_each(|link| link.set(Mode::Silent));
    let (answer, took) = bench.mark(5).timed().await;
    assert_eq!(answer.expect_err("nobody knows").kind, ErrorKind::OutcomeUnknown);
    assert!(took <= ms(80), "{took:?}");
    assert_eq!(bench.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_repeated_where_nothing_was_done() {
    for mode in [
        Mode::Fails(ErrorKind::Unavailable),
        Mode::Fails(ErrorKind::Draining),
        Mode::Fails(ErrorKind::Overloaded),
        Mode::Refuses(NotSent::Closed),
        Mode::Refuses(NotSent::NoCredit),
        Mode::Refuses(NotSent::Draining),
    ] {
        let bench = Bench::start(&[("feed", 1, 2)]).await;
        let ranked = bench.ranked(5);
        ranked[0].set(mode.clone());
        assert!(bench.mark(5).answer().await.is_ok(), "{mode:?}");
        assert_eq!(ranked[1].sent(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_repeated_where_it_may_have_been_done() {
    for kind in [ErrorKind::Internal, ErrorKind::OutcomeUnknown, ErrorKind::DeadlineExceeded] {
        let bench = Bench::start(&[("feed", 1, 2)]).await;
        bench.home(5).set(Mode::Fails(kind));
        assert_eq!(bench.mark(5).answer().await.expect_err("an error").kind, kind);
        assert_eq!(bench.sent(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_write_over_a_lost_link_nobody_knows() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    bench.home(5).set(Mode::Silent);
    let asked = bench.mark(5);
    sleep(ms(3)).await;
    bench.home(5).down();
    let (answer, took) = asked.timed().await;
    assert_eq!(answer.expect_err("nobody knows").kind, ErrorKind::OutcomeUnknown);
    assert_eq!(took, ms(3));
    assert_eq!(bench.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_passes_over_a_silent_replica() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].freeze();
    sleep(ms(80)).await;
    assert!(bench.mark(5).answer().await.is_ok());
    assert_eq!((ranked[0].sent(), ranked[1].sent()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn forget_has_its_long_time() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    bench.home(5).set(Mode::After(Duration::from_secs(20)));
    let scope = Some(v1::forget_request::Scope::AllNamespaces(true));
    let body = encode(&v1::ForgetRequest { user: 5, scope, token: Vec::new() });
    let (answer, took) = bench.ask(Call::Forget, body, Duration::from_secs(30), "").timed().await;
    assert!(answer.is_ok());
    assert_eq!(took, Duration::from_secs(20));
    assert_eq!(bench.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_other_calls_go_to_one_replica() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    let namespace = "feed_read".to_owned();
    let history =
        v1::HistoryRequest { user: 5, namespace: namespace.clone(), ..Default::default() };
    let explain =
        v1::ExplainRequest { user: 5, namespace: namespace.clone(), ..Default::default() };
    let unmark = v1::UnmarkRequest { user: 5, namespace, ..Default::default() };
    let calls = [
        (Call::History, encode(&history)),
        (Call::Explain, encode(&explain)),
        (Call::Unmark, encode(&unmark)),
    ];
    for (call, body) in calls {
        assert!(bench.ask(call, body.clone(), CALLER, "").answer().await.is_ok());
        assert_eq!(bench.home(5).last().body, body);
    }
    assert_eq!(bench.sent(), 3);
    // A listing changes nothing: it is asked again where it failed.
    bench.home(5).set(Mode::Fails(ErrorKind::Unavailable));
    assert!(bench.ask(Call::History, encode(&history), CALLER, "").answer().await.is_ok());
}
