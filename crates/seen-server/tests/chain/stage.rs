//! Replicas of the same users, and the database that holds what is true.

use std::collections::BTreeSet;
use std::time::Duration;

use seen_testbed::MariaDb;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::replica::Replica;
use super::servers::{said, seen};
use super::wait::awaited;

/// The users and items that tests use: all of them are compared with storage.
pub const USERS: std::ops::Range<u64> = 1..12;
pub const ITEMS: std::ops::Range<u64> = 1..40;

/// The longest time since a partition proved itself, of all partitions, and what is too long.
const UNPROVEN: &str = "seen_feed_unproven_seconds";
const STALE_AFTER_SECONDS: f64 = 5.0;

/// One stage at a time: it may have three virtual machines.
static TURN: Mutex<()> = Mutex::const_new(());

/// The right to have a stage.
pub type Turn = MutexGuard<'static, ()>;

/// Waits for the others.
pub async fn turn() -> Turn {
    TURN.lock().await
}

/// Whatever the replicas follow it by.
pub struct Stage {
    pub replicas: Vec<Replica>,
    pub database: MariaDb,
    settings: Vec<String>,
    /// When it was last waited for that all agree.
    healing_since: Instant,
    _turn: Turn,
}

impl Stage {
    /// Makes the schema, with these settings beside the usual ones; no replica yet.
    pub fn new(turn: Turn, database: MariaDb, settings: &[String]) -> Self {
        database.sql("CREATE DATABASE db").expect("a database");
        let usual = [
            "storage.kind=mysql".to_owned(),
            format!("mysql.servers=127.0.0.1:{}", database.port()),
            "mysql.database=db".to_owned(),
            "mysql.user=root".to_owned(),
            // Machines that build something else beside the tests are slow.
            "mysql.check_timeout=20s".to_owned(),
            "mysql.connect_timeout=20s".to_owned(),
        ];
        let settings = usual.into_iter().chain(settings.iter().cloned()).collect();
        let healing_since = Instant::now();
        let stage = Self { replicas: Vec::new(), database, settings, healing_since, _turn: turn };
        let made = seen(&["migrate"], &stage.flags());
        assert!(made.status.success(), "{}", said(&made));
        stage
    }

    /// One setting more for what is started from now on.
    pub fn set(&mut self, setting: String) {
        self.settings.push(setting);
    }

    /// The flags that lead the binary here.
    pub fn flags(&self) -> Vec<String> {
        self.settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]).collect()
    }

    /// Starts both replicas.
    pub async fn serve(&mut self) {
        let flags = self.flags();
        let (one, other) = tokio::join!(Replica::start(&flags), Replica::start(&flags));
        self.replicas = vec![one, other];
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
        self.healing_since = Instant::now();
        for user in USERS {
            let stored = self.stored(user).await;
            let expected: Vec<u64> = ITEMS.filter(|item| stored.contains(item)).collect();
            for (number, replica) in self.replicas.iter_mut().enumerate() {
                replica.comes_to_say(number, user, &expected).await;
            }
        }
    }

    /// Puts some rows of every user there, and lets both replicas hold all of them in memory.
    pub async fn fill(&mut self) {
        self.sql(
            "INSERT IGNORE INTO history_feed_read (user_id, kind, item_id, marked_at_ms) \
             SELECT u.seq, 1, u.seq + i.seq - 1, 4 FROM seq_1_to_11 u, seq_1_to_5 i",
        )
        .await;
        self.agree().await;
    }

    /// Waits until both replicas know that their feed proves nothing any more.
    pub async fn is_stale(&self) {
        for (number, replica) in self.replicas.iter().enumerate() {
            let what = format!("replica {number} to take its feed for stale");
            awaited(&what, async || match replica.least(UNPROVEN).await {
                seconds if seconds > STALE_AFTER_SECONDS => Ok(()),
                seconds => Err(format!("proven {seconds} s ago")),
            })
            .await;
        }
    }

    /// Waits until answers come from memory again: neither replica asks storage about users that it holds.
    /// Says how long that took, and how far behind the feed is.
    pub async fn settle(&mut self) {
        self.settled().await;
        let healed = self.healing_since.elapsed().as_millis();
        let lag = self.lag().await.as_millis();
        eprintln!("all from memory {healed} ms after the fault; the feed is {lag} ms behind");
    }

    /// From the commit of somebody else's row to where both replicas say "seen".
    async fn lag(&mut self) -> Duration {
        let user = USERS.start;
        let stored = self.stored(user).await;
        let Some(item) = ITEMS.rev().find(|item| !stored.contains(item)) else {
            return Duration::ZERO;
        };
        // Tests add columns.
        let columns = "(user_id, kind, item_id, marked_at_ms)";
        let insert =
            format!("INSERT INTO history_feed_read {columns} VALUES ({user}, 1, {item}, 5)");
        self.sql(&insert).await;
        let committed = Instant::now();
        for replica in &mut self.replicas {
            awaited("the feed", async || match replica.seen(user, &[]).await.0.contains(&item) {
                true => Ok(()),
                false => Err(format!("item {item} is unread")),
            })
            .await;
        }
        committed.elapsed()
    }

    async fn settled(&mut self) {
        let replicas = &mut self.replicas;
        awaited("answers from memory alone", async || {
            let mut missed = 0.0;
            for replica in replicas.iter_mut() {
                let before = replica.metric("seen_filter_misses_total").await;
                for user in USERS {
                    replica.seen(user, &[]).await;
                }
                missed += replica.metric("seen_filter_misses_total").await - before;
            }
            if missed == 0.0 {
                return Ok(());
            }
            let why = replicas[0].why(USERS.start).await;
            Err(format!("storage is still asked about {missed} users; {why}"))
        })
        .await;
    }
}
