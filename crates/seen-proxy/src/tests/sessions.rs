//! Sessions without a token: who carries a claim.

use seen_cluster::link::{Moved, NotSent};
use seen_proto::status::ErrorKind;

use super::*;
use crate::fake::Mode;

impl Bench {
    /// The claim that a Filter of this user was sent with, at whoever answered.
    async fn claim(&self, user: u64, token: &[u8]) -> Option<Moved> {
        let before: Vec<usize> = self.net.all().iter().map(|link| link.sent()).collect();
        let body = filter_body(user, token);
        self.ask(Call::Filter, body, CALLER, "").answer().await.expect("an answer");
        let links = self.net.all();
        let mut asked = links.iter().zip(before).filter(|(link, before)| link.sent() > *before);
        asked.next().and_then(|(link, _)| link.last().moved)
    }

    /// The proxy has run for a while: replicas that come now were away.
    async fn grown(pools: &[(&str, u16, u16)]) -> Self {
        let bench = Self::start(pools).await;
        sleep(Duration::from_secs(10)).await;
        bench
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_home_is_away_a_claim_is_made_and_shared() {
    let bench = Bench::grown(&[("feed", 1, 2)]).await;
    assert_eq!(bench.claim(5, b"").await, None);
    bench.home(5).state(false);
    let claim = bench.claim(5, b"").await.expect("a claim");
    assert_eq!(claim.incarnation, 0xabc);
    assert_eq!(bench.claim(5, b"token").await, None, "the token says it all");
    sleep(Duration::from_secs(60)).await;
    let other = (6..100).find(|user| bench.home(*user).target == bench.home(5).target);
    let other = bench.claim(other.expect("one more"), b"").await;
    assert_eq!(other, Some(claim), "nothing changed: one fence satisfies both");
    let stays = (6..100).find(|user| bench.home(*user).target != bench.home(5).target);
    assert_eq!(bench.claim(stays.expect("one more"), b"").await, None, "who was not moved");
}

#[tokio::test(start_paused = true)]
async fn after_the_home_is_back_claims_are_made_for_a_while() {
    let bench = Bench::grown(&[("feed", 1, 2)]).await;
    bench.home(5).state(false);
    let away = bench.claim(5, b"").await.expect("a claim");
    bench.home(5).state(true);
    let back = bench.claim(5, b"").await.expect("a claim");
    assert!(back.sequence > away.sequence, "it stands for what was done meanwhile, too");
    assert_eq!(bench.claim(5, b"token").await, None);
    sleep(ms(5_900)).await;
    assert_eq!(bench.claim(5, b"").await, Some(back));
    sleep(ms(200)).await;
    assert_eq!(bench.claim(5, b"").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_home_that_is_back_is_told_by_a_young_proxy_too() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    assert_eq!(bench.claim(5, b"").await, None, "found at the start: it was not away");
    bench.mark(5).answer().await.expect("done");
    bench.home(5).state(false);
    bench.home(5).state(true);
    assert!(bench.claim(5, b"").await.is_some(), "it may have begun anew, without the mark");
}

#[tokio::test(start_paused = true)]
async fn a_second_replica_is_told_of_a_user_who_wrote_lately() {
    let bench = Bench::grown(&[("feed", 1, 2)]).await;
    let ranked = bench.ranked(5);
    let reader = (6..100).find(|user| bench.home(*user).target == ranked[0].target);
    bench.mark(5).answer().await.expect("done");
    ranked[0].set(Mode::Silent);
    bench.filter(5).answer().await.expect("an answer");
    let first = ranked[1].last().moved.expect("a claim: the home may know more");
    bench.filter(5).answer().await.expect("an answer");
    let second = ranked[1].last().moved.expect("a claim");
    assert!(second.sequence > first.sequence, "what was covered before says nothing of now");
    bench.filter(reader.expect("one more")).answer().await.expect("an answer");
    assert_eq!(ranked[1].last().moved, None, "who wrote nothing misses nothing");
    sleep(Duration::from_secs(20)).await;
    bench.filter(5).answer().await.expect("an answer");
    assert_eq!(ranked[1].last().moved, None, "what was written long ago has come by");
}

#[tokio::test(start_paused = true)]
async fn the_home_is_told_of_a_write_that_another_one_did() {
    for mode in [Mode::Refuses(NotSent::NoCredit), Mode::Fails(ErrorKind::Draining)] {
        let bench = Bench::grown(&[("feed", 1, 2)]).await;
        let ranked = bench.ranked(5);
        ranked[0].set(mode);
        bench.mark(5).answer().await.expect("done by the other one");
        ranked[0].set(Mode::Answers);
        bench.filter(5).answer().await.expect("an answer");
        assert!(ranked[0].last().moved.is_some());
        let reader = (6..100).find(|user| bench.home(*user).target == ranked[0].target);
        bench.filter(reader.expect("one more")).answer().await.expect("an answer");
        assert_eq!(ranked[0].last().moved, None);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_stands_in_is_told_of_a_write_that_a_third_one_did() {
    // The third one is of the same slot, or of another.
    for (slots, replicas) in [(1, 3), (2, 2)] {
        let bench = Bench::grown(&[("feed", slots, replicas)]).await;
        let ranked = bench.ranked(5);
        ranked[0].state(false);
        bench.mark(5).answer().await.expect("done by the one that stands in");
        let away = bench.claim(5, b"").await.expect("a claim");
        assert_eq!(bench.claim(5, b"").await, Some(away), "it did what it is asked about itself");
        ranked[1].set(Mode::Fails(ErrorKind::Unavailable));
        bench.mark(5).answer().await.expect("done by a third one");
        ranked[1].set(Mode::Answers);
        let told = bench.claim(5, b"").await.expect("a claim");
        assert!(told.sequence > away.sequence, "what was covered before says nothing of that");
    }
}

#[tokio::test(start_paused = true)]
async fn writes_carry_no_claim() {
    let bench = Bench::grown(&[("feed", 1, 2)]).await;
    bench.home(5).state(false);
    bench.mark(5).answer().await.expect("done");
    let asked = bench.net.all().into_iter().find(|link| link.sent() > 0).expect("one was asked");
    assert_eq!(asked.last().moved, None);
}

#[tokio::test(start_paused = true)]
async fn another_map_moves_users_for_a_while() {
    let mut bench = Bench::grown(&[("feed", 1, 2)]).await;
    let next = fake::map(8, &[("feed", 1, 3)]);
    bench.publisher.publish(next.clone());
    bench.settle().await;
    let fresh = bench.net.all().into_iter().filter(|link| link.target.name.contains(".0.2:"));
    fresh.for_each(|link| fake::up(&link, &next));
    bench.map = next;
    let moved: Vec<u64> =
        (0..60).filter(|user| bench.home(*user).target.name.contains(".0.2:")).collect();
    assert!(!moved.is_empty());
    for user in 0..60 {
        assert_eq!(bench.claim(user, b"").await.is_some(), moved.contains(&user), "{user}");
    }
    sleep(ms(7_000)).await;
    for user in 0..60 {
        assert_eq!(bench.claim(user, b"").await, None);
    }
}
