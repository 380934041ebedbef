//! TiDB and MySQL, where they are.

use std::ops::Deref;

use seen_testbed::{Error, Mysql, Server, Tidb};

/// Nothing, loudly, where a server is not installed.
fn if_there<T>(server: &str, started: Result<T, Error>) -> Option<T> {
    match started {
        Ok(server) => Some(server),
        Err(error @ Error::Missing { .. }) => {
            eprintln!("SKIPPED: {server}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What every server does.
fn crashes_and_hangs(server: impl Deref<Target = Server>) {
    server
        .sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)")
        .expect("a row");
    server.kill_9().expect("killed");
    assert!(!server.is_alive());
    server.restart().expect("restarted");
    assert_eq!(server.sql("SELECT a FROM d.t").expect("a row"), "1\n");
    server.freeze().expect("frozen");
    let error = server.sql_within(std::time::Duration::from_millis(300), "SELECT 1");
    assert!(matches!(error, Err(Error::TooLate { .. })), "{error:?}");
    server.thaw().expect("thawed");
    server.stop().expect("stopped");
    server.restart().expect("restarted");
    assert_eq!(server.sql("SELECT a FROM d.t").expect("a row"), "1\n");
    let folder = server.folder().to_owned();
    drop(server);
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[test]
fn tidb_crashes_and_hangs() {
    let Some(server) = if_there("TiDB", Tidb::start()) else { return };
    let version = server.sql("SELECT VERSION()").expect("a version");
    assert!(version.contains("TiDB"), "{version}");
    server.create_user("app", "secret").expect("a user");
    crashes_and_hangs(server);
}

#[test]
fn mysql_crashes_and_hangs() {
    let Some(server) = if_there("MySQL", Mysql::start()) else { return };
    let version = server.sql("SELECT VERSION()").expect("a version");
    assert!(version.starts_with("9."), "{version}");
    server.create_user("app", "secret").expect("a user");
    server.set_read_only(true).expect("read-only");
    let refused = server.sql("CREATE DATABASE e").expect_err("read-only");
    assert!(refused.to_string().contains("1290"), "{refused}");
    server.restart().expect("restarted");
    let refused = server.sql("CREATE DATABASE e").expect_err("read-only");
    assert!(refused.to_string().contains("1290"), "{refused}");
    server.set_read_only(false).expect("writable");
    crashes_and_hangs(server);
}

#[test]
fn what_is_not_there_is_named_with_the_way_to_it() {
    for (error, script) in [
        (Tidb::start_at("/nowhere/tidb-server".as_ref(), &[]).err(), "scripts/tidb"),
        (Mysql::start_at("/nowhere".as_ref(), &[]).err(), "scripts/mysql"),
    ] {
        let missing = matches!(&error, Some(Error::Missing { what, how })
            if what.starts_with("/nowhere") && how.contains(script));
        assert!(missing, "{error:?}");
    }
}
