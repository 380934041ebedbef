//! What goes wrong: turmoil's own faults, and a feed and storage that are late.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use seen_sim::cluster::{Seat, Shape};
use seen_sim::storage::Conditions;
use seen_sim::{Dice, World};
use turmoil::Sim;

use crate::ways::Sockets;

/// At most so many faults in one seed.
const FAULTS_MAX: u64 = 5;
/// One of so many seeds has none.
const FAULTLESS_ONE_IN: u64 = 8;
/// What a message takes at least, and again once a slow way is as fast as the others.
pub const LATENCY_MIN: Duration = Duration::from_millis(1);

/// A machine with a process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// A replica's.
    Replica(Seat),
    /// A proxy's.
    Proxy(u16),
}

impl Machine {
    /// Where it is.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Replica(seat) => seat.address().ip(),
            Self::Proxy(number) => Ipv4Addr::new(10, 1, 0, number as u8 + 1).into(),
        }
    }

    /// All of a cluster.
    pub fn all(shape: &Shape) -> Vec<Self> {
        let replicas = shape.seats().into_iter().map(Self::Replica);
        replicas.chain((0..shape.proxies).map(Self::Proxy)).collect()
    }
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mishap {
    /// What one sends to the other, and the other to it, is lost.
    Partition(Machine, Machine),
    /// What the first sends to the second is lost.
    PartitionOneWay(Machine, Machine),
    /// What a machine sends, and is sent, is lost.
    Isolate(Machine),
    /// What one sends to the other waits, and the other way round.
    Hold(Machine, Machine),
    /// A process ends, its connections are closed, and it is started again.
    Crash(Machine),
    /// A machine loses its power: nobody is told that its connections are gone.
    PowerOff(Machine),
    /// What one sends to the other takes so many milliseconds.
    Slow(Machine, Machine, u64),
    /// The change feed is late by so many milliseconds.
    FeedLate(u64),
    /// The change feed brings nothing.
    FeedSilent,
    /// Storage takes so many milliseconds longer.
    StorageSlow(u64),
    /// Storage answers nobody.
    StorageSilent,
}

/// When what goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// When it begins.
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub mishap: Mishap,
}

/// What goes wrong in one seed, within this time.
pub fn draw(dice: &mut Dice, shape: &Shape, within: Duration) -> Vec<Fault> {
    if dice.below(FAULTLESS_ONE_IN) == 0 {
        return Vec::new();
    }
    let within_ms = within.as_millis() as u64;
    let mut faults: Vec<Fault> = (0..dice.within(1..=FAULTS_MAX))
        .map(|_| Fault {
            after: dice.ms(0..=within_ms),
            lasts: if dice.in_mille(500) { dice.ms(20..=300) } else { dice.ms(300..=1_500) },
            mishap: one(dice, shape),
        })
        .collect();
    faults.sort_by_key(|fault| fault.after);
    faults
}

fn one(dice: &mut Dice, shape: &Shape) -> Mishap {
    let machines = Machine::all(shape);
    let machine = machines[dice.below(machines.len() as u64) as usize];
    let seats = shape.seats();
    let seat = seats[dice.below(seats.len() as u64) as usize];
    // Those that talk to each other: a proxy and a replica, or two replicas of a slot.
    let other = if dice.in_mille(800) {
        Machine::Proxy(dice.below(shape.proxies.into()) as u16)
    } else {
        let number = (seat.number + 1) % shape.replicas;
        Machine::Replica(Seat { number, ..seat })
    };
    let mut pair = [Machine::Replica(seat), other];
    if dice.in_mille(500) {
        pair.reverse();
    }
    let [from, to] = pair;
    match dice.below(16) {
        0 | 1 => Mishap::Partition(from, to),
        2 | 3 => Mishap::PartitionOneWay(from, to),
        4 => Mishap::Isolate(machine),
        5..=7 => Mishap::Hold(from, to),
        8 | 9 => Mishap::Crash(machine),
        10 => Mishap::PowerOff(machine),
        11 => Mishap::Slow(from, to, dice.within(5..=60)),
        12 | 13 => Mishap::FeedLate(dice.within(20..=400)),
        14 => Mishap::FeedSilent,
        _ if dice.in_mille(500) => Mishap::StorageSlow(dice.within(5..=60)),
        _ => Mishap::StorageSilent,
    }
}

/// What faults are done to.
pub struct Scene<'a, 'b> {
    /// Turmoil's hosts.
    pub sim: &'a mut Sim<'b>,
    /// What runs on them.
    pub world: &'a World,
    /// The sockets between them.
    pub sockets: &'a Sockets,
    /// What a message takes at most.
    pub latency_max: Duration,
}

impl Scene<'_, '_> {
    /// It begins.
    pub fn begin(&mut self, fault: &Fault) {
        let (mishap, lasts) = (fault.mishap, fault.lasts);
        self.world.cluster.trace.tell(&"fault".into(), format_args!("{mishap:?} for {lasts:?}"));
        self.world.cluster.calm.disturb();
        match mishap {
            Mishap::Partition(one, other) => self.sim.partition(one.ip(), other.ip()),
            Mishap::PartitionOneWay(from, to) => self.sim.partition_oneway(from.ip(), to.ip()),
            Mishap::Isolate(machine) => self.isolate(machine),
            Mishap::Hold(one, other) => self.sim.hold(one.ip(), other.ip()),
            Mishap::Crash(machine) => self.crash(machine),
            Mishap::PowerOff(machine) => {
                self.isolate(machine);
                self.crash(machine);
            }
            Mishap::Slow(one, other, ms) => {
                self.sim.set_link_latency(one.ip(), other.ip(), Duration::from_millis(ms));
            }
            _ => self.world.cluster.weather.begin(conditions(mishap)),
        }
    }

    /// It is over.
    pub fn end(&mut self, fault: &Fault) {
        match fault.mishap {
            Mishap::Partition(one, other) | Mishap::PartitionOneWay(one, other) => {
                self.repair(one, other);
            }
            Mishap::Isolate(machine) => self.join(machine),
            Mishap::Hold(one, other) => self.sim.release(one.ip(), other.ip()),
            Mishap::Crash(machine) => self.start(machine),
            Mishap::PowerOff(machine) => {
                self.join(machine);
                self.start(machine);
            }
            Mishap::Slow(one, other, _) => self.usual(one, other),
            _ => self.world.cluster.weather.end(conditions(fault.mishap)),
        }
        let over = format_args!("{:?} is over", fault.mishap);
        self.world.cluster.trace.tell(&"fault".into(), over);
        self.world.cluster.calm.settle();
    }

    /// What a message takes between two machines is as it was at the beginning.
    pub fn usual(&mut self, one: Machine, other: Machine) {
        self.sim.set_link_latency(one.ip(), other.ip(), LATENCY_MIN);
        self.sim.set_link_max_message_latency(one.ip(), other.ip(), self.latency_max);
    }

    fn others(&self, machine: Machine) -> Vec<Machine> {
        let all = Machine::all(&self.world.cluster.shape).into_iter();
        all.filter(|other| *other != machine).collect()
    }

    fn isolate(&mut self, machine: Machine) {
        for other in self.others(machine) {
            self.sim.partition(machine.ip(), other.ip());
        }
    }

    fn join(&mut self, machine: Machine) {
        for other in self.others(machine) {
            self.repair(machine, other);
        }
    }

    fn repair(&mut self, one: Machine, other: Machine) {
        self.sim.repair(one.ip(), other.ip());
        self.sockets.tear(one.ip(), other.ip());
    }

    /// Its host ends first: there its sockets belong.
    fn crash(&mut self, machine: Machine) {
        if !self.sim.is_host_running(machine.ip()) {
            return;
        }
        self.sim.crash(machine.ip());
        match machine {
            Machine::Replica(seat) => self.world.crash_replica(seat),
            Machine::Proxy(number) => self.world.crash_proxy(number),
        }
    }

    fn start(&mut self, machine: Machine) {
        if !self.sim.is_host_running(machine.ip()) {
            self.sim.bounce(machine.ip());
        }
    }
}

fn conditions(mishap: Mishap) -> Conditions {
    let well = Conditions::default();
    match mishap {
        Mishap::FeedLate(ms) => Conditions { feed_late_ms: ms, ..well },
        Mishap::FeedSilent => Conditions { feed_silent: true, ..well },
        Mishap::StorageSlow(ms) => Conditions { slow_ms: ms, ..well },
        Mishap::StorageSilent => Conditions { silent: true, ..well },
        _ => well,
    }
}
