//! Brings users into a replica's memory.

use std::time::{Duration, Instant};

use seen_client::{FilterCall, Session};
use tokio::task::JoinSet;

use super::seen::Replica;
use super::{KIND, NAMESPACE};

/// Questions under way at once.
const AT_ONCE: usize = 32;
/// How long builds may take before it is looked again.
const PAUSE: Duration = Duration::from_millis(200);
/// An item that nobody reads: "unread" comes from memory only if the feed has proven itself fresh.
const NEVER_READ: u64 = u64::MAX;
/// Longest that it may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Asks about each of these users until memory alone has answered about all: a replica that has just
/// begun keeps nothing until it has seen S of the feed, and doubts everybody where the feed begins.
pub async fn users(replica: &Replica, users: impl Iterator<Item = u64>) {
    let users: Vec<u64> = users.collect();
    let began = Instant::now();
    loop {
        let (filters, hits) = traffic(replica).await;
        ask(replica, &users).await;
        let (filters_now, hits_now) = traffic(replica).await;
        let missed = (filters_now - filters) - (hits_now - hits);
        if missed == 0 {
            return;
        }
        let wanted = users.len();
        assert!(began.elapsed() < LIMIT, "{missed} of {wanted} users do not come into memory");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Filters that were answered, and those of them that memory alone answered.
pub async fn traffic(replica: &Replica) -> (u64, u64) {
    let traffic = replica.status().await.traffic.unwrap_or_default();
    (traffic.filters, traffic.hits)
}

async fn ask(replica: &Replica, users: &[u64]) {
    let mut under_way = JoinSet::new();
    for user in users {
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        let (client, session) = (replica.client.clone(), Session::new(*user));
        under_way.spawn(async move {
            // Whether it was answered is of no matter here.
            let _ = client
                .filter(&session, FilterCall::new(NAMESPACE).items(KIND, [1, NEVER_READ]))
                .await;
        });
    }
    under_way.join_all().await;
}
