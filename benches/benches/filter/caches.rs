//! Table: what it costs to find a user's entry in general caches and in a plain table, which has to
//! be striped and given an eviction of its own. An entry here is 16 bytes, as a state is.

use std::collections::HashMap;
use std::hint::black_box;

use ahash::RandomState;
use parking_lot::Mutex;

use crate::measure::{mix, time_ns, unread};

const USERS: u64 = 200_000;
const STRIPES: usize = 256;

pub fn print() {
    let mut draw = unread(0);
    let mut user = move || mix(draw.next().unwrap_or(0) % USERS);
    let users = || (0..USERS).map(mix);

    let stripes: Vec<Mutex<HashMap<u64, [u64; 2], RandomState>>> =
        (0..STRIPES).map(|_| Mutex::new(HashMap::default())).collect();
    let stripe = |user: u64| &stripes[(user >> 56) as usize % STRIPES];
    for user in users() {
        stripe(user).lock().insert(user, [user; 2]);
    }
    let table_ns = time_ns(20_000, || {
        let user = user();
        black_box(stripe(user).lock().get(&user));
    });

    let quick = quick_cache::sync::Cache::<u64, [u64; 2], _, _>::with(
        2 * USERS as usize,
        2 * USERS,
        quick_cache::UnitWeighter,
        RandomState::default(),
        quick_cache::sync::DefaultLifecycle::default(),
    );
    users().for_each(|user| quick.insert(user, [user; 2]));
    let quick_ns = time_ns(20_000, || {
        black_box(quick.get(&user()));
    });

    let moka = moka::sync::Cache::builder()
        .max_capacity(2 * USERS)
        .build_with_hasher(RandomState::default());
    users().for_each(|user| moka.insert(user, [user; 2]));
    moka.run_pending_tasks();
    let moka_ns = time_ns(20_000, || {
        black_box(moka.get(&user()));
    });

    println!("\n| finding one of {USERS} users | ns | ratio |\n|---|---:|---:|");
    for (name, ns) in [
        ("striped table, a lock a stripe", table_ns),
        ("crate quick_cache", quick_ns),
        ("crate moka", moka_ns),
    ] {
        println!("| {name} | {ns:.0} | {:.1} |", ns / table_ns);
    }
}
