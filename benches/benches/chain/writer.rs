//! Somebody who writes rows by SQL and never heard of the service.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, MySqlConnection, SqlSafeStr as _};
use tokio::time::{MissedTickBehavior, interval};

use super::figures::Random;
use super::{DATABASE, KIND, TABLE};

/// One connection.
pub struct Writer(MySqlConnection);

/// A row's user, kind and item.
pub type Row = (u64, u8, u64);

impl Writer {
    pub async fn connect(port: u16) -> Self {
        let options = MySqlConnectOptions::new().host("127.0.0.1").port(port).username("root");
        let options = options.database(DATABASE).ssl_mode(MySqlSslMode::Disabled);
        let options = options.pipes_as_concat(false).timezone(None).no_engine_substitution(false);
        Self(options.connect().await.expect("connected"))
    }

    pub async fn run(&mut self, sql: String) {
        self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql).into_sql_str())).await.expect("done");
    }

    /// Commits these rows.
    pub async fn insert(&mut self, rows: impl IntoIterator<Item = Row>) {
        let mut sql = format!("INSERT INTO {TABLE} (user_id, kind, item_id, marked_at_ms) VALUES ");
        for (at, (user, kind, item)) in rows.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(sql, "{comma}({user},{kind},{item},1790000000000)");
        }
        self.run(sql).await;
    }

    /// Gives each of the users 1 to `users` the items 1 to `rows`.
    pub async fn fill(&mut self, users: u64, rows: u64) {
        for first in (1..=users).step_by(1_000) {
            let last = users.min(first + 999);
            self.run(format!(
                "INSERT INTO {TABLE} (user_id, kind, item_id, marked_at_ms) \
                 SELECT u.seq, {KIND}, i.seq, 1 FROM seq_{first}_to_{last} u, seq_1_to_{rows} i"
            ))
            .await;
        }
    }
}

/// How fast rows are to come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub rows_per_second: u64,
    pub rows_per_commit: u64,
    pub users: u64,
    /// The first item; each row has another one.
    pub first_item: u64,
    pub lasting: Duration,
}

/// Writes rows of many users, so many in a second; how many there were in each.
pub async fn flood(port: u16, pace: Pace) -> f64 {
    let mut writer = Writer::connect(port).await;
    let mut random = Random(7);
    let began = Instant::now();
    let commits_per_second = pace.rows_per_second as f64 / pace.rows_per_commit as f64;
    let mut due = interval(Duration::from_secs_f64(1.0 / commits_per_second));
    // What it could not write in time it writes as soon as it can.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut written = 0;
    while began.elapsed() < pace.lasting {
        due.tick().await;
        let item = pace.first_item + written;
        let rows = (0..pace.rows_per_commit).map(|n| {
            let user = 1 + random.below(pace.users);
            (user, KIND, item + n)
        });
        writer.insert(rows).await;
        written += pace.rows_per_commit;
    }
    written as f64 / began.elapsed().as_secs_f64()
}
