//! Random stories: whatever the replicas do, each call is answered once and in time, and no write is done twice.

use proptest::prelude::*;
use seen_cluster::link::NotSent;
use seen_proto::status::ErrorKind;
use seen_proto::v1::DegradedReason;

use super::*;
use crate::fake::Mode;

/// One step of a story; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Filter(u64),
    Mark,
    Users(u64),
    Mode(usize, Mode),
    Down(usize),
    Up(usize),
    Ready(usize, bool),
    Lives(usize, bool),
    /// Answers what was sent there last, though it may be answered or lost already.
    Late(usize),
    Slots(u16),
    Wait(u64),
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        3 => Just(Mode::Answers),
        1 => Just(Mode::Flags(DegradedReason::FeedStale)),
        2 => Just(Mode::Flags(DegradedReason::StorageUnavailable)),
        2 => (0..120_u64).prop_map(|after| Mode::After(ms(after))),
        4 => Just(Mode::Silent),
        1 => Just(Mode::Fails(ErrorKind::Unavailable)),
        1 => Just(Mode::Fails(ErrorKind::Overloaded)),
        1 => Just(Mode::Fails(ErrorKind::Internal)),
        1 => Just(Mode::Refuses(NotSent::NoCredit)),
        1 => Just(Mode::Refuses(NotSent::Closed)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let link = 0..64_usize;
    prop_oneof![
        6 => (0..30_u64).prop_map(Step::Filter),
        8 => Just(Step::Mark),
        1 => (0..40_u64).prop_map(Step::Users),
        4 => (link.clone(), mode()).prop_map(|(link, mode)| Step::Mode(link, mode)),
        4 => link.clone().prop_map(Step::Down),
        8 => link.clone().prop_map(Step::Up),
        1 => (link.clone(), any::<bool>()).prop_map(|(link, ready)| Step::Ready(link, ready)),
        1 => (link.clone(), any::<bool>()).prop_map(|(link, lives)| Step::Lives(link, lives)),
        1 => link.prop_map(Step::Late),
        1 => (1..4_u16).prop_map(Step::Slots),
        4 => (0..60_u64).prop_map(Step::Wait),
    ]
}

async fn story(steps: Vec<Step>) {
    let mut bench = Bench::start(&[("feed", 2, 2)]).await;
    let mut asked = Vec::new();
    let mut epoch = 7;
    for (number, step) in steps.into_iter().enumerate() {
        let links = bench.net.all();
        let at = |link: usize| &links[link % links.len()];
        match step {
            Step::Filter(user) => asked.push((bench.filter(user), CALLER)),
            // Each by another user, so that it is known again.
            Step::Mark => asked.push((bench.mark(1_000 + number as u64), CALLER)),
            Step::Users(users) => {
                let request = v1::FilterUsersRequest {
                    namespaces: vec!["feed_read".to_owned()],
                    users: (0..users).collect(),
                    ..Default::default()
                };
                let allowed = ms(300);
                let users = bench.ask(Call::FilterUsers, encode(&request), allowed, "");
                asked.push((users, allowed));
            }
            Step::Mode(link, mode) => at(link).set(mode),
            Step::Down(link) => at(link).down(),
            Step::Up(link) => fake::up(at(link), &bench.map),
            Step::Ready(link, ready) => at(link).state(ready),
            Step::Lives(link, lives) => at(link).lives.store(lives, Ordering::Relaxed),
            Step::Late(link) => {
                let last = at(link).sent.lock().last().cloned();
                last.iter().for_each(|request| at(link).answer(request));
            }
            Step::Slots(slots) => {
                epoch += 1;
                bench.map = fake::map(epoch, &[("feed", slots, 2)]);
                bench.publisher.publish(bench.map.clone());
                bench.settle().await;
            }
            Step::Wait(wait) => sleep(ms(wait)).await,
        }
    }
    for (asked, allowed) in asked {
        let (_, took) = asked.timed().await;
        assert!(took < allowed - ms(8), "{took:?} of {allowed:?}");
    }
    assert_eq!(bench.proxy.in_flight(), 0);
    let views = bench.proxy.replicas();
    assert!(views.iter().all(|view| view.in_flight == 0), "{views:?}");
    let done = bench.net.all().into_iter().flat_map(|link| link.done.lock().clone());
    let mut writes: Vec<Bytes> = done
        .filter(|body| decode::<v1::MarkRequest>(body.clone()).is_ok_and(|mark| mark.user >= 1_000))
        .collect();
    writes.sort();
    let count = writes.len();
    writes.dedup();
    assert_eq!(writes.len(), count, "a write was sent twice, though it may have been done");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn each_call_is_answered_in_time_and_no_write_is_done_twice(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(story(steps));
    }
}
