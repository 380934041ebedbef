//! Two replicas behind one MariaDB, one Debezium and one Kafka.

use std::collections::BTreeSet;
use std::time::Duration;

use seen_proto::v1;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_testbed::{Debezium, Kafka, MariaDb, or_skip};
use tokio::sync::{Mutex, MutexGuard};
use tonic::transport::Channel;

use super::ask::{READ, explain, filter, level, patient};
use super::process::{Process, connect};
use super::servers::{said, seen};

pub type Api = SeenServiceClient<Channel>;

/// The topic of all tables.
pub const TOPIC: &str = "seen";
/// Partitions of it.
pub const PARTITIONS: usize = 3;
/// The users and items that tests use: all of them are compared with storage.
pub const USERS: std::ops::Range<u64> = 1..12;
pub const ITEMS: std::ops::Range<u64> = 1..40;

/// One replica.
pub struct Replica {
    pub process: Process,
    pub api: Api,
    _folder: tempfile::TempDir,
}

/// The parts, in the order in which they are stopped.
pub struct Chain {
    pub replicas: Vec<Replica>,
    pub debezium: Debezium,
    pub kafka: Kafka,
    pub database: MariaDb,
    _turn: MutexGuard<'static, ()>,
}

/// One chain at a time: it has three virtual machines.
static TURN: Mutex<()> = Mutex::const_new(());

impl Chain {
    /// Starts everything; `None`, loudly, where the tools are not there.
    pub async fn start() -> Option<Self> {
        let turn = TURN.lock().await;
        let parts = tokio::task::spawn_blocking(parts).await.expect("no panic")?;
        let (database, kafka, debezium) = parts;
        let mut chain = Self { replicas: Vec::new(), debezium, kafka, database, _turn: turn };
        for _ in 0..2 {
            let replica = chain.replica(&[]).await;
            chain.replicas.push(replica);
        }
        Some(chain)
    }

    /// The flags that lead the binary here.
    pub fn flags(&self) -> Vec<String> {
        let settings = [
            "storage.kind=mysql".to_owned(),
            format!("mysql.servers=127.0.0.1:{}", self.database.port()),
            "mysql.database=db".to_owned(),
            "mysql.user=root".to_owned(),
            "mysql.feed=kafka".to_owned(),
            format!("kafka.brokers={}", self.kafka.bootstrap()),
            // Machines that build something else beside the tests are slow.
            "mysql.check_timeout=20s".to_owned(),
            "mysql.connect_timeout=20s".to_owned(),
        ];
        settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
    }

    /// One more replica.
    pub async fn replica(&self, more: &[&str]) -> Replica {
        let folder = tempfile::tempdir().expect("a folder");
        let flags = self.flags();
        let flags: Vec<&str> =
            flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let process = Process::start(folder.path(), &flags).await;
        let api = Api::new(connect(process.at.api).await);
        Replica { process, api, _folder: folder }
    }

    /// Runs SQL as somebody who never heard of the service.
    pub async fn sql(&self, statements: &str) -> String {
        let statements = format!("USE db; {statements}");
        tokio::task::block_in_place(|| self.database.sql(&statements)).expect("SQL")
    }

    /// What storage holds of a user.
    pub async fn stored(&self, user: u64) -> BTreeSet<u64> {
        let rows = format!("SELECT item_id FROM history_feed_read WHERE user_id = {user}");
        self.sql(&rows).await.lines().map(|line| line.parse().expect("an id")).collect()
    }

    /// Waits until both replicas say of every user what storage holds, from memory.
    pub async fn agree(&mut self) {
        for user in USERS {
            let stored = self.stored(user).await;
            let expected: Vec<u64> = ITEMS.filter(|item| stored.contains(item)).collect();
            for (number, replica) in self.replicas.iter_mut().enumerate() {
                replica.comes_to_say(number, user, &expected).await;
            }
        }
    }
}

impl Chain {
    /// Puts some rows of every user there, and lets both replicas hold all of them in memory.
    pub async fn fill(&mut self) {
        self.sql(
            "INSERT IGNORE INTO history_feed_read (user_id, kind, item_id, marked_at_ms) \
             SELECT u.seq, 1, u.seq + i.seq - 1, 4 FROM seq_1_to_11 u, seq_1_to_5 i",
        )
        .await;
        self.agree().await;
    }

    /// Waits until answers come from memory again: neither replica asks storage about users that it holds.
    pub async fn settle(&mut self) {
        let began = tokio::time::Instant::now();
        loop {
            let mut missed = 0.0;
            for replica in &mut self.replicas {
                let before = replica.metric("seen_filter_misses_total").await;
                for user in USERS {
                    replica.seen(user, &[]).await;
                }
                missed += replica.metric("seen_filter_misses_total").await - before;
            }
            if missed == 0.0 {
                return;
            }
            if began.elapsed() > PATIENCE {
                let why = self.replicas[0].why(USERS.start).await;
                panic!("storage is still asked about {missed} users; {why}");
            }
        }
    }

    /// Another producer in place of the one that was killed.
    pub async fn begin_debezium_anew(&mut self) {
        let begun = tokio::task::block_in_place(|| debezium(&self.kafka, &self.database));
        self.debezium = begun.expect("a Debezium");
    }

    /// How many records there are in a partition.
    fn records_in(&self, partition: i32) -> i64 {
        let offsets = tokio::task::block_in_place(|| self.kafka.offsets(TOPIC, partition));
        offsets.map_or(0, |offsets| offsets.end)
    }

    /// Waits until there are so many more records than now, in all partitions together.
    pub async fn wait_for_records(&self, more: i64) {
        let all = |chain: &Self| (0..PARTITIONS as i32).map(|p| chain.records_in(p)).sum::<i64>();
        let before = all(self);
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while all(self) < before + more {
            looks.tick().await;
        }
    }

    /// Writes until something comes through a partition.
    pub async fn wait_for_records_in(&self, partition: i32) {
        let mut looks = tokio::time::interval(Duration::from_millis(200));
        while self.records_in(partition) == 0 {
            looks.tick().await;
            self.sql(
                "INSERT IGNORE INTO history_feed_read SELECT seq, 1, 77, 5 FROM seq_2000_to_2011",
            )
            .await;
            self.sql("DELETE FROM history_feed_read WHERE item_id = 77 AND user_id >= 2000").await;
        }
    }
}

/// The longest that a replica may take to agree with storage, on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

impl Replica {
    /// What is seen of a user's items, and whether the answer may be wrong.
    pub async fn seen(&mut self, user: u64, token: &[u8]) -> (Vec<u64>, v1::QualityLevel) {
        let request = v1::FilterRequest { token: token.to_vec(), ..filter(user, &[READ], ITEMS) };
        let answer = self.api.filter(patient(request)).await.expect("an answer").into_inner();
        let unread: BTreeSet<u32> = answer.unseen.iter().copied().collect();
        let seen =
            (0_u32..).zip(ITEMS).filter(|(at, _)| !unread.contains(at)).map(|(_, item)| item);
        (seen.collect(), level(&answer.quality))
    }

    /// True if the user's state is in memory and clean.
    pub async fn is_ready(&mut self, user: u64) -> bool {
        let why = self.api.explain(patient(explain(user, READ, 1))).await.expect("explained");
        why.into_inner().entry.is_some_and(|entry| entry.state() == v1::EntryState::Ready)
    }

    /// What a replica knows of a user, and what came into doubt.
    async fn why(&mut self, user: u64) -> String {
        let told = self.api.explain(patient(explain(user, READ, 1))).await.expect("explained");
        let metrics = scrape(self.process.at.http).await;
        let of = ["seen_doubts", "seen_fences", "seen_feed", "seen_kafka"];
        let lines = metrics.lines().filter(|line| of.iter().any(|name| line.starts_with(name)));
        format!("{:?}\n{}", told.into_inner(), lines.collect::<Vec<_>>().join("\n"))
    }

    /// A counter, of all its labels together.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = scrape(self.process.at.http).await;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    async fn comes_to_say(&mut self, number: usize, user: u64, expected: &[u64]) {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let began = tokio::time::Instant::now();
        loop {
            looks.tick().await;
            let (seen, level) = self.seen(user, &[]).await;
            if seen == expected && level != v1::QualityLevel::Degraded && self.is_ready(user).await
            {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "replica {number} says of user {user}: {seen:?} ({level:?}), and storage {expected:?}"
            );
        }
    }
}

async fn scrape(at: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(at).await.expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: seen\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}

fn parts() -> Option<(MariaDb, Kafka, Debezium)> {
    let kafka = or_skip(Kafka::start())?;
    kafka.create_topic(TOPIC, PARTITIONS, &[]).expect("a topic");
    let database = MariaDb::start().expect("a MariaDB");
    database.sql("CREATE DATABASE db").expect("a database");
    let flags: Vec<String> = [
        "storage.kind=mysql".to_owned(),
        format!("mysql.servers=127.0.0.1:{}", database.port()),
        "mysql.database=db".to_owned(),
        "mysql.user=root".to_owned(),
    ]
    .into_iter()
    .flat_map(|setting| ["--set".to_owned(), setting])
    .collect();
    let made = seen(&["migrate"], &flags);
    assert!(made.status.success(), "{}", said(&made));
    let debezium = or_skip(debezium(&kafka, &database))?;
    Some((database, kafka, debezium))
}

/// A producer that begins at the log's end, and knows of no earlier one.
fn debezium(kafka: &Kafka, database: &MariaDb) -> Result<Debezium, seen_testbed::Error> {
    let tables = ["db.history_feed_read", "db.history_push_sent", "db.seen_control"];
    Debezium::builder(kafka, database.port())
        .tables(&tables)
        .key("user_id")
        .into_topic(TOPIC)
        .snapshot("no_data")
        .property("skipped.operations", "none")
        // Else it takes five minutes to learn of a new partition.
        .worker_property("producer.metadata.max.age.ms", "2000")
        .offset_flush_ms(1_000)
        .start()
}
