//! How fast a receiver takes a donor's users, and how that compares with what the machine can do with the bytes.

use seen_filter::VirtualSet;
use std::sync::Arc;
use std::time::Instant;

use seen_cluster::link::{ClientOptions, ServerOptions, VERSION_MAX, VERSION_MIN, serve_tcp};
use seen_proto::v1;
use seen_replica::Replica;
use seen_replica::link::{ClusterRole, LinkDonors, ReplicaLink, Standing};
use seen_replica::warm::{DonorLimits, Progress, WarmupOptions, warm_up};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::arguments::Arguments;
use super::figures::Rounds;
use super::node::{self, Node};
use super::plain;
use super::progress::Bar;
use super::thread::Serving;

/// What an entry takes on the way besides its own bytes.
const ENTRY_HEAD_BYTES: u64 = 15;
/// Users by which the size of an entry is told.
const PROBED: u64 = 1_000;

/// What users of one size came to.
#[derive(Debug, Serialize)]
pub struct Found {
    pub items: u64,
    pub users: u64,
    /// Of one entry on the way, its head included.
    pub entry_bytes: f64,
    /// Copied in memory, bytes a second.
    pub copied: Rounds,
    /// Plain TCP.
    pub loopback: Carried,
    /// The link, with nothing made of what comes.
    pub link: Carried,
    pub unbounded: Warmed,
    pub bounded: Warmed,
}

/// How bytes went from one thread to another.
#[derive(Debug, Serialize)]
pub struct Carried {
    pub bytes_per_s: Rounds,
    /// Processor time of the sending and the receiving thread, in nanoseconds for the bytes of one user.
    pub sender_ns: Rounds,
    pub receiver_ns: Rounds,
}

/// What warm-ups under one bound came to.
#[derive(Debug, Serialize)]
pub struct Warmed {
    pub users_per_s: Rounds,
    pub carried: Carried,
    /// Of the bytes a second that plain TCP carried in the same round.
    pub of_loopback: Rounds,
    /// The same by the processor time of whichever end took more of it: what it would be if each end had a processor to itself.
    pub of_loopback_busy: Rounds,
}

/// Bytes of so many users on their way once.
#[derive(Clone, Copy, Debug)]
struct Once {
    bytes: f64,
    took_s: f64,
    sender_s: f64,
    receiver_s: f64,
}

impl Once {
    /// Runs something that says how long it took and how many bytes there were.
    fn of(threads: &[Serving; 2], run: impl FnOnce(&Serving, &Serving) -> (f64, f64)) -> Self {
        let [sender, receiver] = threads;
        let (sender_s, receiver_s) = (sender.busy_s(), receiver.busy_s());
        let (took_s, bytes) = run(sender, receiver);
        let (sender_s, receiver_s) = (sender.busy_s() - sender_s, receiver.busy_s() - receiver_s);
        Self { bytes, took_s, sender_s, receiver_s }
    }

    /// Bytes a second of the end that is busier.
    fn busy_rate(&self) -> f64 {
        self.bytes / self.sender_s.max(self.receiver_s)
    }
}

/// Users of each size in turn.
pub fn measure(arguments: &Arguments, runtime: &Runtime, bar: &Bar) -> Vec<Found> {
    arguments.items.iter().map(|items| size(arguments, *items, runtime, bar)).collect()
}

fn size(arguments: &Arguments, items: u64, runtime: &Runtime, bar: &Bar) -> Found {
    let threads = [Serving::start("donor"), Serving::start("receiver")];
    let giver = |users| {
        let store = node::store();
        let donor = Node::start(runtime, &store, 1);
        donor.fill(users, items);
        (store, donor)
    };
    bar.says(&format!("rate: users of {items} items"));
    let (store, donor) = giver(PROBED);
    let open = |donor: &Node, limits| listen(&threads[0], &donor.replica, limits);
    let unlimited = DonorLimits { busy_us_max: u64::MAX, ..DonorLimits::default() };
    let warm = |store: &_, from: &str, users| {
        let taker = Node::start(runtime, store, 2);
        Once::of(&threads, |_, receiver| warm_once(&taker.replica, from, users, receiver))
    };
    let entry_bytes = warm(&store, &open(&donor, unlimited), PROBED).bytes / PROBED as f64;
    let users = arguments.users.min((arguments.megabytes as f64 * 1e6 / entry_bytes) as u64).max(1);
    drop(donor);
    let (store, donor) = giver(users);
    let addresses = [unlimited, DonorLimits::default()].map(|limits| open(&donor, limits));
    let bytes = entry_bytes * users as f64;
    let plain = |carry: fn(usize, &Serving, &Serving) -> f64| {
        Once::of(&threads, |sender, receiver| (carry(bytes as usize, sender, receiver), bytes))
    };
    let (mut copied, mut all) = (Vec::new(), [const { Vec::new() }; 4]);
    for round in 1..=arguments.rounds {
        let says = |what: &str| bar.says(&format!("rate: {items} items, round {round}: {what}"));
        says("bytes without users");
        copied.push(bytes / plain::copy_s(bytes as usize));
        all[0].push(plain(plain::loopback_s));
        all[1].push(plain(plain::link_s));
        says("warm-up without a bound");
        all[2].push(warm(&store, &addresses[0], users));
        says("warm-up, a donor's share as by default");
        all[3].push(warm(&store, &addresses[1], users));
    }
    let [loopback, link, unbounded, bounded] = &all;
    Found {
        items,
        users,
        entry_bytes,
        copied: Rounds::of(copied),
        loopback: carried(loopback, users),
        link: carried(link, users),
        unbounded: warmed(unbounded, loopback, users),
        bounded: warmed(bounded, loopback, users),
    }
}

fn carried(all: &[Once], users: u64) -> Carried {
    let ns = |busy_s: f64| busy_s * 1e9 / users as f64;
    Carried {
        bytes_per_s: Rounds::of(all.iter().map(|one| one.bytes / one.took_s)),
        sender_ns: Rounds::of(all.iter().map(|one| ns(one.sender_s))),
        receiver_ns: Rounds::of(all.iter().map(|one| ns(one.receiver_s))),
    }
}

fn warmed(all: &[Once], loopback: &[Once], users: u64) -> Warmed {
    let of = |rate: fn(&Once) -> f64| {
        Rounds::of(all.iter().zip(loopback).map(|(one, plain)| rate(one) / rate(plain)))
    };
    Warmed {
        users_per_s: Rounds::of(all.iter().map(|one| users as f64 / one.took_s)),
        carried: carried(all, users),
        of_loopback: of(|one| one.bytes / one.took_s),
        of_loopback_busy: of(Once::busy_rate),
    }
}

/// Serves a replica's link on a thread, as a process of a cluster does; its address.
fn listen(thread: &Serving, replica: &Arc<Replica>, donor: DonorLimits) -> String {
    let role = ClusterRole {
        pool: "feed".to_owned(),
        slot: 0,
        program: "bench".to_owned(),
        credit_bytes: 1 << 24,
        donor,
    };
    let link = Arc::new(ReplicaLink::new(Arc::new(Standing::new(Arc::clone(replica))), role));
    let listener = thread.run(async { TcpListener::bind("127.0.0.1:0").await.expect("a port") });
    let address = listener.local_addr().expect("an address").to_string();
    thread.handle.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let link = Arc::clone(&link);
            tokio::spawn(async move {
                let never = std::future::pending();
                // The end of the connection is the receiver's doing.
                let _ = serve_tcp(stream, None, &*link, &ServerOptions::default(), never).await;
            });
        }
    });
    address
}

/// A warm-up of an empty replica; how long it took, and the bytes of its stream.
fn warm_once(replica: &Arc<Replica>, from: &str, users: u64, receiver: &Serving) -> (f64, f64) {
    let hello = || v1::LinkHello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        lane: v1::LinkLane::Transfer.into(),
        ..v1::LinkHello::default()
    };
    let (replica, from) = (Arc::clone(replica), from.to_owned());
    let (summary, took_s) = receiver.run(async move {
        let live = move || vec![from.clone()];
        let connect = move |address: &str| ClientOptions::new(address, Arc::new(hello));
        let donors = LinkDonors::new(live, connect);
        let progress = Arc::new(Progress::new());
        let began = Instant::now();
        let summary =
            warm_up(&replica, &donors, &WarmupOptions::of(VirtualSet::ALL), &progress).await;
        (summary, began.elapsed().as_secs_f64())
    });
    assert_eq!(summary.progress.installed, users, "{summary:?}");
    (took_s, (summary.progress.bytes + users * ENTRY_HEAD_BYTES) as f64)
}
