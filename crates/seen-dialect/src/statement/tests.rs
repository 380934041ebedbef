//! Statements, and what they mean.

use super::{Effect, effects};
use crate::table::FollowedTable;

const MOVED: Effect = Effect::Doubted("partition_rows_changed");
const COLUMN: Effect = Effect::Doubted("followed_column_changed");

fn found(database: Option<&str>, text: &str) -> Vec<(usize, Effect)> {
    let tables = [FollowedTable::own("db", "feed_read"), FollowedTable::control("db")];
    effects(text, database, &tables)
}

fn of_history(text: &str) -> Vec<Effect> {
    found(Some("db"), text).into_iter().filter(|(at, _)| *at == 0).map(|(_, e)| e).collect()
}

#[test]
fn rows_that_are_gone() {
    for (text, reason) in [
        ("TRUNCATE TABLE feed_read", "truncate"),
        ("truncate `db`.`feed_read`", "truncate"),
        ("/* why */ TRUNCATE -- x\n TABLE Feed_Read;", "truncate"),
        ("DROP TABLE IF EXISTS `db`.`feed_read`", "drop"),
        ("DROP TABLE other, feed_read RESTRICT", "drop"),
        ("DROP DATABASE IF EXISTS db", "drop_database"),
        ("DROP SCHEMA `DB`", "drop_database"),
        ("RENAME TABLE feed_read TO feed_read2", "rename"),
        ("RENAME TABLE a TO b, db.c WAIT 3 TO db.feed_read", "rename"),
        ("CREATE OR REPLACE TABLE feed_read (x INT)", "drop"),
        ("CREATE OR REPLACE DATABASE db", "drop_database"),
        ("SET @a = 1; DROP TABLE feed_read;", "drop"),
    ] {
        assert_eq!(of_history(text), [Effect::Gone(reason)], "{text}");
    }
    assert_eq!(found(None, "TRUNCATE feed_read"), [(0, Effect::Gone("truncate"))]);
    assert_eq!(found(Some("x"), "DROP TABLE db.seen_control"), [(1, Effect::Gone("drop"))]);
    assert_eq!(found(Some("x"), "DROP DATABASE db").len(), 2);
    let swapped = of_history("RENAME TABLE feed_read TO x, y TO feed_read");
    assert_eq!(swapped, [Effect::Gone("rename"); 2]);
}

#[test]
fn changes_of_the_table() {
    use Effect::{Changed, Gone};
    for (text, expected) in [
        ("CREATE TABLE IF NOT EXISTS feed_read (user_id INT)", vec![Changed]),
        ("ALTER TABLE feed_read ADD COLUMN note VARCHAR(20) NULL", vec![Changed]),
        ("ALTER TABLE feed_read DROP COLUMN note", vec![Changed]),
        ("ALTER TABLE feed_read ADD INDEX user_id (user_id), ENGINE=InnoDB", vec![Changed]),
        ("ALTER TABLE feed_read ADD (a INT, b INT)", vec![Changed]),
        ("ALTER TABLE feed_read ADD PARTITION (PARTITION p VALUES LESS THAN (5))", vec![Changed]),
        ("ALTER TABLE feed_read /* seen:partitions */ DROP PARTITION p1, p2", vec![Changed]),
        ("ALTER TABLE feed_read CONVERT TO CHARACTER SET utf8mb4", vec![Changed]),
        (
            "ALTER TABLE feed_read RENAME INDEX a TO user_id, ALTER user_id SET DEFAULT 0",
            vec![Changed],
        ),
        ("ALTER TABLE feed_read COMMENT 'DROP COLUMN user_id, DROP user_id'", vec![Changed]),
        ("CREATE UNIQUE INDEX i USING BTREE ON db.feed_read (user_id)", vec![Changed]),
        ("DROP INDEX i ON feed_read", vec![Changed]),
        ("/*!40000 ALTER TABLE feed_read DISABLE KEYS */", vec![Changed]),
        ("ALTER TABLE feed_read TRUNCATE PARTITION p1", vec![Changed, MOVED]),
        ("ALTER TABLE feed_read EXCHANGE PARTITION p1 WITH TABLE other", vec![Changed, MOVED]),
        ("ALTER TABLE other EXCHANGE PARTITION p1 WITH TABLE feed_read", vec![MOVED]),
        ("ALTER TABLE feed_read CONVERT PARTITION p TO TABLE x", vec![Changed, MOVED]),
        ("ALTER TABLE feed_read IMPORT TABLESPACE", vec![Changed, MOVED]),
        ("ALTER TABLE feed_read RENAME TO other", vec![Changed, Gone("rename")]),
        ("ALTER TABLE feed_read ADD x INT, RENAME other.feed_read", vec![Changed, Gone("rename")]),
        ("ALTER TABLE other RENAME = feed_read", vec![Gone("rename")]),
    ] {
        assert_eq!(of_history(text), expected, "{text}");
    }
}

#[test]
fn changes_of_the_columns_that_mean_something() {
    for text in [
        "ALTER TABLE feed_read DROP COLUMN kind",
        "ALTER TABLE feed_read DROP IF EXISTS `KIND`",
        "ALTER TABLE feed_read ADD note INT, MODIFY COLUMN item_id VARCHAR(20)",
        "ALTER TABLE feed_read CHANGE item_id article_id BIGINT UNSIGNED",
        "ALTER TABLE feed_read CHANGE COLUMN article_id item_id BIGINT UNSIGNED",
        "ALTER TABLE feed_read RENAME COLUMN user_id TO member_id",
        "ALTER TABLE feed_read RENAME COLUMN member_id TO user_id",
        "ALTER TABLE feed_read ADD (a INT DEFAULT (1+1), marked_at_ms BIGINT)",
        "ALTER ONLINE TABLE db.feed_read ADD COLUMN IF NOT EXISTS kind INT FIRST",
    ] {
        assert_eq!(of_history(text), [Effect::Changed, COLUMN], "{text}");
    }
    let both = of_history("ALTER TABLE feed_read DROP kind, DROP item_id");
    assert_eq!(both, [Effect::Changed, COLUMN, COLUMN]);
    let control = found(Some("db"), "ALTER TABLE seen_control DROP COLUMN seq, DROP kind");
    assert_eq!(control, [(1, Effect::Changed), (1, COLUMN)]);
}

#[test]
fn rows_that_come_back_and_forms_that_are_not_known() {
    const RECOVERED: Effect = Effect::Doubted("rows_recovered");
    const UNREADABLE: Effect = Effect::Doubted("ddl_unreadable");
    for (text, expected) in [
        ("FLASHBACK TABLE feed_read TO feed_read3", RECOVERED),
        ("RECOVER TABLE x, feed_read", RECOVERED),
        ("FLASHBACK CLUSTER TO TIMESTAMP '2026-01-01 00:00:00'", RECOVERED),
        ("FLASHBACK DATABASE x TO db", RECOVERED),
        ("SPLIT TABLE feed_read BETWEEN (0) AND (9)", UNREADABLE),
        ("ALTER feed_read", UNREADABLE),
        ("DROP TABLE 'x', feed_read", UNREADABLE),
        ("CREATE feed_read", UNREADABLE),
        ("RENAME TABLE feed_read", UNREADABLE),
    ] {
        assert_eq!(of_history(text), [expected], "{text}");
    }
}

#[test]
fn what_touches_nothing_followed() {
    for text in [
        "",
        "  ;; ",
        "# only a comment",
        "INSERT INTO feed_read VALUES (1)",
        "/* x */ delete from feed_read",
        "SET character_set_server=latin1",
        "USE `db`",
        "TRUNCATE feed_read2",
        "TRUNCATE other.feed_read",
        "DROP TABLE my_feed_read",
        "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `feed_read`",
        "CREATE TEMPORARY TABLE feed_read (x INT)",
        "DROP DATABASE feed_read",
        "CREATE DATABASE `db` CHARSET latin1",
        "ALTER DATABASE db CHARACTER SET utf8mb4",
        "DROP VIEW feed_read_v",
        "CREATE ALGORITHM=MERGE VIEW v AS SELECT * FROM feed_read",
        "CREATE TABLE other (id INT PRIMARY KEY)",
        "CREATE TABLE other LIKE feed_read",
        "ANALYZE TABLE feed_read",
        "ALTER TABLE other DROP COLUMN user_id",
        "RENAME USER a TO b",
    ] {
        assert_eq!(of_history(text), [], "{text}");
    }
    assert_eq!(found(Some("other"), "TRUNCATE feed_read"), []);
}
