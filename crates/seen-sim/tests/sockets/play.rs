//! One seed: the cluster's processes as turmoil's hosts, what is asked of them, what goes wrong, and what must hold.

use std::cell::Cell;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use seen_sim::aim::Habit;
use seen_sim::caller::Session;
use seen_sim::checker::{self, InTheEnd};
use seen_sim::cluster::{RING_EVENTS_MAX, Shape};
use seen_sim::{Dice, Options, Played, World, sabotage, time, workload};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use turmoil::{Builder, Sim};

use crate::faults::{self, Fault, LATENCY_MIN, Machine, Scene};
use crate::ways::Sockets;

/// How long callers call.
const CALLS_FOR: Duration = Duration::from_millis(2_500);
/// Faults begin within this time of the callers' begin.
const FAULTS_WITHIN: Duration = Duration::from_millis(1_800);
/// How long everything may take until it is well again.
const WELL_WITHIN: Duration = Duration::from_secs(15);
/// One feed lag.
const SETTLES: Duration = Duration::from_secs(1);
/// Hosts take turns this often.
const TICK: Duration = Duration::from_millis(1);
/// More than a seed takes.
const SIMULATED_MAX: Duration = Duration::from_secs(60);
/// Segments that a socket holds.
const SEGMENTS_MAX: usize = 4_096;
/// Where the callers are. They reach proxies beside the network.
const CALLERS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));

/// How far a seed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The cluster starts.
    Starts,
    /// Callers call, and faults befall the cluster.
    Called,
    /// Nobody calls any more: all is to be healed.
    CallsEnd,
    /// All is healed.
    Healed,
}

/// Plays a seed to its end.
///
/// # Errors
/// The simulation itself could not be set up, or did not end.
pub fn play(seed: u64, options: Options) -> Result<Played, String> {
    let _given_back = sabotage::take_away(options.without)?;
    let mut dice = Dice::new(seed);
    let passed = Rc::new(Cell::new(Duration::ZERO));
    let _shared = {
        let (passed, origin) = (Rc::clone(&passed), Instant::now());
        // The same for all hosts during a turn, lest one of them be told an earlier time than the one before it.
        time::share(move || origin + passed.get())
    };
    let (shape, sockets) = (shape(&mut dice, options), Sockets::default());
    let world = World::of(shape, dice.fork(), Some(Arc::new(sockets.clone())))?;
    let world = Arc::new(world);
    let latency_max = LATENCY_MIN + dice.ms(0..=4);
    let mut sim = Builder::new()
        .rng_seed(dice.draw())
        .epoch(UNIX_EPOCH)
        .simulation_duration(SIMULATED_MAX)
        .tick_duration(TICK)
        .min_message_latency(LATENCY_MIN)
        .max_message_latency(latency_max)
        .tcp_capacity(SEGMENTS_MAX)
        .build();
    let mut faults = faults::draw(&mut dice, &shape, FAULTS_WITHIN);
    if !options.faults {
        faults.clear();
    }
    world.callers.report.lock().faults = faults.len() as u64;
    people(&mut sim, &world);
    let phase = Rc::new(Cell::new(Phase::Starts));
    let callers = callers(Arc::clone(&world), dice, Rc::clone(&phase), faults.is_empty());
    sim.client(CALLERS, async move { callers.await.map_err(Into::into) });
    let mut script = Script { faults, began: None, under_way: Vec::new() };
    loop {
        let is_over = sim.step().map_err(|error| error.to_string())?;
        passed.set(sim.elapsed());
        let (world, sockets) = (&*world, &sockets);
        script.go_on(Scene { sim: &mut sim, world, sockets, latency_max }, &phase);
        if is_over {
            break;
        }
    }
    let report = std::mem::take(&mut *world.callers.report.lock());
    Ok(Played { seed, report, events: world.cluster.trace.take() })
}

fn shape(dice: &mut Dice, options: Options) -> Shape {
    Shape {
        proxies: 2,
        slots: 2,
        replicas: 2,
        push_replicas: 0,
        numbers_commits: dice.in_mille(700),
        cache_bytes_max: if dice.in_mille(150) { 6_000 } else { 1 << 20 },
        life_interval: Duration::from_millis(100),
        retention: None,
        feed_events_max: if dice.in_mille(600) { 1_024 } else { dice.within(1..=6) as usize },
        ring_events_max: RING_EVENTS_MAX,
        habit: Habit::USUAL,
        traced: options.traced,
    }
}

/// Each process is a host's software, and is started anew whenever the host is.
fn people(sim: &mut Sim<'_>, world: &Arc<World>) {
    for machine in Machine::all(&world.cluster.shape) {
        let world = Arc::clone(world);
        sim.host(machine.ip(), move || {
            let world = Arc::clone(&world);
            async move {
                match machine {
                    Machine::Replica(seat) => world.start_replica(seat),
                    Machine::Proxy(number) => world.start_proxy(number),
                }
                pending().await
            }
        });
    }
}

/// What the callers' host does, from the begin to the last check.
async fn callers(
    world: Arc<World>,
    mut dice: Dice,
    phase: Rc<Cell<Phase>>,
    faultless: bool,
) -> Result<(), String> {
    world.fill().await.map_err(|error| error.to_string())?;
    if !world.is_well_within(WELL_WITHIN).await {
        world.callers.broken(None, 4, "the cluster did not start".to_owned());
        return Ok(());
    }
    phase.set(Phase::Called);
    let until = Instant::now() + CALLS_FOR;
    let mut tasks = JoinSet::new();
    for user in workload::users() {
        // Some have two devices.
        for device in 0..1 + u64::from(user % 4 == 0) {
            let (callers, session) = (Arc::clone(&world.callers), Session::new(user, device, ""));
            tasks.spawn(workload::browse(callers, session, dice.fork(), until));
        }
    }
    tasks.spawn(workload::push(Arc::clone(&world.callers), dice.fork(), until));
    while tasks.join_next().await.is_some() {}
    phase.set(Phase::CallsEnd);
    while phase.get() != Phase::Healed {
        sleep(TICK).await;
    }
    if !world.is_well_within(WELL_WITHIN).await {
        world.callers.broken(None, 4, "the cluster did not become well again".to_owned());
    }
    sleep(SETTLES).await;
    checker::check(&world, faultless, InTheEnd::AllIsHealed).await
}

/// What goes wrong when.
struct Script {
    /// What is to come.
    faults: Vec<Fault>,
    /// When callers began to call.
    began: Option<Duration>,
    /// What lasts, and until when.
    under_way: Vec<(Duration, Fault)>,
}

impl Script {
    fn go_on(&mut self, mut scene: Scene<'_, '_>, phase: &Cell<Phase>) {
        let now = scene.sim.elapsed();
        match phase.get() {
            Phase::Starts | Phase::Healed => return,
            Phase::Called => {}
            Phase::CallsEnd => {
                self.faults.clear();
                self.under_way.iter_mut().for_each(|(until, _)| *until = now);
            }
        }
        let began = *self.began.get_or_insert(now);
        let over = self.under_way.extract_if(.., |(until, _)| *until <= now);
        over.for_each(|(_, fault)| scene.end(&fault));
        let due = self.faults.extract_if(.., |fault| began + fault.after <= now);
        for fault in due {
            scene.begin(&fault);
            self.under_way.push((now + fault.lasts, fault));
        }
        if phase.get() == Phase::CallsEnd {
            scene.world.cluster.trace.tell(&"fault".into(), "all is healed");
            phase.set(Phase::Healed);
        }
    }
}
