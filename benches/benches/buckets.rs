//! Point checks of a table with a retention: by a range of buckets, and by what is used instead.
//!
//! `cargo bench -p seen-benches --bench buckets` starts a private MariaDB, MySQL and TiDB, as far as they
//! are there, and makes a table of the store's layout for each number of buckets: a partition a bucket,
//! three ahead and one for later rows. One check is `--items` items of one user, half of them marked, by
//! prepared statements of the sizes that the store has. All ways take turns within each round; what is
//! printed are medians, and their ratio to the range's. Trust the ratios.
#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Parser;
use seen_testbed::{MariaDb, Mysql, Server, Tidb, or_skip};
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlSslMode};
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions as _, Executor as _, MySqlConnection};
use sqlx::{Row as _, SqlSafeStr as _, SqlStr};

/// How many keys a statement may have, as in the store: on TiDB 200 at most.
const SIZES: [usize; 5] = [1, 8, 40, 200, 1_000];
/// The first bucket that has not expired.
const HORIZON: u64 = 500_000;
/// Rows of one insert.
const INSERT_ROWS: usize = 1_000;

#[derive(Debug, Parser)]
struct Arguments {
    /// Buckets that have not expired.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 8, 49])]
    buckets: Vec<u64>,
    /// Items of a check.
    #[arg(long, default_value_t = 400)]
    items: u64,
    /// `eq_range_index_dive_limit` of MariaDB and MySQL.
    #[arg(long, default_value_t = 1)]
    dives: u64,
    /// Users of each table.
    #[arg(long, default_value_t = 100)]
    users: u64,
    /// Rows of a user.
    #[arg(long, default_value_t = 1_000)]
    rows: u64,
    /// Checks by each way.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    #[arg(long, hide = true)]
    bench: bool,
}

/// How a check says which buckets count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `(user, kind, item) IN (...) AND bucket >= ?`
    Range,
    /// `(user, kind, item) IN (...) AND bucket + 0 >= ?`, with estimates instead of looks at the index:
    /// the bucket is no part of the ranges, which are then equalities.
    Hidden,
    /// `(user, kind, item, bucket) IN (...)`: each item once for each bucket.
    Keys,
    /// `(user, kind, item) IN (...) AND bucket IN (...)`
    List,
}

const WAYS: [Way; 4] = [Way::Range, Way::Hidden, Way::Keys, Way::List];

/// A table with so many buckets, on one kind of server.
struct Place {
    table: String,
    buckets: u64,
    /// Keys that one statement takes.
    keys: usize,
    /// The same where an item is as many keys as there are buckets.
    named_keys: usize,
}

impl Place {
    /// Items of a statement.
    fn items(&self, way: Way) -> usize {
        match way {
            Way::Keys => (self.named_keys / self.buckets as usize).max(1),
            Way::Range | Way::Hidden | Way::List => self.keys,
        }
    }

    fn sql(&self, way: Way) -> SqlStr {
        let items = self.items(way);
        let list = |one: &str, count: usize| vec![one; count].join(",");
        let table = &self.table;
        let begin =
            format!("SELECT user_id, kind, item_id FROM {table} WHERE (user_id, kind, item_id");
        let text = match way {
            Way::Range => format!("{begin}) IN ({}) AND bucket >= ?", list("(?,?,?)", items)),
            Way::Hidden => format!("{begin}) IN ({}) AND bucket + 0 >= ?", list("(?,?,?)", items)),
            Way::Keys => {
                let count = items * self.buckets as usize;
                format!("{begin}, bucket) IN ({})", list("(?,?,?,?)", count))
            }
            Way::List => {
                let buckets = list("?", self.buckets as usize);
                format!("{begin}) IN ({}) AND bucket IN ({buckets})", list("(?,?,?)", items))
            }
        };
        AssertSqlSafe(text).into_sql_str()
    }

    fn arguments(&self, way: Way, user: u64, items: &[u64]) -> MySqlArguments {
        let mut arguments = MySqlArguments::default();
        let mut add = |value: u64| arguments.add(value).expect("a number");
        let buckets = HORIZON..HORIZON + self.buckets;
        // Padded as the store does it, with items that nobody asked for.
        let pads = 0_u64..;
        let padded = items.iter().copied().chain(pads.map(|pad| u64::MAX / 2 + pad));
        for item in padded.take(self.items(way)) {
            let whole = if way == Way::Keys { buckets.clone() } else { 0..1 };
            for bucket in whole {
                [user, 1, item].into_iter().for_each(&mut add);
                if way == Way::Keys {
                    add(bucket);
                }
            }
        }
        match way {
            Way::Range | Way::Hidden => add(HORIZON),
            Way::Keys => {}
            Way::List => buckets.for_each(&mut add),
        }
        arguments
    }

    /// One check; what it found, and how long it took.
    async fn check(
        &self,
        c: &mut MySqlConnection,
        way: Way,
        user: u64,
        all: &[u64],
    ) -> (usize, Duration) {
        let sql = self.sql(way);
        let each = all.chunks(self.items(way));
        let statements: Vec<_> = each.map(|items| self.arguments(way, user, items)).collect();
        let began = Instant::now();
        let mut found = 0;
        for arguments in statements {
            let rows = sqlx::query_with(sql.clone(), arguments).fetch_all(&mut *c).await;
            found += rows.expect("an answer").len();
        }
        (found, began.elapsed())
    }

    async fn fill(&self, c: &mut MySqlConnection, arguments: &Arguments) {
        let table = &self.table;
        let mut partitions = String::new();
        for bucket in HORIZON..HORIZON + self.buckets + 3 {
            let _ = write!(partitions, "PARTITION p{bucket} VALUES LESS THAN ({}), ", bucket + 1);
        }
        let made = format!(
            "CREATE TABLE {table} (user_id BIGINT UNSIGNED NOT NULL, kind TINYINT UNSIGNED NOT NULL, \
             item_id BIGINT UNSIGNED NOT NULL, marked_at_ms BIGINT UNSIGNED NOT NULL, \
             bucket INT UNSIGNED NOT NULL, PRIMARY KEY (user_id, kind, item_id, bucket)) \
             PARTITION BY RANGE (bucket) ({partitions}PARTITION p_later VALUES LESS THAN MAXVALUE)"
        );
        run(c, made).await;
        let mut rows = Vec::new();
        for user in 0..arguments.users {
            for n in 0..arguments.rows {
                let bucket = HORIZON + (n * 31 + user) % self.buckets;
                rows.push(format!("({user},1,{},1,{bucket})", 2 * n));
            }
        }
        for rows in rows.chunks(INSERT_ROWS) {
            run(c, format!("INSERT INTO {table} VALUES {}", rows.join(","))).await;
        }
        run(c, format!("ANALYZE TABLE {table}")).await;
    }

    /// How long it takes to see that no row is of a later bucket.
    async fn ahead(&self, c: &mut MySqlConnection) -> Duration {
        let text = format!("SELECT 1 FROM {} WHERE bucket > ? LIMIT 1", self.table);
        let sql = AssertSqlSafe(text).into_sql_str();
        let query = sqlx::query(sql).bind(HORIZON + self.buckets - 1);
        let began = Instant::now();
        let found = query.fetch_optional(c).await.expect("an answer");
        assert!(found.is_none(), "rows are ahead");
        began.elapsed()
    }

    /// The plan's step that reaches for rows, in the server's words.
    async fn plan(&self, c: &mut MySqlConnection, way: Way, user: u64, all: &[u64]) -> String {
        let items = &all[..all.len().min(self.items(way))];
        let sql = self.sql(way);
        let explain = AssertSqlSafe(format!("EXPLAIN {}", sql.as_str())).into_sql_str();
        let query = sqlx::query_with(explain, self.arguments(way, user, items));
        let rows = query.persistent(false).fetch_all(c).await.expect("a plan");
        let words = |row: &sqlx::mysql::MySqlRow| {
            let columns = (0..row.len()).filter_map(|n| row.try_get_unchecked::<String, _>(n).ok());
            columns
                .map(|text| text.chars().take(24).collect::<String>())
                .collect::<Vec<_>>()
                .join(" ")
        };
        rows.iter().map(words).collect::<Vec<_>>().join(" | ").chars().take(160).collect()
    }
}

async fn run(c: &mut MySqlConnection, sql: String) {
    c.execute(sqlx::raw_sql(AssertSqlSafe(sql).into_sql_str())).await.expect("done");
}

/// The median.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn measure(name: &str, server: &Server, keys_max: usize, arguments: &Arguments) {
    server.sql("CREATE DATABASE bench").expect("a database");
    let options = MySqlConnectOptions::new().host("127.0.0.1").port(server.port());
    let options = options.username("root").database("bench").ssl_mode(MySqlSslMode::Disabled);
    let options = options.statement_cache_capacity(256).pipes_as_concat(false).timezone(None);
    let mut c = options.no_engine_substitution(false).connect().await.expect("connected");
    if keys_max > 200 {
        let dives = arguments.dives;
        run(&mut c, format!("SET SESSION eq_range_index_dive_limit = {dives}")).await;
    }
    for &buckets in &arguments.buckets {
        let size = |keys: u64| {
            let fits = SIZES.into_iter().find(|size| *size as u64 >= keys && *size <= keys_max);
            fits.unwrap_or(keys_max)
        };
        let (keys, named_keys) = (size(arguments.items), size(arguments.items * buckets));
        let place = Place { table: format!("history_{buckets}"), buckets, keys, named_keys };
        place.fill(&mut c, arguments).await;
        let mut times = vec![Vec::with_capacity(arguments.rounds); WAYS.len()];
        for round in 0..arguments.rounds {
            let user = round as u64 * 7 % arguments.users;
            let first = round as u64 % 97;
            let items: Vec<u64> = (first..first + arguments.items).collect();
            let mut found = None;
            for (way, times) in WAYS.into_iter().zip(&mut times) {
                let (rows, took) = place.check(&mut c, way, user, &items).await;
                assert_eq!(*found.get_or_insert(rows), rows, "{way:?}");
                times.push(took);
            }
        }
        let mut ahead = Vec::with_capacity(arguments.rounds);
        for _ in 0..arguments.rounds {
            ahead.push(place.ahead(&mut c).await);
        }
        println!("{name} {buckets:>2} buckets, rows ahead? {} us", median(&mut ahead).as_micros());
        let range = median(&mut times[0]);
        for (way, times) in WAYS.into_iter().zip(&mut times) {
            let took = median(times);
            let ratio = took.as_secs_f64() / range.as_secs_f64();
            let plan = place.plan(&mut c, way, 1, &(0..arguments.items).collect::<Vec<_>>()).await;
            println!(
                "{name} {buckets:>2} buckets {way:?}: {} us, {ratio:.2}; {plan}",
                took.as_micros()
            );
        }
    }
}

fn main() {
    // `cargo test` runs benches with `--test`, to see whether they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mariadb = MariaDb::builder().arguments(&["--innodb-buffer-pool-size=1G"]).start();
        measure("MariaDB", &mariadb.expect("a MariaDB"), 1_000, &arguments).await;
        if let Some(mysql) = or_skip(Mysql::start_with(&["--innodb-buffer-pool-size=1G"])) {
            measure("MySQL", &mysql, 1_000, &arguments).await;
        }
        if let Some(tidb) = or_skip(Tidb::start()) {
            measure("TiDB", &tidb, 200, &arguments).await;
        }
    });
}
