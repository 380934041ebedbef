//! From a commit of somebody else's to "seen" at two replicas, by MariaDB, Debezium and Kafka.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use seen_client::{Client, FilterCall, MarkCall, Session};
use seen_testbed::{Debezium, Kafka, MariaDb};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::arguments::Arguments;
use super::figures::{Random, Spread};
use super::held::{Held, Watch};
use super::processor::Processor;
use super::progress::Bar;
use super::seen::{Replica, Seen};
use super::stages::{self, Stages};
use super::warm;
use super::watchdog::{Starved, Watchdog};
use super::writer::{self, Pace, Writer};
use super::{DATABASE, KIND, NAMESPACE};

const TOPIC: &str = "seen";
pub const PARTITIONS: usize = 3;
/// The kind of rows whose way is timed.
pub const PROBE_KIND: u8 = 2;
/// Users of these rows, above all others.
const PROBE_USERS: u64 = 200;
/// How long is waited at least until a replica is asked about a row again, and what part of the time
/// since the commit: so much later it may be seen to be seen.
const ASKED_AFTER: Duration = Duration::from_millis(5);
const ASKED_AFTER_PART: u32 = 20;
/// A row that is not seen by then counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// Rows of every user before it begins.
const ROWS_BEFORE: u64 = 20;

/// One row's way.
#[derive(Clone, Debug)]
pub struct Probe {
    pub item: u64,
    /// When the writer had its acknowledgement.
    pub committed: Instant,
    pub committed_at: SystemTime,
    /// How long until each replica said "seen"; `None` if it did not.
    pub seen: [Option<Duration>; 2],
}

impl Probe {
    /// How long until both replicas said "seen".
    pub fn both(&self) -> Option<Duration> {
        self.seen[0].zip(self.seen[1]).map(|(first, second)| first.max(second))
    }
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Found {
    pub rows_per_second_wanted: u64,
    pub rows_per_second: f64,
    pub probes: usize,
    /// Not seen at all.
    pub lost: usize,
    /// While a thread was starved; not among `seen`.
    pub starved: usize,
    pub starved_told: String,
    /// Called "seen" before they were in the topic; not among `seen`.
    pub ahead: usize,
    /// From the acknowledged commit until both replicas said "seen".
    pub seen: Spread,
    /// The same with all that were set aside.
    pub seen_all: Spread,
    pub first_replica: Spread,
    pub second_replica: Spread,
    pub stages: Stages,
    /// Filters that memory alone answered, of both replicas, in percent.
    pub from_memory_percent: f64,
    pub processor_percent: Vec<(&'static str, f64)>,
    pub held: Held,
    pub doubts: u64,
}

/// The servers, in the order in which they are stopped.
struct Chain {
    replicas: [Replica; 2],
    debezium: Debezium,
    kafka: Kafka,
    database: MariaDb,
}

impl Chain {
    async fn start(arguments: &Arguments) -> Self {
        let kafka = Kafka::start().expect("a Kafka: scripts/feed-tools");
        kafka.create_topic(TOPIC, PARTITIONS, &[]).expect("a topic");
        let database = MariaDb::builder()
            .argument("--innodb-buffer-pool-size=512M")
            .argument("--innodb-log-file-size=128M")
            .start()
            .expect("a MariaDB");
        database.sql(&format!("CREATE DATABASE {DATABASE}")).expect("a database");
        let mut settings = super::settings(&database);
        settings.push("mysql.feed=kafka".to_owned());
        settings.push(format!("kafka.brokers={}", kafka.bootstrap()));
        // Else storage answers in the feed's stead when that has been silent for five seconds.
        settings.push("feed.stale_after=10m".to_owned());
        settings.extend(arguments.set.iter().cloned());
        let seen = Seen::find(arguments.seen.as_deref(), settings);
        seen.run(&["migrate"]);
        let users = arguments.users + PROBE_USERS;
        Writer::connect(database.port()).await.fill(users, ROWS_BEFORE).await;
        let debezium = debezium(&kafka, &database, arguments);
        let replicas = [seen.replica().await, seen.replica().await];
        Self { replicas, debezium, kafka, database }
    }

    fn parts(&self) -> [(&'static str, u32); 5] {
        [
            ("MariaDB", self.database.pid()),
            ("Debezium", self.debezium.pid()),
            ("Kafka", self.kafka.pid()),
            ("first replica", self.replicas[0].pid()),
            ("second replica", self.replicas[1].pid()),
        ]
    }

    /// Filters, those of them that memory alone answered, and gaps, of both replicas together.
    async fn traffic(&self) -> (u64, u64, u64) {
        let (mut filters, mut hits, mut gaps) = (0, 0, 0);
        for replica in &self.replicas {
            let (asked, by_memory) = warm::traffic(replica).await;
            (filters, hits) = (filters + asked, hits + by_memory);
            gaps += replica.status().await.partitions.iter().map(|one| one.gaps).sum::<u64>();
        }
        (filters, hits, gaps)
    }
}

fn debezium(kafka: &Kafka, database: &MariaDb, arguments: &Arguments) -> Debezium {
    let tables = ["history_feed_read", "history_push_sent", "seen_control"];
    let tables = tables.map(|table| format!("{DATABASE}.{table}"));
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let mut builder = Debezium::builder(kafka, database.port())
        .tables(&tables)
        .key("user_id")
        .into_topic(TOPIC)
        .snapshot("no_data");
    for property in &arguments.debezium {
        let (name, value) = property.split_once('=').expect("NAME=VALUE");
        builder = builder.property(name, value);
    }
    builder.start().expect("a Debezium: scripts/feed-tools")
}

/// What was measured, before it is judged.
struct Taken {
    probes: Vec<Probe>,
    rows_per_second: f64,
    starved: Starved,
    processor_percent: Vec<(&'static str, f64)>,
    held: Held,
    /// As [`Chain::traffic`], less what was before.
    filters: u64,
    hits: u64,
    gaps: u64,
}

/// Measures.
pub async fn measure(arguments: &Arguments, bar: &Bar) -> Found {
    bar.says("chain: MariaDB, Debezium, Kafka and two replicas start");
    let chain = Chain::start(arguments).await;
    bar.says("chain: users come into memory");
    let probe_users = arguments.users + 1..arguments.users + 1 + PROBE_USERS;
    for replica in &chain.replicas {
        warm::users(replica, (1..=arguments.cached).chain(probe_users.clone())).await;
    }
    let end = |p| chain.kafka.offsets(TOPIC, p).expect("offsets").end;
    let from: Vec<i64> = (0..PARTITIONS as i32).map(end).collect();
    let seconds = arguments.warm_up_seconds + arguments.seconds;
    bar.begin(seconds, "chain: rows are written, and looked for once all is warm");
    let ticking = bar.ticking();
    let taken = take(&chain, arguments).await;
    ticking.abort();
    bar.says("chain: the topic is read");
    let (stages, ahead) =
        tokio::task::block_in_place(|| stages::of(&chain.kafka, TOPIC, &from, &taken.probes));
    judged(taken, arguments, stages, &ahead)
}

async fn take(chain: &Chain, arguments: &Arguments) -> Taken {
    let lasting = Duration::from_secs(arguments.seconds);
    let warm_up = Duration::from_secs(arguments.warm_up_seconds);
    let pace = Pace {
        rows_per_second: arguments.rows_per_second,
        rows_per_commit: arguments.rows_per_commit,
        users: arguments.users,
        first_item: 1 << 32,
        lasting: warm_up + lasting,
    };
    let flood = tokio::spawn(writer::flood(chain.database.port(), pace));
    sleep(warm_up).await;
    let before = chain.traffic().await;
    let watches = chain.replicas.each_ref().map(|replica| Watch::start(&replica.admin));
    let (processor, watchdog) = (Processor::start(&chain.parts()), Watchdog::start());
    let marks = tokio::spawn(marks(clients(chain), arguments.marks_per_second, lasting));
    let probes = probes(chain, arguments, lasting).await;
    marks.await.expect("no panic");
    let rows_per_second = flood.await.expect("no panic");
    let processor_percent = processor.shares();
    let starved = watchdog.stop();
    let mut held = Held::default();
    for watch in watches {
        held = held.or(watch.stop().await);
    }
    let after = chain.traffic().await;
    Taken {
        probes,
        rows_per_second,
        starved,
        processor_percent,
        held,
        filters: after.0 - before.0,
        hits: after.1 - before.1,
        gaps: after.2 - before.2,
    }
}

fn judged(taken: Taken, arguments: &Arguments, stages: Stages, ahead: &HashSet<u64>) -> Found {
    let Taken { probes, starved, .. } = taken;
    let is_starved = |probe: &Probe| {
        let until = probe.both().map(|took| probe.committed + took);
        until.is_some_and(|until| starved.within(probe.committed, until))
    };
    let is_sound = |probe: &&Probe| !is_starved(probe) && !ahead.contains(&probe.item);
    let sound: Vec<&Probe> = probes.iter().filter(is_sound).collect();
    let of = |at: usize| Spread::of(sound.iter().filter_map(|probe| probe.seen[at]));
    Found {
        rows_per_second_wanted: arguments.rows_per_second,
        rows_per_second: taken.rows_per_second,
        probes: probes.len(),
        lost: probes.iter().filter(|probe| probe.both().is_none()).count(),
        starved: probes.iter().filter(|probe| is_starved(probe)).count(),
        starved_told: starved.told(),
        ahead: ahead.len(),
        seen: Spread::of(sound.iter().filter_map(|probe| probe.both())),
        seen_all: Spread::of(probes.iter().filter_map(Probe::both)),
        first_replica: of(0),
        second_replica: of(1),
        stages,
        from_memory_percent: 100.0 * taken.hits as f64 / taken.filters as f64,
        processor_percent: taken.processor_percent,
        held: taken.held,
        doubts: taken.gaps,
    }
}

fn clients(chain: &Chain) -> [Client; 2] {
    chain.replicas.each_ref().map(|replica| replica.client.clone())
}

/// Commits one row after the other and asks both replicas for each.
async fn probes(chain: &Chain, arguments: &Arguments, lasting: Duration) -> Vec<Probe> {
    let mut writer = Writer::connect(chain.database.port()).await;
    let clients = Arc::new(clients(chain));
    let mut due = interval(Duration::from_secs(1) / arguments.probes_per_second.max(1) as u32);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut under_way, mut probes) = (JoinSet::new(), Vec::new());
    let began = Instant::now();
    for number in 0.. {
        due.tick().await;
        if began.elapsed() >= lasting {
            break;
        }
        let (user, item) = (arguments.users + 1 + number % PROBE_USERS, (1 << 40) + number);
        writer.insert([(user, PROBE_KIND, item)]).await;
        let (committed, committed_at) = (Instant::now(), SystemTime::now());
        let clients = Arc::clone(&clients);
        under_way.spawn(async move {
            let [first, second] = &*clients;
            let (first, second) = tokio::join!(
                until_seen(first, user, item, committed),
                until_seen(second, user, item, committed)
            );
            Probe { item, committed, committed_at, seen: [first, second] }
        });
        while let Some(done) = under_way.try_join_next() {
            probes.push(done.expect("no panic"));
        }
    }
    probes.extend(under_way.join_all().await);
    probes
}

/// Asks without a token, from the commit on.
async fn until_seen(client: &Client, user: u64, item: u64, committed: Instant) -> Option<Duration> {
    while committed.elapsed() < LOST_AFTER {
        let call = FilterCall::new(NAMESPACE).items(PROBE_KIND, [item]);
        let answer = client.filter(&Session::new(user), call).await.expect("answered");
        let took = committed.elapsed();
        if answer.unseen.is_empty() && !answer.is_flagged() {
            return Some(took);
        }
        sleep(ASKED_AFTER.max(took / ASKED_AFTER_PART)).await;
    }
    None
}

/// Marks at both replicas in turn: their journals keep these until they come back.
async fn marks(clients: [Client; 2], per_second: u64, lasting: Duration) {
    if per_second == 0 {
        return;
    }
    let mut due = interval(Duration::from_secs(1) / per_second as u32);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut under_way, mut random) = (JoinSet::new(), Random(11));
    let began = Instant::now();
    for number in 0_u64.. {
        due.tick().await;
        if began.elapsed() >= lasting {
            break;
        }
        let client = clients[number as usize % 2].clone();
        let session = Session::new(1 + random.below(1_000));
        under_way.spawn(async move {
            let call = MarkCall::new(NAMESPACE).item(KIND, (1 << 48) + number);
            client.mark(&session, call).await.expect("marked");
        });
        while let Some(done) = under_way.try_join_next() {
            done.expect("no panic");
        }
    }
    under_way.join_all().await;
}
