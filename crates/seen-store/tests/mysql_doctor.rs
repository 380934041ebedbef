//! What an examination finds on real servers, and that the statements it names mend it.

mod servers;

use std::collections::BTreeSet;

use seen_filter::{NamespaceId, NamespaceSettings, Retention, StoreErrorKind};
use seen_store::mysql::{
    Examination, ExamineOptions, Finding, PasswordSource, Severity, TableMapping, WantedFeed,
};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::{Error, MariaDb, Mysql, Server};
use servers::{mariadb, mysql, options, tidb};

fn first() -> NamespaceSettings {
    NamespaceSettings::new(NamespaceId::new(0), "first")
}

async fn examine(options: &MySqlOptions) -> Examination {
    examine_with(options, first(), ExamineOptions::default()).await
}

async fn examine_with(
    options: &MySqlOptions,
    settings: NamespaceSettings,
    how: ExamineOptions,
) -> Examination {
    let examined = MySqlStore::examine(options.clone(), vec![settings], how).await;
    examined.expect("an examination")
}

async fn migrate(options: &MySqlOptions, settings: NamespaceSettings) {
    let made = MySqlStore::apply_schema(options.clone(), vec![settings]).await;
    made.expect("a schema");
}

/// Findings that are more than notes.
fn bad(examination: &Examination) -> Vec<&Finding> {
    let all = examination.findings.iter();
    all.filter(|finding| finding.severity > Severity::Note).collect()
}

/// Findings of errors alone.
fn errors(examination: &Examination) -> Vec<&Finding> {
    let all = examination.findings.iter();
    all.filter(|finding| finding.severity == Severity::Error).collect()
}

/// Does what the findings say; as root.
async fn mend(server: &Server, as_root: &MySqlOptions, findings: &[&Finding]) {
    for finding in findings {
        let Some(mend) = &finding.mend else { panic!("nothing mends {finding:?}") };
        if mend == "seen migrate --apply" {
            migrate(as_root, first()).await;
            continue;
        }
        server.sql(mend).unwrap_or_else(|error| panic!("{finding}: {error}"));
    }
}

/// The settings that findings above notes are about, with their severity.
fn settings(examination: &Examination) -> BTreeSet<(Severity, String)> {
    let of = |finding: &&Finding| {
        let (setting, _) = finding.subject.split_once(" at ").expect("a setting");
        (finding.severity, setting.to_owned())
    };
    bad(examination).iter().map(of).collect()
}

fn expected(errors: &[&str], warnings: &[&str]) -> BTreeSet<(Severity, String)> {
    let errors = errors.iter().map(|name| (Severity::Error, (*name).to_owned()));
    let warnings = warnings.iter().map(|name| (Severity::Warning, (*name).to_owned()));
    errors.chain(warnings).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_setting_is_named_and_its_statement_mends_it() {
    let server = MariaDb::builder().arguments(&[
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=2",
        "--binlog-format=STATEMENT",
        "--binlog-row-image=MINIMAL",
        "--binlog-row-metadata=NO_LOG",
        "--log-bin-compress=ON",
        "--gtid-strict-mode=OFF",
        "--binlog-expire-logs-seconds=600",
        "--wait-timeout=30",
        "--max-connections=12",
        "--max-statement-time=1",
        "--sql-mode=",
    ]);
    let server = server.start().expect("a server");
    server.sql("CREATE DATABASE d").expect("a database");
    let options = options(server.port(), "d");
    migrate(&options, first()).await;
    let found = examine(&options).await;
    let all = expected(
        &[
            "sync_binlog",
            "innodb_flush_log_at_trx_commit",
            "binlog_format",
            "binlog_row_image",
            "binlog_row_metadata",
            "log_bin_compress",
        ],
        &["gtid_strict_mode", "binlog_expire_logs_seconds", "wait_timeout", "max_connections"],
    );
    assert_eq!(settings(&found), all, "{found:#?}");
    assert!(found.findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
    let notes = |found: &Examination, name: &str| {
        found.findings.iter().any(|f| f.severity == Severity::Note && f.subject.starts_with(name))
    };
    assert!(notes(&found, "sql_mode at") && notes(&found, "max_statement_time at"), "{found:#?}");
    // Who follows no log has no use for it; what is acknowledged can be lost all the same.
    let unfollowed = ExamineOptions { feed: WantedFeed::None, ..ExamineOptions::default() };
    let without = examine_with(&options, first(), unfollowed).await;
    let kept = ["sync_binlog", "innodb_flush_log_at_trx_commit"];
    assert_eq!(settings(&without), expected(&kept, &["wait_timeout", "max_connections"]));
    assert!(notes(&without, "mysql.feed"), "{without:#?}");
    mend(&server, &options, &bad(&found)).await;
    let healed = examine(&options).await;
    assert!(bad(&healed).is_empty(), "{healed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_log_is_an_error_unless_none_is_followed() {
    let server = MariaDb::builder().argument("--skip-log-bin").start().expect("a server");
    server.sql("CREATE DATABASE d").expect("a database");
    let options = options(server.port(), "d");
    migrate(&options, first()).await;
    assert_eq!(settings(&examine(&options).await), expected(&["log_bin"], &[]));
    let unfollowed = ExamineOptions { feed: WantedFeed::None, ..ExamineOptions::default() };
    let without = examine_with(&options, first(), unfollowed).await;
    assert!(bad(&without).is_empty(), "{without:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_are_compared() {
    let one = MariaDb::builder().start().expect("a server");
    one.sql("CREATE DATABASE d").expect("a database");
    let two = MariaDb::builder().start().expect("a server");
    let mut options = options(one.port(), "d");
    let address = |port: u16| format!("127.0.0.1:{port}").parse().expect("an address");
    options.shards[0].candidates.push(address(two.port()));
    // Nobody listens there.
    options.shards[0].witnesses.push(address(1));
    let found = examine(&options).await;
    let about = |found: &Examination, severity, subject: &str, what: &str| {
        found.findings.iter().any(|finding| {
            finding.severity == severity
                && finding.subject == subject
                && finding.what.contains(what)
        })
    };
    let (one_at, two_at) = (one.port(), two.port());
    let both = format!("127.0.0.1:{one_at}, 127.0.0.1:{two_at}");
    assert!(about(&found, Severity::Error, "primary of shard 0", &both), "{found:#?}");
    let twin = format!("server_id at 127.0.0.1:{two_at}");
    assert!(about(&found, Severity::Error, &twin, "is 1 as at"), "{found:#?}");
    let absent = "opening 127.0.0.1:1";
    assert!(about(&found, Severity::Warning, "server 127.0.0.1:1", absent), "{found:#?}");
    let semi = format!("rpl_semi_sync_master_enabled at 127.0.0.1:{one_at}");
    assert!(about(&found, Severity::Note, &semi, "failover"), "{found:#?}");
    // What the shard's tables lack is found nevertheless.
    assert!(about(&found, Severity::Error, "schema `d`", "migration 1"), "{found:#?}");
    let mends = errors(&found).into_iter().filter(|f| f.subject == twin);
    mend(&two, &options, &mends.collect::<Vec<_>>()).await;
    two.set_read_only(true).expect("read only");
    migrate(&options, first()).await;
    // Last, since commits would wait for a replica.
    let notes = found.findings.iter().filter(|f| f.subject == semi);
    mend(&one, &options, &notes.collect::<Vec<_>>()).await;
    // Its timeout is longer than a read may lag.
    let stalls = examine(&options).await;
    let timeout = format!("rpl_semi_sync_master_timeout at 127.0.0.1:{one_at}");
    assert!(about(&stalls, Severity::Error, &timeout, "mysql.snapshot_lag"), "{stalls:#?}");
    mend(&one, &options, &errors(&stalls)).await;
    let healed = examine(&options).await;
    assert!(errors(&healed).is_empty(), "{healed:#?}");
    assert!(!healed.findings.iter().any(|finding| finding.subject == semi), "{healed:#?}");
    one.set_read_only(true).expect("read only");
    let nobody = examine(&options).await;
    assert!(about(&nobody, Severity::Error, "primary of shard 0", "no server takes writes"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_at_all_is_an_error_with_each_reason() {
    let mut dead = options(1, "d");
    dead.connect_timeout_ms = 500;
    dead.login.password = PasswordSource::Text("hunter2".to_owned());
    let refused = MySqlStore::examine(dead.clone(), vec![first()], ExamineOptions::default()).await;
    let refused = refused.expect_err("nobody is there");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable);
    assert!(refused.message.contains("127.0.0.1:1: "), "{refused}");
    let server = mariadb().expect("a server");
    let mut denied = options(server.port(), "d");
    denied.login.password = PasswordSource::Text("hunter2".to_owned());
    let refused = MySqlStore::examine(denied, vec![first()], ExamineOptions::default()).await;
    let refused = refused.expect_err("denied");
    assert!(refused.message.contains("refuses the user \"root\""), "{refused}");
    assert!(!refused.message.contains("hunter2"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_database_is_mended_step_by_step_for_a_user_without_privileges() {
    for server in [mariadb(), mysql(), tidb()].into_iter().flatten() {
        let host = "127.0.0.1";
        server.sql("DROP DATABASE IF EXISTS fresh_1").expect("none");
        server.sql(&format!("DROP USER IF EXISTS plain@'{host}'")).expect("none");
        server.sql(&format!("CREATE USER plain@'{host}' IDENTIFIED BY 'hunter2'")).expect("a user");
        let as_root = options(server.port(), "fresh_1");
        let mut plain = as_root.clone();
        plain.login.user = "plain".to_owned();
        plain.login.password = PasswordSource::Text("hunter2".to_owned());
        let mut rounds = Vec::new();
        let healed = loop {
            let found = examine(&plain).await;
            if bad(&found).is_empty() {
                break found;
            }
            assert!(rounds.len() < 4, "{rounds:#?}");
            mend(&server, &as_root, &bad(&found)).await;
            rounds.push(found.findings);
        };
        let mends = rounds.concat().into_iter().filter_map(|finding| finding.mend);
        let mends: Vec<String> = mends.collect();
        let to_plain = format!("TO 'plain'@'{host}'");
        let grants = mends.iter().filter(|mend| mend.starts_with("GRANT "));
        assert!(
            grants.clone().count() >= 2 && grants.clone().all(|mend| mend.ends_with(&to_plain))
        );
        assert!(mends.contains(&"CREATE DATABASE `fresh_1`".to_owned()), "{mends:#?}");
        assert!(!format!("{rounds:?}{healed:?}").contains("hunter2"));
        let store = MySqlStore::open(plain, vec![first()]).await.expect("a store");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_own_table_is_compared_with_what_it_should_be() {
    let server = mariadb().expect("a server");
    let options = server.options();
    let database = options.shards[0].database.as_str().to_owned();
    let mut settings = first();
    settings.retention = Some(Retention { span_ms: 60_000, bucket_ms: 10_000 });
    migrate(&options, settings.clone()).await;
    let whole = examine_with(&options, settings.clone(), ExamineOptions::default()).await;
    assert!(bad(&whole).is_empty(), "{whole:#?}");
    server
        .sql(&format!(
            "USE {database}; ALTER TABLE history_first REMOVE PARTITIONING; \
             ALTER TABLE history_first DROP PRIMARY KEY, DROP COLUMN marked_at_ms, \
             MODIFY COLUMN item_id INT UNSIGNED NULL, ENGINE = Aria"
        ))
        .expect("another form");
    let found = examine_with(&options, settings.clone(), ExamineOptions::default()).await;
    for what in ["lost its column `marked_at_ms`", "primary key is ()", "item_id` is int", "Aria"] {
        let named = errors(&found).iter().any(|finding| finding.what.contains(what));
        assert!(named, "{what}: {found:#?}");
    }
    // The key needs its columns first.
    let mut mends = errors(&found);
    mends.sort_by_key(|finding| finding.what.contains("primary key"));
    mend(&server, &options, &mends).await;
    let healed = examine_with(&options, settings, ExamineOptions::default()).await;
    assert!(errors(&healed).is_empty(), "{healed:#?}");
}

/// Options with a table of somebody else's, which this statement makes.
fn foreign(server: &Server, table: &str, columns: &str, read_only: bool) -> MySqlOptions {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let database = format!("foreign_{number}");
    server.sql(&format!("CREATE DATABASE {database}; USE {database}; {table}")).expect("a table");
    let mapping = TableMapping::parse(NamespaceId::new(0), "readings", columns, read_only);
    let mut options = options(server.port(), &database);
    options.mappings = vec![mapping.expect("a mapping")];
    options
}

const SHAPES: [(&str, &str, bool); 3] = [
    (
        "CREATE TABLE readings (id BIGINT AUTO_INCREMENT PRIMARY KEY, member INT UNSIGNED NOT NULL, \
         article INT UNSIGNED NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
         UNIQUE KEY k (member, article)); INSERT INTO readings (member, article) VALUES (1, 1), (1, 2)",
        "user=member,item=article,kind=3,time=at",
        false,
    ),
    (
        "CREATE TABLE readings (u BIGINT NOT NULL, k SMALLINT NOT NULL, i BIGINT NOT NULL, \
         at INT NOT NULL DEFAULT 0, gone TINYINT NOT NULL DEFAULT 0, PRIMARY KEY (u, k, i)); \
         INSERT INTO readings VALUES (-1, 1, -5, 1700000000, 0), (2, 255, 7, 1700000000, 1)",
        "user=u,item=i,kind=k,time=at:s,deleted=gone",
        false,
    ),
    (
        "CREATE TABLE readings (u BIGINT UNSIGNED NOT NULL, i BIGINT UNSIGNED NOT NULL, note TEXT NOT \
         NULL, KEY (u, i)); INSERT INTO readings VALUES (1, 1, 'a'), (1, 1, 'b'), (9, 2, 'c')",
        "user=u,item=i",
        true,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_others_that_are_fine_are_told_so() {
    for (table, columns, read_only) in SHAPES {
        for server in [mariadb(), mysql(), tidb()].into_iter().flatten() {
            let options = foreign(&server, table, columns, read_only);
            migrate(&options, first()).await;
            let found = examine(&options).await;
            assert!(bad(&found).is_empty(), "{columns}: {found:#?}");
            assert_eq!(found.lengths.len(), 1, "{found:#?}");
            server.sql(&format!("DROP DATABASE {}", options.shards[0].database)).expect("dropped");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_others_without_a_key_is_mended() {
    let server = mariadb().expect("a server");
    let table = "CREATE TABLE readings (u BIGINT UNSIGNED, k SMALLINT NOT NULL, i BIGINT UNSIGNED NOT \
                 NULL, at DATETIME)";
    let options = foreign(&server, table, "user=u,item=i,kind=k,time=at", false);
    migrate(&options, first()).await;
    let rows = "(NULL, 1, 1, NOW()), (NULL, 1, 2, NOW()), (5, 300, 1, NOW()), (5, 1, 1, NULL), \
                (6, 1, 1, '0000-00-00')";
    let database = options.shards[0].database.as_str();
    server
        .sql(&format!("SET sql_mode = ''; INSERT INTO {database}.readings VALUES {rows}"))
        .expect("rows");
    let found = examine(&options).await;
    let named = |found: &Examination, severity, what: &str| {
        let is_it = |f: &&Finding| f.severity == severity && f.what.contains(what);
        found.findings.iter().any(|finding| is_it(&finding))
    };
    assert!(named(&found, Severity::Error, "no unique key"), "{found:#?}");
    assert!(named(&found, Severity::Error, "no index that begins with the user"), "{found:#?}");
    for warning in [
        "user column may be NULL",
        "2 of 5 rows looked at have no user",
        "1 of 5 rows looked at have a kind",
        "1 of 5 rows looked at have no time",
        "1 of 5 rows looked at have the date 0000-00-00",
    ] {
        assert!(named(&found, Severity::Warning, warning), "{warning}: {found:#?}");
    }
    let unique = errors(&found).into_iter().filter(|f| f.what.contains("no unique key"));
    mend(&server, &options, &unique.collect::<Vec<_>>()).await;
    let healed = examine(&options).await;
    assert!(errors(&healed).is_empty(), "{healed:#?}");
    // With the key the users can be counted; rows without one are nobody's.
    assert_eq!(healed.lengths.iter().map(|l| (l.users, l.rows_max)).next(), Some((2, 2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_or_table_that_is_not_there_is_named() {
    let server = mariadb().expect("a server");
    let table = "CREATE TABLE readings (u BIGINT UNSIGNED NOT NULL, i BIGINT UNSIGNED NOT NULL, \
                 PRIMARY KEY (u, i))";
    let mut options = foreign(&server, table, "user=u,item=article", false);
    migrate(&options, first()).await;
    let found = examine(&options).await;
    let what: Vec<&str> = errors(&found).iter().map(|finding| finding.what.as_str()).collect();
    assert!(what.iter().any(|what| what.contains("no column `article`")), "{found:#?}");
    let gone = TableMapping::parse(NamespaceId::new(0), "gone", "user=u,item=i", false);
    options.mappings = vec![gone.expect("a mapping")];
    let found = examine(&options).await;
    let what: Vec<&str> = errors(&found).iter().map(|finding| finding.what.as_str()).collect();
    assert!(what.iter().any(|what| what.contains("is not there")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_without_a_zone_are_warned_of_where_the_server_is_not_in_utc() {
    let server = MariaDb::builder().argument("--default-time-zone=+02:00").start();
    let server = server.expect("a server");
    let table = |kind: &str| {
        format!(
            "CREATE TABLE readings (u BIGINT UNSIGNED NOT NULL, i BIGINT UNSIGNED NOT NULL, \
             at {kind} NOT NULL, PRIMARY KEY (u, i))"
        )
    };
    for (kind, warned) in [("DATETIME", true), ("TIMESTAMP", false)] {
        let options = foreign(&server, &table(kind), "user=u,item=i,time=at", false);
        migrate(&options, first()).await;
        let found = examine(&options).await;
        let said = bad(&found).iter().any(|finding| finding.what.contains("+02:00"));
        assert_eq!(said, warned, "{kind}: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_and_tidb_have_no_errors_where_nothing_is_wrong() {
    for server in [mysql(), tidb()].into_iter().flatten() {
        let options = server.options();
        migrate(&options, first()).await;
        let found = examine(&options).await;
        assert!(bad(&found).is_empty(), "{found:#?}");
    }
    let Some(server) = tidb() else { return };
    let options = server.options();
    migrate(&options, first()).await;
    let found = examine(&options).await;
    let feed = found.findings.iter().find(|finding| finding.subject == "mysql.feed");
    assert!(feed.is_some_and(|finding| finding.what.contains("TiCDC")), "{found:#?}");
    let wanted = ExamineOptions { feed: WantedFeed::Binlog, ..ExamineOptions::default() };
    assert_eq!(errors(&examine_with(&options, first(), wanted).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mysql_leaves_out_of_its_log_by_default_is_mended() {
    // The server's own defaults, in place of the test bed's.
    let defaults =
        ["--binlog-row-metadata=MINIMAL", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    let server = match Mysql::start_with(&defaults) {
        Err(missing @ Error::Missing { .. }) => return eprintln!("SKIPPED: {missing}"),
        started => started.expect("a server"),
    };
    server.sql("CREATE DATABASE d").expect("a database");
    let options = options(server.port(), "d");
    migrate(&options, first()).await;
    let found = examine(&options).await;
    assert_eq!(
        settings(&found),
        expected(&["binlog_row_metadata", "gtid_mode"], &[]),
        "{found:#?}"
    );
    mend(&server, &options, &bad(&found)).await;
    let healed = examine(&options).await;
    assert!(bad(&healed).is_empty(), "{healed:#?}");
}
