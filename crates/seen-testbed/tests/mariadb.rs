//! A MariaDB that crashes, hangs, and hands over.

use std::path::Path;
use std::time::Duration;

use seen_testbed::{Error, MariaDb};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b VARCHAR(20));";
const ROWS: &str = "SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t";

#[test]
fn it_takes_statements_and_says_what_is_wrong_with_them() {
    let server = MariaDb::start().expect("started");
    assert!(server.port() < 32_768);
    server.sql(TABLE).expect("a table");
    let rows = server.sql("INSERT INTO d.t VALUES (1, 'é'), (2, NULL); SELECT * FROM d.t");
    assert_eq!(rows.expect("rows"), "1\té\n2\tNULL\n");
    let error = server.sql("SELECT * FROM d.nothing").expect_err("no such table");
    assert!(matches!(&error, Error::Sql { message, .. } if message.contains("1146")), "{error}");
    assert_eq!(server.gtid_position().expect("a position"), "0-1-3");
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let server = MariaDb::start().expect("started");
    let (folder, pid) = (server.folder().to_owned(), server.pid());
    assert!(folder.exists() && process(pid).exists());
    drop(server);
    assert!(!folder.exists(), "{} is left", folder.display());
    assert!(!process(pid).exists(), "{pid} still runs");
}

fn process(pid: u32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string())
}

#[test]
fn what_was_committed_outlives_a_crash_and_a_stop() {
    let server = MariaDb::start().expect("started");
    let (port, first) = (server.port(), server.pid());
    server.sql(&format!("{TABLE} INSERT INTO d.t VALUES (1, 'x')")).expect("a row");
    server.kill_9().expect("killed");
    assert!(!server.is_alive());
    server.sql("SELECT 1").expect_err("nobody is there");
    server.restart().expect("restarted");
    assert!(server.is_alive());
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), first);
    assert_eq!(server.sql(ROWS).expect("rows"), "1\n");
    server.stop().expect("stopped");
    assert!(!server.is_alive());
    server.stop().expect("nothing to stop");
    server.restart().expect("restarted");
    assert_eq!(server.sql(ROWS).expect("rows"), "1\n");
}

#[test]
fn a_frozen_server_answers_once_it_is_thawed() {
    let server = MariaDb::start().expect("started");
    server.freeze().expect("frozen");
    assert!(server.is_alive());
    let error = server.sql_within(Duration::from_millis(300), "SELECT 1").expect_err("no answer");
    assert!(matches!(error, Error::TooLate { .. }), "{error}");
    server.thaw().expect("thawed");
    assert_eq!(server.sql("SELECT 1").expect("an answer"), "1\n");
    server.freeze().expect("frozen");
    server.kill_9().expect("a frozen one can be killed");
    server.restart().expect("restarted");
    server.freeze().expect("frozen");
    server.stop().expect("a frozen one can be stopped");
}

#[test]
fn a_replica_follows_takes_over_and_is_followed() {
    let primary = MariaDb::start().expect("a primary");
    primary.create_user("app", "it's").expect("a user");
    primary.sql(&format!("{TABLE} INSERT INTO d.t VALUES (1, 'x')")).expect("a row");
    let replica = MariaDb::builder().replica_of(&primary).start().expect("a replica");
    assert_eq!((primary.server_id(), replica.server_id()), (1, 2));
    assert_eq!(replica.sql(ROWS).expect("rows"), "1\n");
    primary.sql("INSERT INTO d.t VALUES (2, 'y')").expect("a row");
    replica.catch_up_with(&primary).expect("caught up");
    assert_eq!(replica.sql(ROWS).expect("rows"), "1,2\n");
    assert_eq!(replica.gtid_position().ok(), primary.gtid_position().ok());

    replica.restart().expect("restarted");
    assert_eq!(replica.sql("SELECT @@read_only").expect("a row"), "1\n");
    primary.sql("INSERT INTO d.t VALUES (3, 'z')").expect("a row");
    replica.catch_up_with(&primary).expect("caught up");

    primary.kill_9().expect("killed");
    replica.promote().expect("promoted");
    replica.sql("INSERT INTO d.t VALUES (4, 'a')").expect("a row");
    assert_eq!(replica.gtid_position().expect("a position").split('-').nth(1), Some("2"));
    replica.restart().expect("restarted");
    assert_eq!(replica.sql("SELECT @@read_only").expect("a row"), "0\n");

    primary.restart().expect("restarted");
    primary.follow(&replica).expect("the old primary follows");
    assert_eq!(primary.sql(ROWS).expect("rows"), "1,2,3,4\n");
}

#[test]
fn a_read_only_server_refuses_the_writes_of_its_users() {
    let server = MariaDb::start().expect("started");
    server.sql(TABLE).expect("a table");
    server.create_user("app", "it's").expect("a user");
    let as_app = |statements: &str| {
        let output = std::process::Command::new("mariadb")
            .args(["--no-defaults", "-h127.0.0.1", "-uapp", "-pit's", "-N", "-B", "-e", statements])
            .arg(format!("-P{}", server.port()))
            .output()
            .expect("a client");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    assert_eq!(as_app("INSERT INTO d.t VALUES (1, 'x'); SELECT a FROM d.t"), "1\n");
    server.set_read_only(true).expect("read-only");
    let refused = as_app("INSERT INTO d.t VALUES (2, 'x')");
    assert!(refused.contains("1290"), "{refused}");
    server.restart().expect("restarted");
    let refused = as_app("INSERT INTO d.t VALUES (2, 'x')");
    assert!(refused.contains("1290"), "{refused}");
    server.set_read_only(false).expect("writable");
    assert_eq!(as_app("INSERT INTO d.t VALUES (2, 'x'); SELECT MAX(a) FROM d.t"), "2\n");
}

#[test]
fn a_server_that_cannot_start_says_why_in_its_own_words() {
    let error = MariaDb::builder().argument("--no-such-option").start().expect_err("refused");
    assert!(error.to_string().contains("unknown option '--no-such-option'"), "{error}");
}

#[test]
fn data_in_a_given_folder_stays() {
    let kept = tempfile::tempdir().expect("a folder");
    let data = kept.path().join("data");
    let server = MariaDb::builder().data_folder(&data).server_id(7).start().expect("started");
    server.sql(&format!("{TABLE} INSERT INTO d.t VALUES (1, 'x')")).expect("a row");
    assert_eq!(server.gtid_position().expect("a position"), "0-7-3");
    drop(server);
    let server = MariaDb::builder().data_folder(&data).server_id(7).start().expect("started");
    assert_eq!(server.sql(ROWS).expect("rows"), "1\n");
}

#[test]
fn myrocks_is_there_if_asked_for() {
    match MariaDb::builder().with_rocksdb().start() {
        Ok(server) => {
            let table = TABLE.replace(");", ") ENGINE=ROCKSDB;");
            server.sql(&format!("{table} INSERT INTO d.t VALUES (1, 'x')")).expect("a row");
            server.kill_9().expect("killed");
            server.restart().expect("restarted");
            assert_eq!(server.sql(ROWS).expect("rows"), "1\n");
        }
        Err(error @ Error::Missing { .. }) => eprintln!("SKIPPED: MyRocks: {error}"),
        Err(error) => panic!("{error}"),
    }
}
