//! What an examination says of the lengths of histories on real servers, and what it costs.

#[allow(dead_code, reason = "every test file uses a part of it")]
mod servers;

use seen_filter::{
    Builder, HashKey, Item, NamespaceId, NamespaceSettings, Retention, Sizing, UnixMillis,
};
use seen_store::mysql::{Examination, ExamineOptions, Severity, TableMapping};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::{Error, MariaDb, Mysql, Server};
use servers::{mariadb, options};

fn first() -> NamespaceSettings {
    NamespaceSettings::new(NamespaceId::new(0), "first")
}

async fn examine(
    options: &MySqlOptions,
    settings: NamespaceSettings,
    how: ExamineOptions,
) -> Examination {
    let examined = MySqlStore::examine(options.clone(), vec![settings], how).await;
    let found = examined.expect("an examination");
    let is_bad = found.findings.iter().any(|finding| finding.severity > Severity::Note);
    assert!(!is_bad, "{found:#?}");
    found
}

async fn migrate(options: &MySqlOptions, settings: NamespaceSettings) {
    let made = MySqlStore::apply_schema(options.clone(), vec![settings]).await;
    made.expect("a schema");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_told_is_what_states_take() {
    let server = mariadb().expect("a server");
    let options = server.options();
    let database = options.shards[0].database.as_str().to_owned();
    migrate(&options, first()).await;
    assert!(examine(&options, first(), ExamineOptions::default()).await.lengths.is_empty());
    // User n has n rows, up to 300; the largest is far above.
    server
        .sql(&format!(
            "USE {database}; INSERT INTO history_first SELECT u.seq * 1000, 1, i.seq, 5 \
             FROM seq_1_to_300 AS u JOIN seq_1_to_300 AS i ON i.seq <= u.seq; \
             INSERT INTO history_first SELECT 301000, 1, seq, 5 FROM seq_1_to_20000"
        ))
        .expect("rows");
    let found = examine(&options, first(), ExamineOptions::default()).await;
    let [told] = found.lengths.as_slice() else { panic!("{found:#?}") };
    assert!(told.are_all && told.users == 301 && told.rows_max == 20_000, "{told:?}");
    assert_eq!((told.rows_p50, told.rows_p90), (151, 271));
    let (key, sizing) = (HashKey::new(9, [9; 16]), Sizing::from(&first()));
    let state = |rows: u64| {
        let mut builder = Builder::new(&key, &sizing);
        (0..rows).for_each(|id| builder.push(Item::new(1, id), UnixMillis::new(5), 0));
        let mut state = builder.finish();
        let built = state.heap_bytes() as u64;
        for id in rows..rows + rows / 2 {
            state.insert(&key, &sizing, Item::new(1, id), 0);
        }
        (built, state.heap_bytes() as u64)
    };
    let states: Vec<_> = (1..=300).chain([20_000]).map(state).collect();
    let (built, grown) = told.bytes_of(told.users);
    let real: u64 = states.iter().map(|(built, _)| built).sum();
    assert!(built.abs_diff(real) * 100 < real, "{built} for {real}");
    let real: u64 = states.iter().map(|(_, grown)| grown).sum();
    assert!(grown.abs_diff(real) * 100 < real, "{grown} for {real}");
    // Of many users some are looked at.
    let few = ExamineOptions { users_max: 60, ..ExamineOptions::default() };
    let some = examine(&options, first(), few).await;
    let [some] = some.lengths.as_slice() else { panic!("{some:#?}") };
    assert!(!some.are_all && (3..=60).contains(&some.users), "{some:?}");
    assert!(some.rows_p50 > 3, "not only the first users: {some:?}");
}

/// Rows that a server has read since it started.
fn rows_read(server: &Server) -> u64 {
    let status = server.sql("SHOW GLOBAL STATUS LIKE 'Handler_read%'").expect("a status");
    let number = |line: &str| line.split('\t').nth(1).and_then(|n| n.parse::<u64>().ok());
    status.lines().filter_map(number).sum()
}

/// 20,000 users with 10 rows each, in each form of table; few of the rows may be read.
async fn few_rows_are_read(server: &Server) {
    let numbers = "CREATE TABLE n (n INT PRIMARY KEY); INSERT INTO n VALUES (0), (1), (2), (3), (4), \
                   (5), (6), (7), (8), (9); CREATE TABLE rows_of AS SELECT a.n + 10 * b.n + 100 * c.n \
                   + 1000 * d.n + 10000 * e.n AS u, i.n AS i FROM n AS a, n AS b, n AS c, n AS d, \
                   n AS e, n AS i WHERE e.n < 2";
    let table = "CREATE TABLE readings (id BIGINT AUTO_INCREMENT PRIMARY KEY, u BIGINT UNSIGNED NOT \
                 NULL, i BIGINT UNSIGNED NOT NULL, at DATETIME NOT NULL DEFAULT '2024-01-01', gone \
                 DATETIME NULL, UNIQUE KEY k (u, i))";
    let database = "large";
    server.sql(&format!("CREATE DATABASE {database}; USE {database}; {table}")).expect("a table");
    let columns = "user=u,item=i,time=at,deleted=gone";
    let mapping = TableMapping::parse(NamespaceId::new(0), "readings", columns, false);
    let mut other = options(server.port(), database);
    other.mappings = vec![mapping.expect("a mapping")];
    let mut expiring = first();
    expiring.retention = Some(Retention { span_ms: 60_000, bucket_ms: 10_000 });
    let own = MySqlOptions { mappings: Vec::new(), ..other.clone() };
    let own_rows = "INSERT INTO history_first SELECT u, 1, i, 5";
    let bucket = ", UNIX_TIMESTAMP() DIV 10 + 3 - i % 4";
    server.sql(&format!("USE {database}; {numbers}")).expect("numbers");
    let how = ExamineOptions { users_max: 200, rows_max: 1_000, ..ExamineOptions::default() };
    for (options, settings, rows) in [
        (other, first(), "INSERT INTO readings (u, i) SELECT u, i".to_owned()),
        (own.clone(), first(), own_rows.to_owned()),
        (own, expiring, format!("{own_rows}{bucket}")),
    ] {
        server
            .sql(&format!(
                "USE {database}; DROP TABLE IF EXISTS history_first, seen_namespaces, \
                 seen_store, seen_control, seen_leases, seen_upkeep_log, seen_migrations"
            ))
            .expect("none");
        migrate(&options, settings.clone()).await;
        server.sql(&format!("USE {database}; {rows} FROM rows_of; COMMIT")).expect("rows");
        let analyzed = if options.mappings.is_empty() { "history_first" } else { "readings" };
        server.sql(&format!("ANALYZE TABLE {database}.{analyzed}")).expect("statistics");
        let before = rows_read(server);
        let found = examine(&options, settings, how).await;
        let read = rows_read(server) - before;
        let told = &found.lengths[0];
        assert!(!told.are_all && (100..=200).contains(&told.users), "{told:?}");
        assert_eq!((told.rows_p50, told.rows_max), (10, 10));
        assert!(read < 40_000, "{read} rows read of 200,000: {analyzed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_looked_at_in_places() {
    few_rows_are_read(&MariaDb::start().expect("a server")).await;
    match Mysql::start() {
        Err(missing @ Error::Missing { .. }) => eprintln!("SKIPPED: {missing}"),
        started => few_rows_are_read(&started.expect("a server")).await,
    }
}
