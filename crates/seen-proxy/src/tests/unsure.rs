//! Flagged answers: who is asked again, and what is told where nobody knows better.

use seen_cluster::link::NotSent;
use seen_proto::status::ErrorKind;
use seen_proto::v1::DegradedReason;

use super::*;
use crate::fake::Mode;

const NO_STORAGE: Mode = Mode::Flags(DegradedReason::StorageUnavailable);

fn reason(answer: Result<Bytes, ApiError>) -> Option<DegradedReason> {
    match Quality::from(&response(answer).quality.unwrap_or_default()) {
        Quality::Degraded { reason, .. } => Some(reason),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn another_replica_may_reach_storage() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].set(NO_STORAGE);
    let (answer, took) = bench.filter(5).timed().await;
    assert_eq!((reason(answer), took), (None, ms(0)));
    assert_eq!((ranked[0].sent(), ranked[1].sent()), (1, 1));
}

/// One of another slot answers from storage, as where no replica of the slot can be reached.
#[tokio::test(start_paused = true)]
async fn one_of_another_slot_is_asked_where_there_is_no_second() {
    let bench = Bench::start(&[("feed", 2, 1)]).await;
    bench.home(5).set(NO_STORAGE);
    assert_eq!(reason(bench.filter(5).answer().await), None);
    assert_eq!(bench.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn where_storage_is_gone_for_all_one_more_is_asked_and_no_third() {
    let bench = Bench::start(&[("feed", 1, 3)]).await;
    bench.net.all().iter().for_each(|link| link.set(NO_STORAGE));
    let (answer, took) = bench.filter(5).timed().await;
    assert_eq!((reason(answer), took), (Some(DegradedReason::StorageUnavailable), ms(0)));
    assert_eq!(bench.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_second_one_cannot_help_is_answered_as_it_is() {
    for why in [DegradedReason::FeedStale, DegradedReason::Contested, DegradedReason::Overloaded] {
        let bench = Bench::start(&[("feed", 1, 2)]).await;
        bench.home(5).set(Mode::Flags(why));
        assert_eq!(reason(bench.filter(5).answer().await), Some(why));
        assert_eq!(bench.sent(), 1);
    }
    let options = ProxyOptions { extra_share: 0.0, ..ProxyOptions::new(1) };
    let bench = Bench::with(&[("feed", 1, 2)], options).await;
    bench.home(5).set(NO_STORAGE);
    let why = reason(bench.filter(5).answer().await);
    assert_eq!(why, Some(DegradedReason::StorageUnavailable), "no budget");
    assert_eq!(bench.sent(), 1);
}

/// Whatever becomes of the second question: the first answer knows more than the proxy does.
#[tokio::test(start_paused = true)]
async fn a_flagged_answer_is_better_than_none() {
    let ends = [
        (Mode::Silent, ms(78)),
        (Mode::Fails(ErrorKind::Internal), ms(0)),
        (Mode::Fails(ErrorKind::Overloaded), ms(0)),
        (Mode::Fails(ErrorKind::DeadlineExceeded), ms(0)),
        (Mode::Fails(ErrorKind::Corrupt), ms(0)),
        (Mode::Refuses(NotSent::TooLarge), ms(0)),
        (Mode::Refuses(NotSent::NoCredit), ms(0)),
    ];
    for (mode, after) in ends {
        let bench = Bench::start(&[("feed", 1, 2)]).await;
        let ranked = bench.ranked(5);
        ranked[0].set(NO_STORAGE);
        ranked[1].set(mode.clone());
        let (answer, took) = bench.filter(5).timed().await;
        assert_eq!(reason(answer), Some(DegradedReason::StorageUnavailable), "{mode:?}");
        assert!(took >= after && took <= after + ms(2), "{mode:?}: {took:?}");
    }
}

/// A flagged answer does not overtake one that is still to come.
#[tokio::test(start_paused = true)]
async fn whoever_was_asked_before_is_waited_for() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    ranked[0].set(Mode::After(ms(50)));
    for why in [DegradedReason::StorageUnavailable, DegradedReason::FeedStale] {
        ranked[1].set(Mode::Flags(why));
        let (answer, took) = bench.filter(5).timed().await;
        assert_eq!((reason(answer), took), (None, ms(50)), "{why:?}");
    }
    assert_eq!((ranked[0].sent(), ranked[1].sent()), (2, 2));
    ranked[0].set(Mode::Silent);
    assert_eq!(reason(bench.filter(5).answer().await), Some(DegradedReason::FeedStale));
}
