//! Another map while requests are under way, and replicas that are not who they should be.

use seen_cluster::link::{Flags, LinkChange};
use seen_cluster::map::SlotMap;
use seen_proto::status::ErrorKind;

use super::*;
use crate::fake::Mode;

impl Bench {
    async fn publish(&mut self, next: ResolvedMap) {
        self.publisher.publish(next.clone());
        self.settle().await;
        self.map = next;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_answered_by_whoever_has_it() {
    let mut bench = Bench::start(&[("feed", 2, 2)]).await;
    let home = bench.home(5);
    home.set(Mode::After(ms(20)));
    let asked = bench.filter(5);
    let links = bench.net.all().len();
    let mut draft = bench.map.map.to_draft();
    draft.epoch = draft.epoch.next();
    for slot in &mut draft.pools[0].slots {
        slot.replicas.retain(|replica| *replica.address != *home.target.name);
    }
    bench.publish(fake::resolve(SlotMap::new(draft).expect("valid"))).await;
    assert_eq!(bench.net.all().len(), links, "those that stay are not connected to again");
    assert_eq!(bench.state_of(&home), "gone");
    let (answer, took) = asked.timed().await;
    assert!(!is_degraded(&response(answer)));
    assert_eq!(took, ms(20));

    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(home.sent(), 1);
    assert_eq!(bench.home(5).last().epoch, 8);
    assert_eq!(Arc::strong_count(&home), 2, "nobody but the test holds its link any more");
}

/// A replica that is gone from the map is held as long as anybody waits for it, and no longer.
#[tokio::test(start_paused = true)]
async fn who_waits_long_for_a_replica_that_is_gone_is_answered_by_it() {
    let mut bench = Bench::start(&[("feed", 1, 2)]).await;
    let home = bench.home(5);
    home.set(Mode::After(ms(30_000)));
    let asked = bench.ask(Call::Mark, mark_body(5), ms(60_000), "");
    let mut draft = bench.map.map.to_draft();
    draft.epoch = draft.epoch.next();
    draft.pools[0].slots[0].replicas.retain(|replica| *replica.address != *home.target.name);
    bench.publish(fake::resolve(SlotMap::new(draft).expect("valid"))).await;
    sleep(ms(29_000)).await;
    assert!(Arc::strong_count(&home) > 2, "its link is held");
    let (answer, took) = asked.timed().await;
    answer.expect("marked");
    assert_eq!(took, ms(30_000));
    sleep(ms(100)).await;
    assert_eq!(Arc::strong_count(&home), 2, "nobody but the test holds its link any more");
}

#[tokio::test(start_paused = true)]
async fn what_fails_during_a_change_is_asked_by_the_new_map() {
    let mut bench = Bench::start(&[("feed", 2, 1)]).await;
    let home = bench.home(5);
    home.set(Mode::Silent);
    let asked = bench.filter(5);
    // The user's virtual slot goes to the other slot.
    let mut draft = bench.map.map.to_draft();
    draft.epoch = draft.epoch.next();
    let user = bench.map.map.virtual_slot(UserId::new(5));
    for slot in &mut draft.pools[0].slots {
        match slot.owned.remove(user) {
            true => slot.leaving.insert(user),
            false => slot.owned.insert(user),
        };
    }
    bench.publish(fake::resolve(SlotMap::new(draft).expect("valid"))).await;
    home.down();
    assert!(!is_degraded(&response(asked.answer().await)));
    assert_ne!(bench.home(5).target, home.target);
    let sent = bench.home(5).last();
    assert_eq!(sent.epoch, 8);
    assert!(!sent.flags.contains(seen_cluster::link::Flags::EMERGENCY), "it owns the user now");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_somebody_else_is_not_used() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let home = bench.home(5);
    home.down();
    let mut identity = fake::identity(&bench.map, &home.target);
    identity.slot = 9;
    let state = v1::ReplicaState { ready: true, ..Default::default() };
    let up = |identity| LinkChange::Up { identity, state: state.clone(), credit_bytes: 1 };
    home.events.changed(up(identity));
    assert_eq!(bench.state_of(&home), "refused");
    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(home.sent(), 0);
    home.events.changed(up(fake::identity(&bench.map, &home.target)));
    assert_eq!(bench.state_of(&home), "up");
    let refusal = v1::LinkRefusal { reason: "POOL".to_owned(), ..Default::default() };
    home.events.changed(LinkChange::Refused(refusal));
    home.down();
    assert_eq!(bench.state_of(&home), "refused");
}

#[tokio::test(start_paused = true)]
async fn settings_that_are_not_accepted_any_more_are_refused() {
    let mut bench = Bench::start(&[("feed", 1, 2)]).await;
    let mut draft = bench.map.map.to_draft();
    draft.epoch = draft.epoch.next();
    draft.settings = vec![78];
    bench.publish(fake::resolve(SlotMap::new(draft).expect("valid"))).await;
    assert!(!bench.proxy.is_ready());
    assert_eq!(bench.state_of(&bench.home(5)), "refused");
    assert!(is_degraded(&response(bench.filter(5).answer().await)));

    // The map is corrected: those that are connected are taken back as they are.
    let mut draft = bench.map.map.to_draft();
    draft.epoch = draft.epoch.next();
    draft.settings = Vec::new();
    bench.publish(fake::resolve(SlotMap::new(draft).expect("valid"))).await;
    assert_eq!(bench.state_of(&bench.home(5)), "up");
    assert!(!is_degraded(&response(bench.filter(5).answer().await)));
}

/// All began at once: whoever asks is answered by storage, and not sent away.
#[tokio::test(start_paused = true)]
async fn where_nobody_is_ready_yet_anybody_is_asked_in_an_emergency() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    bench.net.all().iter().for_each(|link| link.state(false));
    assert!(bench.proxy.is_ready());
    assert!(!is_degraded(&response(bench.filter(5).answer().await)));
    let asked: Vec<_> = bench.net.all().into_iter().filter(|link| link.sent() > 0).collect();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].last().flags.contains(Flags::EMERGENCY));
    bench.net.all().iter().for_each(|link| link.down());
    assert!(!bench.proxy.is_ready());
}

/// Whoever is asked before that has nobody to ask.
#[tokio::test(start_paused = true)]
async fn all_replicas_are_tried_once_each_lane_was_opened_or_failed() {
    let map = fake::map(7, &[("feed", 2, 1)]);
    let (_publisher, handle) = MapHandle::new(map.clone());
    let net = Arc::new(FakeNet::default());
    let proxy = Proxy::new(ProxyOptions::new(1), Clock::start(), handle, net.clone());
    assert!(!proxy.has_tried_all(), "it has no map yet");
    proxy.connect();
    let links = net.all();
    assert_eq!(links.len(), 4);
    for (at, link) in links.iter().enumerate() {
        assert!(!proxy.has_tried_all(), "after {at}");
        match at {
            0 => fake::up(link, &map),
            _ => link.down(),
        }
    }
    assert!(proxy.has_tried_all());
    // What is found out later is no start.
    links[0].down();
    assert!(proxy.has_tried_all());
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_a_replica_keeps_the_proxy_from_nobody() {
    let bench = Bench::start(&[("feed", 1, 1), ("push", 1, 1)]).await;
    let asked = bench.ask(Call::Filter, filter_body(5, b""), CALLER, "push");
    asked.answer().await.expect("an answer");
    let only = bench.net.all().into_iter().find(|link| link.sent() == 1).expect("the one of push");
    only.down();
    assert!(bench.proxy.is_ready(), "feeds are answered as before");
    assert!(!is_degraded(&response(bench.filter(5).answer().await)));
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_no_pool_has_is_named() {
    let bench = Bench::start(&[("feed", 1, 1), ("push", 1, 1)]).await;
    let asked = bench.ask(Call::Filter, filter_body(5, b""), CALLER, "nightly");
    let error = asked.answer().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("nightly") && error.message.contains("feed, push"), "{error}");
    bench.ask(Call::Filter, filter_body(5, b""), CALLER, "push").answer().await.expect("known");
    assert_eq!(bench.home(5).sent(), 0, "pools share no replicas");
}

#[tokio::test(start_paused = true)]
async fn a_draining_replica_answers_what_it_has() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    let home = bench.home(5);
    home.set(Mode::After(ms(5)));
    let asked = bench.filter(5);
    home.events.changed(LinkChange::Draining);
    assert_eq!(bench.state_of(&home), "draining");
    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(home.sent(), 1);
    assert!(!is_degraded(&response(asked.answer().await)));
}
