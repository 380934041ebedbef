//! First attempts, hedges, emergencies, and the proxy's own answers.

use seen_cluster::link::Flags;
use seen_proto::v1::OnUnknown;

use super::*;
use crate::fake::Mode;

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_the_users_home_as_it_is() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    for user in 0..20 {
        let answer = response(bench.filter(user).answer().await);
        assert!(!is_degraded(&answer));
        let sent = bench.home(user).last();
        assert_eq!(sent.body, filter_body(user, &[]));
        assert_eq!((sent.epoch, sent.call, sent.flags), (7, Call::Filter as u8, Flags::NONE));
        assert!(sent.timeout_us <= 80_000 && sent.moved.is_none());
    }
    assert_eq!(bench.sent(), 20);
    assert_eq!(bench.proxy.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_first_takes_long_a_second_one_is_asked() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].set(Mode::Silent);
    let (answer, took) = bench.filter(5).timed().await;
    assert!(!is_degraded(&response(answer)));
    assert!(took >= ms(30) && took <= ms(33), "{took:?}: nothing is measured yet");
    assert!(ranked[1].last().flags.contains(Flags::HEDGE));

    // What the first one says now is for nobody, however often it says it.
    let late = ranked[0].last();
    ranked[0].answer(&late);
    ranked[0].answer(&late);
    assert_eq!(bench.proxy.in_flight(), 0);
    assert!(!is_degraded(&response(bench.filter(5).answer().await)));
}

#[tokio::test(start_paused = true)]
async fn the_second_one_is_asked_when_95_of_100_would_have_been_answered() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked.iter().for_each(|link| link.set(Mode::After(ms(8))));
    for _ in 0..100 {
        bench.filter(5).answer().await.expect("an answer");
    }
    assert_eq!(ranked[1].sent(), 0);
    ranked[0].set(Mode::Silent);
    ranked[1].set(Mode::Answers);
    let (_, took) = bench.filter(5).timed().await;
    assert!(took >= ms(8) && took <= ms(13), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn where_all_are_silent_the_proxy_answers_in_time() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    bench.net.all().iter().for_each(|link| link.set(Mode::Silent));
    let (answer, took) = bench.filter(5).timed().await;
    assert!(took > ms(70) && took <= ms(80), "{took:?}");
    let answer = response(answer);
    assert!(is_degraded(&answer));
    assert_eq!(answer.unseen, [0, 1, 2], "shown, as the caller did not say otherwise");
    assert_eq!(answer.quality.map(|quality| quality.unknown), Some(3));
    assert_eq!(bench.sent(), 3, "the home, a second one, and one of another slot");
    let emergency = bench
        .net
        .all()
        .into_iter()
        .filter(|link| link.sent() > 0 && link.last().flags.contains(Flags::EMERGENCY));
    assert_eq!(emergency.count(), 1);

    let hide = v1::FilterRequest {
        on_unknown: OnUnknown::Hide.into(),
        ..decode(filter_body(5, &[])).expect("a request")
    };
    let answer = bench.ask(Call::Filter, encode(&hide), CALLER, "").answer().await;
    assert_eq!(response(answer).unseen, [0; 0]);
    let damaged = Bytes::from_static(&[0x1a, 200, 1]);
    assert!(bench.ask(Call::Filter, damaged, CALLER, "").answer().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_is_suspected_and_another_is_asked_at_once() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].freeze();
    sleep(ms(80)).await;
    assert_eq!(bench.state_of(&ranked[0]), "suspect");
    let (answer, took) = bench.filter(5).timed().await;
    assert!(!is_degraded(&response(answer)));
    assert_eq!(took, ms(0));
    assert_eq!((ranked[0].sent(), ranked[1].sent()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_budget_a_suspected_replica_is_passed_over() {
    let options = ProxyOptions { extra_share: 0.0, ..ProxyOptions::new(1) };
    let bench = Bench::with(&[("feed", 1, 2)], options).await;
    let ranked = bench.ranked(5);
    ranked[0].freeze();
    sleep(ms(80)).await;
    let (_, took) = bench.filter(5).timed().await;
    assert_eq!(took, ms(0));
    assert_eq!((ranked[0].sent(), ranked[1].sent()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stays_silent_is_given_up_until_it_is_heard_again() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].freeze();
    sleep(ms(340)).await;
    assert_eq!(bench.state_of(&ranked[0]), "ejected");
    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(ranked[0].sent(), 0);
    ranked[0].lives.store(true, Ordering::Relaxed);
    ranked[0].set(Mode::Answers);
    sleep(ms(200)).await;
    assert_eq!(bench.state_of(&ranked[0]), "up");
    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(ranked[0].sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn repeats_are_a_bounded_share() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].set(Mode::Silent);
    let asked: Vec<Asked> = (0..500).map(|_| bench.filter(5)).collect();
    let mut degraded = 0;
    for asked in asked {
        degraded += usize::from(is_degraded(&response(asked.answer().await)));
    }
    assert_eq!(ranked[0].sent(), 500);
    assert_eq!(ranked[1].sent(), 60, "a tenth, and a few");
    assert_eq!(degraded, 440);
}

#[tokio::test(start_paused = true)]
async fn without_a_slot_any_replica_is_asked() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    bench.ranked(5).iter().for_each(|link| link.down());
    let (answer, took) = bench.filter(5).timed().await;
    assert!(!is_degraded(&response(answer)));
    assert_eq!(took, ms(0));
    let sent = bench.net.all().into_iter().find(|link| link.sent() == 1).expect("one was asked");
    assert!(sent.last().flags.contains(Flags::EMERGENCY));
    bench.mark(5).answer().await.expect("a write is durable wherever it is done");

    bench.net.all().iter().for_each(|link| link.down());
    let (answer, took) = bench.filter(5).timed().await;
    assert!(is_degraded(&response(answer)));
    assert_eq!(took, ms(0));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_not_ready_is_asked_before_nobody_is() {
    let bench = Bench::start(&[("feed", 1, 1)]).await;
    bench.home(5).state(false);
    assert!(!is_degraded(&response(bench.filter(5).answer().await)));
    assert!(bench.home(5).last().flags.contains(Flags::EMERGENCY));
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_is_forgotten() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    bench.net.all().iter().for_each(|link| link.set(Mode::Silent));
    let asked = bench.filter(5);
    assert_eq!(bench.proxy.in_flight(), 1);
    asked.abandoned.store(true, Ordering::Relaxed);
    sleep(ms(40)).await;
    assert_eq!(bench.proxy.in_flight(), 0);
    assert_eq!(bench.sent(), 1, "nobody else is asked for nobody");
}
