//! What fails: errors, breakers, outliers, lost links, pauses.

use seen_cluster::link::NotSent;
use seen_proto::status::ErrorKind;
use seen_proto::v1::DegradedReason;

use super::*;
use crate::fake::Mode;

#[tokio::test(start_paused = true)]
async fn what_fails_at_one_is_asked_at_the_next() {
    for kind in
        [ErrorKind::Unavailable, ErrorKind::Draining, ErrorKind::Overloaded, ErrorKind::Internal]
    {
        let bench = Bench::start(&[("feed", 1, 2)]).await;
        let ranked = bench.ranked(5);
        ranked[0].set(Mode::Fails(kind));
        let (answer, took) = bench.filter(5).timed().await;
        assert!(!is_degraded(&response(answer)), "{kind:?}");
        assert_eq!(took, ms(0));
        assert_eq!((ranked[0].sent(), ranked[1].sent()), (1, 1));
    }
}

/// A replica that died, or ends, does nothing for what was asked of it: nobody has more to do by asking elsewhere, and no budget is
/// to turn its death into flagged answers.
#[tokio::test(start_paused = true)]
async fn what_a_dead_or_ending_replica_had_is_asked_elsewhere_whatever_the_budget() {
    let options = ProxyOptions { extra_share: 0.0, ..ProxyOptions::new(1) };
    let bench = Bench::with(&[("feed", 2, 2)], options).await;
    let ranked = bench.ranked(5);
    ranked[0].set(Mode::Silent);
    let asked: Vec<Asked> = (0..200).map(|_| bench.filter(5)).collect();
    bench.settle().await;
    assert_eq!(ranked[0].sent(), 200);
    ranked[0].down();
    for asked in asked {
        assert!(!is_degraded(&response(asked.answer().await)));
    }
    assert_eq!(ranked[1].sent(), 200);
    ranked[1].set(Mode::Fails(ErrorKind::Draining));
    for _ in 0..30 {
        assert!(!is_degraded(&response(bench.filter(5).answer().await)), "of another slot");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_is_told_and_not_asked_again() {
    let kinds =
        ErrorKind::ALL.into_iter().filter(|kind| kind.blame() == seen_proto::status::Blame::Caller);
    for kind in kinds {
        let bench = Bench::start(&[("feed", 1, 2)]).await;
        bench.home(5).set(Mode::Fails(kind));
        for _ in 0..30 {
            assert_eq!(bench.filter(5).answer().await.expect_err("refused").kind, kind);
        }
        assert_eq!(bench.sent(), 30);
        let views = bench.proxy.replicas();
        assert!(views.iter().all(|view| view.breaker == "closed"), "it is nobody's fault here");
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_are_overloaded_the_caller_is_to_slow_down() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    bench.net.all().iter().for_each(|link| link.set(Mode::Fails(ErrorKind::Overloaded)));
    let error = bench.filter(5).answer().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Overloaded);
    assert!(error.retry_after.is_some());
    bench.net.all().iter().for_each(|link| link.set(Mode::Refuses(NotSent::NoCredit)));
    let error = bench.filter(6).answer().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Overloaded);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fails_is_left_alone_probed_and_trusted_again() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    let breaker = |bench: &Bench| {
        let views = bench.proxy.replicas();
        let view = views.into_iter().find(|view| view.name == *ranked[0].target.name);
        view.map(|view| view.breaker).unwrap_or_default()
    };
    ranked[0].set(Mode::Fails(ErrorKind::Internal));
    for _ in 0..20 {
        assert!(!is_degraded(&response(bench.filter(5).answer().await)));
    }
    assert_eq!(breaker(&bench), "open");
    assert_eq!(ranked[0].sent(), 8);
    ranked[0].set(Mode::Answers);
    sleep(ms(600)).await;
    for _ in 0..4 {
        bench.filter(5).answer().await.expect("an answer");
    }
    assert_eq!(breaker(&bench), "closed");
    assert_eq!(ranked[0].sent(), 12);
}

#[tokio::test(start_paused = true)]
async fn quick_failures_and_flagged_answers_attract_nobody() {
    let bench = Bench::start(&[("feed", 1, 3)]).await;
    let homes: Vec<_> = (0..60).map(|user| bench.home(user)).collect();
    let bound = homes.iter().filter(|home| home.target == homes[0].target).count();
    for mode in [Mode::Flags(DegradedReason::FeedStale), Mode::After(ms(1))] {
        homes[0].set(mode);
        let before = homes[0].sent();
        for user in 0..60 {
            bench.filter(user).answer().await.expect("an answer");
        }
        assert_eq!(homes[0].sent() - before, bound, "its own users, and no more");
    }
    homes[0].set(Mode::Fails(ErrorKind::Overloaded));
    let before = homes[0].sent();
    for user in 0..60 {
        bench.filter(user).answer().await.expect("an answer");
    }
    assert_eq!(homes[0].sent() - before, bound);
}

#[tokio::test(start_paused = true)]
async fn a_slow_replica_is_left_out_and_the_last_one_never() {
    let options = ProxyOptions { hedge_after_max: ms(10_000), ..ProxyOptions::new(1) };
    let bench = Bench::with(&[("feed", 1, 2)], options.clone()).await;
    let ranked = bench.ranked(5);
    let other = (0..100).find(|user| bench.home(*user).target == ranked[1].target);
    let other = other.expect("users of the other one");
    ranked[0].set(Mode::After(ms(30)));
    for _ in 0..40 {
        bench.filter(5).answer().await.expect("an answer");
        bench.filter(other).answer().await.expect("an answer");
    }
    sleep(ms(400)).await;
    let before = ranked[0].sent();
    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(ranked[0].sent(), before, "it is left out");
    sleep(ms(2_500)).await;
    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(ranked[0].sent(), before + 1, "for a while");

    let alone = Bench::with(&[("feed", 1, 1)], options).await;
    alone.home(5).set(Mode::Fails(ErrorKind::Internal));
    for _ in 0..100 {
        let _ = alone.filter(5).answer().await;
    }
    sleep(ms(1_500)).await;
    let before = alone.home(5).sent();
    let _ = alone.filter(5).answer().await;
    assert_eq!(alone.home(5).sent(), before + 1, "there is nobody else");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_over_a_lost_link_is_asked_elsewhere() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].set(Mode::Silent);
    let asked: Vec<Asked> = (0..5).map(|_| bench.filter(5)).collect();
    sleep(ms(5)).await;
    ranked[0].down();
    for asked in asked {
        let (answer, took) = asked.timed().await;
        assert!(!is_degraded(&response(answer)));
        assert_eq!(took, ms(5));
    }
    assert_eq!(ranked[1].sent(), 5);
    // The links are tried again and again; nothing is lost by that.
    ranked[0].down();
    assert_eq!(bench.proxy.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_the_proxy_ejects_nobody() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    let links = bench.net.all();
    // No sign of life comes in time, since nothing runs.
    links.iter().for_each(|link| link.lives.store(false, Ordering::Relaxed));
    tokio::time::advance(Duration::from_secs(60)).await;
    bench.settle().await;
    assert!(links.iter().all(|link| bench.state_of(link) == "up"));
    sleep(ms(80)).await;
    assert!(links.iter().all(|link| bench.state_of(link) == "suspect"), "from here on it counts");
}

#[tokio::test(start_paused = true)]
async fn while_storage_is_away_nobody_is_moved() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    sleep(Duration::from_secs(10)).await;
    bench.net.all().iter().for_each(|link| link.set(Mode::Fails(ErrorKind::Unavailable)));
    for user in 0..200 {
        assert_eq!(bench.mark(user).answer().await.expect_err("no").kind, ErrorKind::Unavailable);
    }
    sleep(ms(1_500)).await;
    assert!(bench.proxy.replicas().iter().all(|view| view.breaker == "closed"));
    bench.net.all().iter().for_each(|link| link.set(Mode::Answers));
    for user in 0..50 {
        bench.filter(user).answer().await.expect("an answer from memory");
        assert_eq!(bench.home(user).last().moved, None, "it need not look into storage for it");
    }
}

#[tokio::test(start_paused = true)]
async fn who_answers_now_and_then_is_not_dead() {
    let options = ProxyOptions { extra_share: 0.0, ..ProxyOptions::new(1) };
    let bench = Bench::with(&[("feed", 1, 2)], options).await;
    let home = bench.home(5);
    let closed = |bench: &Bench| bench.proxy.replicas().iter().all(|view| view.breaker == "closed");
    bench.filter(5).answer().await.expect("an answer");
    home.set(Mode::Silent);
    let stuck: Vec<Asked> = (0..30).map(|_| bench.filter(5)).collect();
    for asked in stuck {
        assert!(is_degraded(&response(asked.answer().await)));
    }
    assert!(closed(&bench), "a stall of 80 ms");
    sleep(ms(200)).await;
    let stuck: Vec<Asked> = (0..30).map(|_| bench.filter(5)).collect();
    for asked in stuck {
        asked.answer().await.expect("an answer");
    }
    assert!(!closed(&bench));
}
