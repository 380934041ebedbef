//! How long Filters take while a replica catches up with a topic of the project's own format.
//!
//! The replica reaches Kafka through a network that can be held. Meanwhile rows are written to MariaDB
//! by somebody else, and `seen relay` brings them to the topic; then the network passes everything at
//! once. Filters come at a steady rate all the while, for users in memory, and each round compares what
//! came just before, during and just after.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use seen_testbed::{Kafka, MariaDb, TcpProxy};
use serde::Serialize;
use tokio::time::sleep;

use super::arguments::Arguments;
use super::asking::{Asked, Asking, Ended, Load};
use super::figures::{Spread, median};
use super::held::{Held, Watch};
use super::processor::Processor;
use super::progress::Bar;
use super::seen::{Replica, Running, Seen};
use super::warm;
use super::watchdog::{Starved, Watchdog};
use super::writer::Writer;
use super::{DATABASE, KIND, NAMESPACE, TABLE};

const TOPIC: &str = "slots";
const PARTITIONS: &str = "4";
/// Rows of every user before it begins.
const ROWS_BEFORE: u64 = 50;
/// Rows of one statement of the backlog.
const STATEMENT_ROWS: u64 = 50_000;
/// Longest that a step may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often is looked whether a replica has caught up.
const LOOKED_EVERY: Duration = Duration::from_millis(20);
/// After the relay or the replica was busy.
const REST: Duration = Duration::from_millis(500);

/// When a round was in which state.
#[derive(Clone, Copy, Debug)]
struct Round {
    before: (Instant, Instant),
    during: (Instant, Instant),
    after: (Instant, Instant),
    events: u64,
}

/// What was found in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Compared {
    pub events: u64,
    pub seconds: f64,
    pub before: Spread,
    pub during: Spread,
    pub after: Spread,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Found {
    pub filters_per_second: u64,
    pub rounds: Vec<Compared>,
    /// By how much the P99 during a catch-up is above that of the calm before and after it: the
    /// median of the rounds.
    pub p99_moves_ms: f64,
    /// All rounds together.
    pub calm: Spread,
    pub during: Spread,
    /// The same with Filters of times when a thread was starved.
    pub during_all: Spread,
    pub starved: usize,
    pub starved_told: String,
    pub flagged: usize,
    pub failed: usize,
    pub from_memory_percent: f64,
    /// While it caught up.
    pub processor_percent: Vec<(&'static str, f64)>,
    pub held: Held,
}

/// The servers, in the order in which they are stopped.
struct Stage {
    replica: Replica,
    relay: Running,
    relay_http: String,
    network: TcpProxy,
    _others: TcpProxy,
    kafka: Kafka,
    database: MariaDb,
}

impl Stage {
    async fn start(arguments: &Arguments) -> Self {
        // Which ports Kafka listens on is known when it does, and it is told before where its clients
        // find it: the relay and the broker itself by one network, the replica by the other.
        let others = TcpProxy::to(1).expect("a port");
        let network = TcpProxy::to(1).expect("a port");
        let at = |network: &TcpProxy| format!("127.0.0.1:{}", network.port());
        let advertised = format!("PLAINTEXT://{},SECURED://{}", at(&others), at(&network));
        let kafka = Kafka::builder().setting("advertised.listeners", &advertised).start();
        let kafka = kafka.expect("a Kafka: scripts/feed-tools");
        others.retarget(kafka.port());
        let secured = kafka.secured_bootstrap();
        let (_, port) = secured.rsplit_once(':').expect("a port");
        network.retarget(port.parse().expect("a port"));
        let database = MariaDb::builder()
            .argument("--innodb-buffer-pool-size=1G")
            .argument("--innodb-log-file-size=512M")
            .start()
            .expect("a MariaDB");
        database.sql(&format!("CREATE DATABASE {DATABASE}")).expect("a database");
        let seen = Seen::find(arguments.seen.as_deref(), super::settings(&database));
        seen.run(&["migrate"]);
        Writer::connect(database.port()).await.fill(users(arguments), ROWS_BEFORE).await;
        let relay = seen.with(&[format!("kafka.brokers={}", kafka.bootstrap())]);
        let mut relay = relay.start(&[
            "relay",
            "--topic",
            TOPIC,
            "--create-topic",
            PARTITIONS,
            "--http",
            "127.0.0.1:0",
        ]);
        let relay_http = relay.says("seen: metrics on http://");
        let relay_http = relay_http.trim_end_matches("/metrics").to_owned();
        let created = Instant::now();
        while kafka.partitions(TOPIC).expect("Kafka answers").to_string() != PARTITIONS {
            assert!(created.elapsed() < PATIENCE, "the relay makes no topic");
            sleep(LOOKED_EVERY).await;
        }
        let mut settings = vec![
            format!("kafka.brokers={}", at(&network)),
            "mysql.feed=kafka".to_owned(),
            "kafka.partitioner=slots".to_owned(),
            format!("kafka.topic={TOPIC}"),
            // What is asked is what the reading costs those who are served from memory. By default
            // users are checked in storage after five seconds without news, which costs more.
            "feed.stale_after=10m".to_owned(),
        ];
        settings.extend(arguments.set.iter().cloned());
        let replica = seen.with(&settings).replica().await;
        Self { replica, relay, relay_http, network, _others: others, kafka, database }
    }

    fn parts(&self) -> [(&'static str, u32); 4] {
        [
            ("MariaDB", self.database.pid()),
            ("Kafka", self.kafka.pid()),
            ("relay", self.relay.pid()),
            ("replica", self.replica.pid()),
        ]
    }

    /// Events that the replica has applied.
    async fn applied(&self) -> u64 {
        let status = self.replica.status().await;
        let of_history = status.partitions.iter().filter(|one| one.namespace == NAMESPACE);
        of_history.map(|one| one.events).sum()
    }

    /// Writes rows of all users, and waits until the relay has brought all of them to the topic.
    async fn pile_up(&self, first_item: u64, arguments: &Arguments) {
        let relayed = self.relayed();
        let mut writer = Writer::connect(self.database.port()).await;
        let (end, users) = (first_item + arguments.backlog, users(arguments));
        for first in (first_item..end).step_by(STATEMENT_ROWS as usize) {
            let last = end.min(first + STATEMENT_ROWS) - 1;
            writer
                .run(format!(
                    "INSERT INTO {TABLE} (user_id, kind, item_id, marked_at_ms) \
                     SELECT 1 + (seq * 7919) % {users}, {KIND}, seq, 1 FROM seq_{first}_to_{last}"
                ))
                .await;
        }
        let began = Instant::now();
        while self.relayed() < relayed + arguments.backlog as f64 {
            assert!(began.elapsed() < PATIENCE, "the relay does not come to an end");
            sleep(LOOKED_EVERY * 5).await;
        }
        sleep(REST).await;
    }

    /// Events that the relay has written.
    fn relayed(&self) -> f64 {
        let mut stream = TcpStream::connect(&self.relay_http).expect("it listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: seen\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let lines = text.lines().filter(|line| line.starts_with("seen_relay_events_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// One round: held and calm, catching up, and calm again.
    async fn round(&self, calm: Duration, events: u64, processor: &mut Vec<Shares>) -> Round {
        let applied = self.applied().await;
        let began = Instant::now();
        sleep(calm).await;
        let counted = Processor::start(&self.parts());
        let healed = Instant::now();
        self.network.heal();
        while self.applied().await < applied + events {
            assert!(healed.elapsed() < PATIENCE, "it does not catch up");
            sleep(LOOKED_EVERY).await;
        }
        let caught_up = Instant::now();
        processor.push(counted.shares());
        sleep(REST).await;
        let calm_again = Instant::now();
        sleep(calm).await;
        Round {
            before: (began, healed),
            during: (healed, caught_up),
            after: (calm_again, Instant::now()),
            events,
        }
    }
}

/// Users of the backlog: half of its events are about users in memory.
fn users(arguments: &Arguments) -> u64 {
    arguments.cached * 2
}

type Shares = Vec<(&'static str, f64)>;

/// Measures.
pub async fn measure(arguments: &Arguments, bar: &Bar) -> Found {
    bar.says("catch-up: MariaDB, Kafka, a relay and a replica start");
    let stage = Stage::start(arguments).await;
    bar.says("catch-up: users come into memory");
    warm::users(&stage.replica, 1..=arguments.cached).await;
    let asking = Asking::start(Load {
        url: stage.replica.url.clone(),
        per_second: arguments.filters_per_second,
        users: arguments.cached,
        read: ROWS_BEFORE,
    });
    let watch = Watch::start(&stage.replica.admin);
    let watchdog = Watchdog::start();
    let calm = Duration::from_secs(arguments.calm_seconds);
    let (mut rounds, mut shares) = (Vec::new(), Vec::new());
    let (mut filters, mut hits) = (0, 0);
    for round in 0..arguments.rounds {
        let which = format!("catch-up: round {} of {}", round + 1, arguments.rounds);
        bar.says(&format!("{which}: {} events pile up", arguments.backlog));
        stage.network.hold();
        stage.pile_up((1 << 32) + round * arguments.backlog, arguments).await;
        bar.says(&format!("{which}: measured"));
        let before = warm::traffic(&stage.replica).await;
        rounds.push(stage.round(calm, arguments.backlog, &mut shares).await);
        let after = warm::traffic(&stage.replica).await;
        (filters, hits) = (filters + after.0 - before.0, hits + after.1 - before.1);
    }
    let starved = watchdog.stop();
    let asked = asking.stop();
    let held = watch.stop().await;
    Found {
        filters_per_second: arguments.filters_per_second,
        from_memory_percent: 100.0 * hits as f64 / filters as f64,
        processor_percent: mean(&shares),
        held,
        ..compared(&rounds, &asked, &starved)
    }
}

/// The mean of each part.
fn mean(all: &[Shares]) -> Shares {
    let Some(first) = all.first() else { return Shares::new() };
    let of = |at: usize| all.iter().map(|shares| shares[at].1).sum::<f64>() / all.len() as f64;
    first.iter().enumerate().map(|(at, (name, _))| (*name, of(at))).collect()
}

fn compared(rounds: &[Round], asked: &[Asked], starved: &Starved) -> Found {
    let is_starved = |one: &Asked| starved.within(one.due, one.due + one.took);
    let within = |span: (Instant, Instant)| {
        asked.iter().filter(move |one| span.0 <= one.due && one.due < span.1)
    };
    let spread = |spans: &[(Instant, Instant)]| {
        let all = spans.iter().flat_map(|span| within(*span));
        Spread::of(all.filter(|one| !is_starved(one)).map(|one| one.took))
    };
    let one = |round: &Round| Compared {
        events: round.events,
        seconds: round.during.1.duration_since(round.during.0).as_secs_f64(),
        before: spread(&[round.before]),
        during: spread(&[round.during]),
        after: spread(&[round.after]),
    };
    let all: Vec<Compared> = rounds.iter().map(one).collect();
    let moves =
        |round: &Compared| round.during.p99_ms - (round.before.p99_ms + round.after.p99_ms) / 2.0;
    let calm: Vec<_> = rounds.iter().flat_map(|round| [round.before, round.after]).collect();
    let during: Vec<_> = rounds.iter().map(|round| round.during).collect();
    let measured = || calm.iter().chain(&during).flat_map(|span| within(*span));
    let ended = |how: Ended| measured().filter(|one| one.ended == how).count();
    Found {
        filters_per_second: 0,
        p99_moves_ms: median(&all.iter().map(moves).collect::<Vec<_>>()),
        rounds: all,
        calm: spread(&calm),
        during: spread(&during),
        during_all: Spread::of(during.iter().flat_map(|span| within(*span)).map(|one| one.took)),
        starved: measured().filter(|one| is_starved(one)).count(),
        starved_told: starved.told(),
        flagged: ended(Ended::Flagged),
        failed: ended(Ended::Failed),
        from_memory_percent: f64::NAN,
        processor_percent: Shares::new(),
        held: Held::default(),
    }
}
