//! TiDB Binlog's protobuf.

use prost::encoding::{WireType, encode_key, encode_varint};

use super::said::{decoder, positions, said};

pub fn number(field: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(field, WireType::Varint, &mut out);
    encode_varint(value, &mut out);
    out
}

pub fn bytes(field: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(field, WireType::LengthDelimited, &mut out);
    encode_varint(value.len() as u64, &mut out);
    out.extend(value);
    out
}

pub fn row(columns: &[Vec<u8>]) -> Vec<u8> {
    columns.iter().flat_map(|column| bytes(1, column)).collect()
}

pub fn mutation(kind: u64, new: &[Vec<u8>], old: Option<&[Vec<u8>]>) -> Vec<u8> {
    let old = old.map(|old| bytes(3, &row(old))).unwrap_or_default();
    [number(1, kind), bytes(2, &row(new)), old].concat()
}

pub fn table(name: &str, columns: &[(&str, &str)], mutations: &[Vec<u8>]) -> Vec<u8> {
    let column = |(name, kind): &(&str, &str)| {
        bytes(3, &[bytes(1, name.as_bytes()), bytes(2, kind.as_bytes()), number(3, 1)].concat())
    };
    let names = [bytes(1, b"test"), bytes(2, name.as_bytes())].concat();
    let columns: Vec<u8> = columns.iter().flat_map(column).collect();
    let mutations: Vec<u8> = mutations.iter().flat_map(|one| bytes(4, one)).collect();
    [names, columns, mutations].concat()
}

pub fn dml(tables: &[Vec<u8>]) -> Vec<u8> {
    let tables: Vec<u8> = tables.iter().flat_map(|one| bytes(1, one)).collect();
    [number(1, 0), number(2, 470), bytes(3, &tables)].concat()
}

const COLUMNS: [(&str, &str); 4] =
    [("user_id", "bigint"), ("kind", "tinyint"), ("item_id", "bigint"), ("marked_at_ms", "bigint")];

fn signed(value: i64) -> Vec<u8> {
    number(2, value.cast_unsigned())
}

fn unsigned(value: u64) -> Vec<u8> {
    number(3, value)
}

fn of(value: &[u8]) -> Vec<String> {
    said(&mut decoder(), None, Some(value))
}

/// An insert with this item.
fn insert(item: Vec<u8>, kind_of_item: &str) -> Vec<String> {
    let mut columns = COLUMNS;
    columns[2].1 = kind_of_item;
    let row = [unsigned(1), unsigned(2), item, unsigned(3)];
    of(&dml(&[table("feed_read", &columns, &[mutation(0, &row, None)])]))
}

#[test]
fn values_of_every_type() {
    for (item, kind, expected) in [
        (signed(-1), "bigint", "upsert 1 2 18446744073709551615 3"),
        (signed(5), "bigint", "upsert 1 2 5 3"),
        (unsigned(u64::MAX), "bigint", "upsert 1 2 18446744073709551615 3"),
        (bytes(6, b"77"), "varchar", "upsert 1 2 77 3"),
        (bytes(5, b"77"), "blob", "upsert 1 2 77 3"),
        (bytes(5, &[1, 0]), "bit", "upsert 1 2 256 3"),
        (bytes(5, &[1; 9]), "bit", "dirty user 1 value_type"),
        (bytes(5, &[0xff]), "blob", "dirty user 1 value_type"),
        (number(1, 1), "bigint", "dirty user 1 value_null"),
        ([number(1, 0), unsigned(9)].concat(), "bigint", "upsert 1 2 9 3"),
        (vec![], "bigint", "dirty user 1 value_type"),
        ([&[0x21][..], &[0; 8]].concat(), "double", "dirty user 1 value_rounded"),
    ] {
        assert_eq!(insert(item, kind), [expected]);
    }
}

#[test]
fn every_kind_of_change() {
    let at = |item| [unsigned(1), unsigned(2), unsigned(item), unsigned(3)];
    let of_table = |mutations: &[Vec<u8>]| of(&dml(&[table("feed_read", &COLUMNS, mutations)]));
    let changes = [
        mutation(0, &at(1), None),
        mutation(1, &at(2), Some(&at(1))),
        mutation(1, &at(2), Some(&at(2))),
        mutation(2, &at(2), None),
    ];
    let told = of_table(&changes);
    assert_eq!(
        told,
        ["upsert 1 2 1 3", "delete 1 2 1", "upsert 1 2 2 3", "upsert 1 2 2 3", "delete 1 2 2"]
    );
    assert_eq!(
        of_table(&[mutation(1, &at(2), None)]),
        ["upsert 1 2 2 3", "dirty user 1 before_unknown"]
    );
    assert_eq!(of_table(&[mutation(3, &at(2), None)]), ["dirty partition record_damaged"]);
    let ts = positions(&mut decoder(), None, Some(&dml(&[table("feed_read", &COLUMNS, &changes)])));
    assert_eq!(ts, [470; 5]);
}

#[test]
fn rows_that_do_not_fit_their_columns_are_doubts() {
    let short = [unsigned(1), unsigned(2), unsigned(4)];
    let long = [unsigned(1), unsigned(2), unsigned(4), unsigned(5), unsigned(6)];
    let good = mutation(0, &[unsigned(1), unsigned(2), unsigned(4), unsigned(5)], None);
    for wrong in [&short[..], &long] {
        let mutations = [good.clone(), mutation(0, wrong, None)];
        let told = of(&dml(&[table("feed_read", &COLUMNS, &mutations)]));
        assert_eq!(told, ["upsert 1 2 4 5", "dirty partition record_damaged"]);
    }
}

#[test]
fn other_tables_and_statements() {
    let row = [unsigned(1), unsigned(2), unsigned(3), unsigned(4)];
    let other = table("other", &COLUMNS, &[mutation(0, &row, None)]);
    let ours = table("feed_read", &COLUMNS, &[mutation(0, &row, None)]);
    assert_eq!(of(&dml(std::slice::from_ref(&other))), ["ignore other_table"]);
    assert_eq!(of(&dml(&[])), ["ignore other_table"]);
    assert_eq!(of(&dml(&[other, ours])), ["upsert 1 2 3 4"]);
    let fence = [unsigned(7), unsigned(1), unsigned(u64::MAX), unsigned(9)];
    let columns =
        [("user_id", "bigint"), ("namespace", "int"), ("writer", "bigint"), ("seq", "bigint")];
    let control = table("seen_control", &columns, &[mutation(0, &fence, None)]);
    assert_eq!(of(&dml(&[control])), ["control 7 1 18446744073709551615 9"]);

    let ddl = |query: &str| {
        let ddl = [bytes(1, b"test"), bytes(2, b"feed_read"), bytes(3, query.as_bytes())].concat();
        of(&[number(1, 1), number(2, 471), bytes(4, &ddl)].concat())
    };
    assert_eq!(ddl("DROP TABLE feed_read")[0].split(' ').next(), Some("truncate"));
    assert_eq!(ddl("DROP TABLE another"), ["ignore other_table"]);
    let empty = [number(1, 1), number(2, 471), bytes(4, &[])].concat();
    assert_eq!(of(&empty), ["dirty partition record_damaged"]);
    for kind in [0, 1] {
        let neither = [number(1, kind), number(2, 471)].concat();
        assert_eq!(of(&neither), ["dirty partition record_damaged"]);
    }
}
