//! TiCDC's simple protocol in Avro.

use prost::encoding::encode_varint;

use super::said::{decoder, positions, said};

pub fn long(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(((value << 1) ^ (value >> 63)).cast_unsigned(), &mut out);
    out
}

pub fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

/// A map of columns, in one block.
fn map(columns: &[(&str, Vec<u8>)]) -> Vec<u8> {
    if columns.is_empty() {
        return vec![2, 0];
    }
    let entries = columns.iter().flat_map(|(name, value)| [text(name), value.clone()].concat());
    [vec![2], long(columns.len() as i64), entries.collect(), vec![0]].concat()
}

fn unsigned(value: u64) -> Vec<u8> {
    [long(7), long(value.cast_signed())].concat()
}

pub fn row(item: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let kind = [long(1), long(2)].concat();
    vec![("user_id", unsigned(u64::MAX)), ("kind", kind), ("item_id", item)]
}

/// Claim check, key only, checksum: none of them.
const NO_MARKERS: [u8; 3] = [0; 3];

pub fn dml(table: &str, kind: i64, markers: &[u8], data: &[u8], old: &[u8]) -> Vec<u8> {
    let head = [vec![22, 6, 6], long(1), text("test"), text(table), long(110), long(kind)].concat();
    [head, long(470), long(1), long(2), markers.to_vec(), data.to_vec(), old.to_vec()].concat()
}

fn ddl(sql: &str, database: Option<&str>) -> Vec<u8> {
    let schema = database.map_or(vec![0, 0], |name| [long(1), text(name), text("t")].concat());
    [vec![22, 4, 4], long(1), long(4), text(sql), long(471), long(1), schema].concat()
}

fn of(value: &[u8]) -> Vec<String> {
    said(&mut decoder(), None, Some(value))
}

const NONE: [u8; 1] = [0];

#[test]
fn every_kind_of_message() {
    let now = map(&row(unsigned(5)));
    let was = map(&row(unsigned(4)));
    let upsert = "upsert 18446744073709551615 2 5 ?";
    let delete = "delete 18446744073709551615 2 4";
    let of_row =
        |kind, data: &[u8], old: &[u8]| of(&dml("feed_read", kind, &NO_MARKERS, data, old));
    assert_eq!(of_row(0, &now, &NONE), [upsert]);
    assert_eq!(of_row(1, &now, &now), [upsert]);
    assert_eq!(of_row(1, &now, &was), [delete, upsert]);
    assert_eq!(of_row(1, &now, &map(&[("item_id", unsigned(4))])), [delete, upsert]);
    assert_eq!(of_row(2, &NONE, &was), [delete]);
    let unknown = "dirty user 18446744073709551615 before_unknown";
    assert_eq!(of_row(1, &now, &NONE), [upsert, unknown]);
    for (kind, data, old) in [(0, &NONE[..], &now[..]), (2, &now, &NONE), (3, &now, &NONE)] {
        assert_eq!(of_row(kind, data, old), ["dirty partition record_damaged"]);
    }
    assert_eq!(of(&dml("other", 0, &NO_MARKERS, &now, &NONE)), ["ignore other_table"]);
    let watermark = [vec![22, 0, 0], long(1), long(472), long(1)].concat();
    assert_eq!(of(&watermark), ["watermark"]);
    assert_eq!(positions(&mut decoder(), None, Some(&watermark)), [472]);
    assert_eq!(of(&[22, 2, 2, 2, 0]), ["ignore bootstrap"]);
    assert_eq!(of(&ddl("TRUNCATE TABLE feed_read", Some("test"))), ["truncate truncate"]);
    assert_eq!(of(&ddl("TRUNCATE TABLE test.feed_read", None)), ["truncate truncate"]);
    assert_eq!(of(&ddl("TRUNCATE TABLE feed_read", Some("elsewhere"))), ["ignore other_table"]);
}

#[test]
fn rows_with_markers() {
    let markers = [vec![2], text("file.json"), vec![2, 1, 2], long(1), vec![0], long(2), long(3)];
    let now = map(&row(unsigned(5)));
    let told = of(&dml("feed_read", 0, &markers.concat(), &now, &NONE));
    assert_eq!(told, ["upsert 18446744073709551615 2 5 ?"]);
}

#[test]
fn values_of_every_type() {
    let item = |value: Vec<u8>| of(&dml("feed_read", 0, &NO_MARKERS, &map(&row(value)), &NONE));
    let user = "18446744073709551615";
    for (value, expected) in [
        (vec![0], format!("dirty user {user} value_null")),
        ([long(1), long(-1)].concat(), format!("upsert {user} 2 18446744073709551615 ?")),
        ([long(2), vec![0; 4]].concat(), format!("dirty user {user} value_rounded")),
        ([long(3), vec![0; 8]].concat(), format!("dirty user {user} value_rounded")),
        ([long(4), text("12")].concat(), format!("upsert {user} 2 12 ?")),
        ([long(5), text("13")].concat(), format!("upsert {user} 2 13 ?")),
        ([long(6), text("UTC"), text("x")].concat(), format!("dirty user {user} value_type")),
        ([long(8)].concat(), "dirty partition record_damaged".to_owned()),
    ] {
        assert_eq!(item(value), [expected]);
    }
    for (zone, time) in [("UTC", "1500"), ("Asia/Shanghai", "?")] {
        let mut columns = row(unsigned(5));
        let at = [long(6), text(zone), text("1970-01-01 00:00:01.5")].concat();
        columns.push(("marked_at_ms", at));
        let told = of(&dml("feed_read", 0, &NO_MARKERS, &map(&columns), &NONE));
        assert_eq!(told, [format!("upsert {user} 2 5 {time}")]);
    }
    let mut twice = row(unsigned(5));
    twice.push(("ITEM_ID", unsigned(6)));
    let told = of(&dml("feed_read", 0, &NO_MARKERS, &map(&twice), &NONE));
    assert_eq!(told, [format!("dirty user {user} value_type")]);
}

#[test]
fn cut_messages_are_doubts() {
    let whole = dml("feed_read", 0, &NO_MARKERS, &map(&row(unsigned(5))), &NONE);
    for end in 5..whole.len() {
        assert_eq!(of(&whole[..end]), ["dirty partition record_damaged"], "cut at {end}");
    }
    assert_eq!(of(&[&whole[..], &[0]].concat()), ["dirty partition record_damaged"]);
}
