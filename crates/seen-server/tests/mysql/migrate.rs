//! `seen migrate`.

use serde_json::Value;

use super::servers::{Place, mariadb, mysql, said, tidb};

fn json(place: &Place, more: &[&str]) -> (Option<i32>, Value) {
    let ended = place.seen("migrate", &[&["--json"], more].concat());
    let value = serde_json::from_slice(&ended.stdout);
    (ended.status.code(), value.unwrap_or_else(|_| panic!("{}", said(&ended))))
}

fn missing(value: &Value) -> usize {
    value["shards"][0]["missing"].as_array().expect("a list").len()
}

fn an_empty_database_is_made_and_then_left_alone(place: Option<Place>) {
    let Some(place) = place else { return };
    let (code, looked) = json(&place, &["--check"]);
    assert_eq!((code, &looked["done"]), (Some(3), &"shown".into()));
    assert!(missing(&looked) > 4);
    let (code, made) = json(&place, &[]);
    assert_eq!((code, &made["done"]), (Some(0), &"applied".into()));
    assert_eq!(missing(&made), missing(&looked));
    let (code, again) = json(&place, &["--check"]);
    assert_eq!((code, &again["done"], missing(&again)), (Some(0), &"nothing".into(), 0));
    let tables = place.sql("SHOW TABLES");
    for table in ["history_feed_read", "history_push_sent", "seen_control", "seen_store"] {
        assert!(tables.contains(table), "{tables}");
    }
    assert_eq!(place.sql("SELECT COUNT(*) FROM seen_store").trim(), "1");
}

#[test]
fn an_empty_mariadb_is_made() {
    an_empty_database_is_made_and_then_left_alone(mariadb());
}

#[test]
fn an_empty_mysql_is_made() {
    an_empty_database_is_made_and_then_left_alone(mysql());
}

#[test]
fn an_empty_tidb_is_made() {
    an_empty_database_is_made_and_then_left_alone(tidb());
}

#[test]
fn two_at_once_make_it_once() {
    let place = mariadb().expect("always there");
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| place.seen("migrate", &[])));
        for one in both {
            let ended = one.join().expect("no panic");
            assert!(ended.status.success(), "{}", said(&ended));
        }
    });
    assert_eq!(place.sql("SELECT COUNT(*) FROM seen_store").trim(), "1");
    assert_eq!(place.sql("SELECT COUNT(*) FROM seen_namespaces").trim(), "2");
}

#[test]
fn a_database_with_data_is_only_looked_at() {
    let place = mariadb().expect("always there").migrated();
    place.sql("INSERT INTO history_feed_read VALUES (7, 1, 1, 5)");
    let index =
        ["--set", "namespace=[{name=\"feed_read\", time_index=true}, {name=\"push_sent\"}]"];
    let (code, shown) = json(&place, &index);
    assert_eq!((code, &shown["done"], missing(&shown)), (Some(0), &"shown".into(), 1));
    assert_eq!(shown["shards"][0]["holds_data"], Value::Bool(true));
    assert!(!place.sql("SHOW CREATE TABLE history_feed_read").contains("by_time"));
    let (_, applied) = json(&place, &[&["--apply"], index.as_slice()].concat());
    assert_eq!(applied["done"], "applied");
    assert!(place.sql("SHOW CREATE TABLE history_feed_read").contains("by_time"));
    let (_, dropped) = json(&place, &["--apply"]);
    assert_eq!((&dropped["done"], missing(&dropped)), (&"applied".into(), 1));
    assert!(!place.sql("SHOW CREATE TABLE history_feed_read").contains("by_time"));
    assert_eq!(place.sql("SELECT COUNT(*) FROM history_feed_read").trim(), "1");
}

#[test]
fn a_newer_schema_is_refused() {
    let place = mariadb().expect("always there").migrated();
    place.sql(
        "INSERT INTO seen_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of tomorrow', TRUE, '', 0)",
    );
    for command in ["migrate", "serve"] {
        let ended = place.seen(command, &[]);
        let said = said(&ended);
        assert!(!ended.status.success() && said.contains("9999 is newer"), "{said}");
    }
}

#[test]
fn a_half_done_migration_is_done_again() {
    let place = mariadb().expect("always there").migrated();
    place.sql(
        "UPDATE seen_migrations SET success = FALSE WHERE version = 1; DROP TABLE seen_leases",
    );
    let (_, made) = json(&place, &["--apply"]);
    assert_eq!(made["done"], "applied");
    assert!(place.sql("SHOW TABLES").contains("seen_leases"));
    assert_eq!(json(&place, &["--check"]).0, Some(0));
}

#[test]
fn a_bucket_that_changes_is_refused() {
    let place = mariadb().expect("always there").migrated();
    let set = "namespace=[{name=\"feed_read\", retention=\"48h\"}, {name=\"push_sent\"}]";
    let ended = place.seen("migrate", &["--apply", "--set", set]);
    let said = said(&ended);
    assert!(!ended.status.success() && said.contains("part of its table's key"), "{said}");
}
