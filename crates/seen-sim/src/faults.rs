//! What goes wrong: a random combination for each seed, and how each of it is done to the cluster.

mod map_change;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use seen_filter::hash::HashKey;
use seen_filter::{ChangeFeed, Partition, PrimaryId, Timeline, UserId};
use seen_proto::model::EvictCall;
use tokio::time::{Instant, sleep};

use crate::cluster::{PARTITIONS, Seat};
use crate::dice::Dice;
use crate::process::Host;
use crate::storage::Conditions;
use crate::workload;
use crate::world::World;

/// At most so many faults in one seed.
const FAULTS_MAX: u64 = 6;
/// How far storage's clock jumps at most, in milliseconds.
pub const JUMP_MS_MAX: u64 = 2_000;
/// How long a process is gone that is started in another way.
const RESTARTS_AFTER: Duration = Duration::from_millis(60);
/// How often all users are dropped from memory.
const EVICTS_EVERY: Duration = Duration::from_millis(70);
/// How often a feed that is behind goes on.
const BEHIND_EVERY: Duration = Duration::from_millis(5);
/// One of so many seeds has none.
const FAULTLESS_ONE_IN: u64 = 8;

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// A replica's process ends, and another one is started in its place.
    CrashReplica(Seat),
    /// A proxy's does.
    CrashProxy(u16),
    /// All replicas end at once, and are started again.
    CrashAll,
    /// A replica's process stands still.
    FreezeReplica(Seat),
    /// A proxy's does.
    FreezeProxy(u16),
    /// Nothing comes from one machine to another.
    Part(Host, Host, Ways),
    /// A replica reaches nobody, and nobody it: storage neither.
    Isolate(Seat),
    /// A replica reaches everybody but storage.
    PartFromStorage(Seat),
    /// All connections of a machine break.
    Reset(Host),
    /// Whatever a machine sends and is sent takes so many milliseconds longer.
    Slow(Host, u64),
    /// Storage answers nobody.
    StorageSilent,
    /// Storage takes so many milliseconds longer.
    StorageSlow(u64),
    /// Some of storage's answers take long, while others come by.
    StorageStraggles,
    /// Storage refuses some reads and writes.
    StorageRefuses,
    /// Storage commits, or does not, and its answer is lost.
    StorageLosesAnswers,
    /// Builds read an old state, or do not learn which.
    StorageStale,
    /// Another primary takes over: its positions are not to be compared with those of before.
    StorageFailover,
    /// The change feed stands still.
    FeedSilent,
    /// One partition of the change feed stands still, and the others go on.
    PartitionSilent(Partition),
    /// The change feed is late by so many milliseconds.
    FeedLate(u64),
    /// The change feed is behind by so many milliseconds, and brings each commit by itself.
    FeedBehind(u64),
    /// The change feed stands still, and what it had to bring is lost.
    FeedLost,
    /// The change feed brings again what it brought.
    FeedReplayed,
    /// One user's events cannot be read: the feed says that, and nothing more.
    FeedPoison,
    /// Storage's clock is off by so many milliseconds.
    ClockJump(i64),
    /// All users are dropped from all replicas' memory, again and again.
    Evictions,
    /// Another slot comes, and goes again.
    MapChange(u64),
    /// A replica is started with another key of the hash: by a wrong configuration, or as if it were of another version.
    OtherKey(Seat),
}

/// Which ways are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// From the first to the second.
    There,
    /// From the second to the first.
    Back,
    /// Both.
    Both,
}

/// When what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub mishap: Mishap,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:?}", self.mishap, self.lasts)
    }
}

/// What goes wrong in one seed, within this time.
pub fn draw(dice: &mut Dice, world: &World, within: Duration) -> Vec<Fault> {
    if dice.below(FAULTLESS_ONE_IN) == 0 {
        return Vec::new();
    }
    let within_ms = within.as_millis() as u64;
    let count = dice.within(1..=FAULTS_MAX);
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| Fault {
            after: dice.ms(0..=within_ms),
            lasts: if dice.in_mille(500) { dice.ms(50..=800) } else { dice.ms(800..=4_000) },
            mishap: one(dice, world),
        })
        .collect();
    faults.sort_by_key(|fault| fault.after);
    // One change of the map at a time, and the clock is never off by more than one jump.
    let (mut changes, mut jumps) = (0, 0);
    faults.retain(|fault| match fault.mishap {
        Mishap::MapChange(_) => {
            changes += 1;
            changes == 1
        }
        Mishap::ClockJump(_) => {
            jumps += 1;
            jumps == 1
        }
        _ => true,
    });
    faults
}

fn one(dice: &mut Dice, world: &World) -> Mishap {
    let shape = world.cluster.shape;
    let seats = shape.seats();
    let seat = seats.get(dice.below(seats.len() as u64) as usize).copied();
    let seat = seat.unwrap_or(Seat { slot: 0, number: 0 });
    let proxy = dice.below(shape.proxies.into()) as u16;
    let host = if dice.in_mille(700) { seat.host() } else { Host(proxy) };
    let ways = [Ways::There, Ways::Back, Ways::Both];
    let ways = ways.get(dice.below(3) as usize).copied().unwrap_or(Ways::Both);
    match dice.below(29) {
        0 | 1 => Mishap::CrashReplica(seat),
        2 => Mishap::CrashProxy(proxy),
        3 => Mishap::CrashAll,
        4 | 5 => Mishap::FreezeReplica(seat),
        6 => Mishap::FreezeProxy(proxy),
        7 | 8 => Mishap::Part(Host(proxy), seat.host(), ways),
        9 => Mishap::Isolate(seat),
        10 => Mishap::PartFromStorage(seat),
        11 => Mishap::Reset(host),
        12 => Mishap::Slow(host, dice.within(3..=60)),
        13 => Mishap::StorageSilent,
        14 => Mishap::StorageSlow(dice.within(3..=60)),
        15 => Mishap::StorageRefuses,
        16 => Mishap::StorageLosesAnswers,
        17 => Mishap::StorageStale,
        18 => Mishap::StorageFailover,
        19 => Mishap::FeedSilent,
        21 => {
            let partition = dice.below(PARTITIONS.into()) as u16;
            Mishap::PartitionSilent(Partition::new(partition))
        }
        22 => {
            let (ms, back) = (dice.within(200..=JUMP_MS_MAX) as i64, dice.in_mille(500));
            Mishap::ClockJump(if back { -ms } else { ms })
        }
        23 => Mishap::Evictions,
        24 | 25 => Mishap::MapChange(dice.draw()),
        26 => Mishap::OtherKey(seat),
        20 => Mishap::FeedLate(dice.within(20..=400)),
        _ => match dice.below(3) {
            0 => Mishap::FeedLost,
            1 => Mishap::FeedReplayed,
            _ => Mishap::FeedPoison,
        },
    }
}

/// Does it to the cluster, and undoes it after its time.
pub async fn befall(world: Arc<World>, fault: Fault) {
    sleep(fault.after).await;
    let name: Arc<str> = "fault".into();
    world.cluster.trace.tell(&name, fault);
    world.cluster.calm.disturb();
    match fault.mishap {
        Mishap::CrashReplica(seat) => {
            world.crash_replica(seat);
            sleep(fault.lasts).await;
            world.start_replica(seat);
        }
        Mishap::CrashProxy(number) => {
            world.crash_proxy(number);
            sleep(fault.lasts).await;
            world.start_proxy(number);
        }
        Mishap::CrashAll => {
            let seats = world.cluster.shape.seats();
            seats.iter().for_each(|seat| world.crash_replica(*seat));
            sleep(fault.lasts).await;
            seats.iter().for_each(|seat| world.start_replica(*seat));
        }
        Mishap::FreezeReplica(_) | Mishap::FreezeProxy(_) => freeze(&world, fault).await,
        Mishap::ClockJump(ms) => {
            world.cluster.clock.jump(ms);
            sleep(fault.lasts).await;
            world.cluster.clock.jump(-ms);
        }
        Mishap::Evictions => evict(&world, fault.lasts).await,
        Mishap::MapChange(seed) => {
            map_change::grow_and_shrink(&world, Dice::new(seed), fault.lasts).await;
        }
        Mishap::OtherKey(seat) => {
            world.crash_replica(seat);
            sleep(RESTARTS_AFTER).await;
            // Who keeps the number and changes the key is found out by the key alone.
            let own = world.cluster.store.hash_key().id();
            let id = if fault.lasts.as_millis().is_multiple_of(2) { own } else { 77 };
            world.start_replica_with(seat, HashKey::new(id, [77; 16]));
            sleep(fault.lasts).await;
            world.crash_replica(seat);
            sleep(RESTARTS_AFTER).await;
            world.start_replica(seat);
        }
        _ if fault.mishap.is_of_network() => befall_network(&world, fault).await,
        _ => befall_storage(&world, fault).await,
    }
    world.cluster.trace.tell(&name, format_args!("{:?} is over", fault.mishap));
    world.cluster.calm.settle();
}

impl Mishap {
    /// How storage fares meanwhile.
    fn conditions(self, numbered: bool) -> Conditions {
        let well = Conditions::default();
        match self {
            Self::StorageSilent => Conditions { silent: true, ..well },
            Self::StorageStraggles => Conditions { straggle_per_mille: 250, ..well },
            Self::StorageSlow(ms) => Conditions { slow_ms: ms, ..well },
            Self::StorageRefuses => {
                Conditions { refuse_reads_per_mille: 200, refuse_writes_per_mille: 300, ..well }
            }
            Self::StorageLosesAnswers => Conditions {
                lose_committed_per_mille: 200,
                lose_uncommitted_per_mille: 100,
                stall_per_mille: 100,
                ..well
            },
            Self::StorageStale => Conditions {
                stale_builds_per_mille: if numbered { 400 } else { 0 },
                // Where nobody knows which state it is, it is no older than S.
                lagging_builds_per_mille: if numbered { 0 } else { 400 },
                unknown_builds_per_mille: 300,
                ..well
            },
            Self::FeedSilent | Self::FeedLost => Conditions { feed_silent: true, ..well },
            Self::PartitionSilent(partition) => {
                Conditions { silent_partition: Some(partition), ..well }
            }
            Self::FeedLate(ms) => Conditions { feed_late_ms: ms, ..well },
            _ => well,
        }
    }

    const fn is_of_network(self) -> bool {
        matches!(
            self,
            Self::Part(..)
                | Self::Isolate(_)
                | Self::PartFromStorage(_)
                | Self::Reset(_)
                | Self::Slow(..)
        )
    }
}

async fn evict(world: &World, lasts: Duration) {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        for user in workload::users().map(UserId::new) {
            world.each_replica(|node| {
                // A namespace that is not named cannot be unknown.
                let _ = node.replica.evict(EvictCall { user, namespace: None });
            });
        }
        sleep(EVICTS_EVERY).await;
    }
}

async fn freeze(world: &World, fault: Fault) {
    let process = match fault.mishap {
        Mishap::FreezeReplica(seat) => world.replica_process(seat),
        Mishap::FreezeProxy(number) => world.proxy_process(number),
        _ => None,
    };
    let Some(process) = process else { return };
    process.freeze();
    sleep(fault.lasts).await;
    process.thaw();
}

async fn befall_network(world: &World, fault: Fault) {
    let (net, weather) = (&world.cluster.net, &world.cluster.weather);
    match fault.mishap {
        Mishap::Part(one, other, ways) => {
            let closed: Vec<(Host, Host)> = match ways {
                Ways::There => vec![(one, other)],
                Ways::Back => vec![(other, one)],
                Ways::Both => vec![(one, other), (other, one)],
            };
            closed.iter().for_each(|(from, to)| net.cut(*from, *to));
            sleep(fault.lasts).await;
            closed.iter().for_each(|(from, to)| net.mend(*from, *to));
        }
        Mishap::Isolate(seat) => {
            let others: Vec<Host> = world.hosts().filter(|host| *host != seat.host()).collect();
            weather.part(seat.host());
            for other in &others {
                net.cut(seat.host(), *other);
                net.cut(*other, seat.host());
            }
            sleep(fault.lasts).await;
            for other in &others {
                net.mend(seat.host(), *other);
                net.mend(*other, seat.host());
            }
            weather.join(seat.host());
        }
        Mishap::PartFromStorage(seat) => {
            weather.part(seat.host());
            sleep(fault.lasts).await;
            weather.join(seat.host());
        }
        Mishap::Reset(host) => net.reset(host),
        Mishap::Slow(host, ms) => {
            net.slow(host, ms);
            sleep(fault.lasts).await;
            net.slow(host, 0);
        }
        _ => {}
    }
}

/// Lets every commit come by so much later, each at its time.
async fn fall_behind(world: &World, behind: Duration, lasts: Duration) {
    let (store, until) = (&world.cluster.store, Instant::now() + lasts);
    let feeds = store.feeds();
    feeds.iter().for_each(|feed| store.hold_feed(*feed));
    let (mut released, mut heads) = (store.head(), VecDeque::new());
    while Instant::now() < until {
        heads.push_back((Instant::now(), store.head()));
        while let Some((_, head)) = heads.pop_front_if(|(at, _)| at.elapsed() >= behind) {
            feeds.iter().for_each(|feed| store.release_commits(*feed, head - released));
            released = head;
        }
        sleep(BEHIND_EVERY).await;
    }
    feeds.iter().for_each(|feed| store.release_feed(*feed));
}

async fn befall_storage(world: &World, fault: Fault) {
    let (weather, store) = (&world.cluster.weather, &world.cluster.store);
    if let Mishap::FeedBehind(ms) = fault.mishap {
        return fall_behind(world, Duration::from_millis(ms), fault.lasts).await;
    }
    let now = fault.mishap.conditions(world.cluster.shape.numbers_commits);
    let now = match fault.mishap {
        Mishap::FeedPoison => {
            let user = fault.lasts.as_millis() as u64 % workload::LIGHT_USERS;
            Conditions { poisoned: Some(UserId::new(user)), ..now }
        }
        _ => now,
    };
    weather.begin(now);
    match fault.mishap {
        Mishap::StorageFailover => {
            let run = world.next_timeline();
            store.begin_timeline(Timeline::new(run), PrimaryId::new(run));
            // What came of the old log is not told again at once.
            weather.lose(store.head());
        }
        Mishap::FeedReplayed => {
            let from = store.head().saturating_sub(20).max(1);
            store.feeds().into_iter().for_each(|feed| store.replay_feed(feed, from));
        }
        _ => {}
    }
    sleep(fault.lasts).await;
    if fault.mishap == Mishap::FeedLost {
        store.trim_log(store.head());
        weather.lose(store.head());
    }
    if fault.mishap == Mishap::StorageLosesAnswers {
        store.land_stalled();
    }
    weather.end(now);
}
