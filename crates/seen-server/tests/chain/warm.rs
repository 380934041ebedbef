//! A replica that starts takes its users from its peer, also where the change events are numbered by their places in a topic.

use std::collections::BTreeSet;

use super::ask::{READ, filter, patient, sound};
use super::chain::Chain;
use super::peer::{Replica, WARMED, map_of_two};
use super::stage::{ITEMS, USERS};
use super::wait::awaited;

/// Filters that memory did not answer alone.
const MISSES: &str = "seen_filter_misses_total";

/// Asks about every user, and checks each answer. How many of them memory alone did not give.
async fn ask_all(replica: &mut Replica, chain: &Chain) -> u64 {
    let before = replica.counted(MISSES, "");
    for user in USERS {
        let stored = chain.stored(user).await;
        let request = patient(filter(user, &[READ], ITEMS));
        let answer = replica.api.filter(request).await.expect("an answer").into_inner();
        let unread: BTreeSet<u32> = sound(&answer).iter().copied().collect();
        let items = (0_u32..).zip(ITEMS);
        let expected = items.filter(|(_, item)| !stored.contains(item)).map(|(at, _)| at);
        assert_eq!(unread, expected.collect(), "user {user}");
    }
    replica.counted(MISSES, "") - before
}

async fn holds_all(replica: &mut Replica, chain: &Chain) {
    awaited("a replica to hold all users", async || match ask_all(replica, chain).await {
        0 => Ok(()),
        missed => Err(format!("storage is still asked about {missed} users")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_warmed_by_its_peer() {
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    let folder = tempfile::tempdir().expect("a folder");
    let flags = chain.flags();
    let (map, links) = map_of_two(folder.path(), &flags);
    let mut first = Replica::start(&flags, &map, links[0]).await;
    holds_all(&mut first, &chain).await;
    // Events of the users' rows, and of others, come between what the two have read first.
    chain.sql("DELETE FROM history_feed_read WHERE user_id = 3 AND item_id = 3").await;
    chain.sql("INSERT INTO history_feed_read VALUES (4, 1, 33, 5), (70000, 1, 33, 5)").await;
    chain.agree().await;
    holds_all(&mut first, &chain).await;
    let mut second = Replica::start(&flags, &map, links[1]).await;
    let (all, given) = (USERS.count() as u64, second.counted(WARMED, "installed"));
    assert_eq!(given, all, "{}", second.lines("seen_warm"));
    assert_eq!(ask_all(&mut second, &chain).await, 0);
}
