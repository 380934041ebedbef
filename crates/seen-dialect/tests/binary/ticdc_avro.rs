//! TiCDC's Avro, with the schemas of a registry.

use seen_dialect::{Decoder, FollowedTable, KindOf, TableRole};
use seen_filter::Kind;

use super::said::{decoder, positions, said};
use super::simple::{long, text};

pub fn schema(name: &str, fields: &[(&str, &str)]) -> String {
    let field = |(name, kind): &(&str, &str)| format!(r#"{{"name":"{name}","type":{kind}}}"#);
    let fields: Vec<_> = fields.iter().map(field).collect();
    format!(
        r#"{{"type":"record","name":"{name}","namespace":"default.test","fields":[{}]}}"#,
        fields.join(",")
    )
}

pub fn enveloped(id: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    [vec![0], id.to_be_bytes().to_vec(), parts.concat()].concat()
}

const LONG: &str = r#"{"type":"long","connect.parameters":{"tidb_type":"BIGINT UNSIGNED"}}"#;
const NULLABLE: &str = r#"["null","string"]"#;

pub fn known() -> Decoder {
    let mut decoder = decoder();
    let key = [("user_id", LONG), ("kind", r#""int""#), ("item_id", LONG)];
    let tail = [("note", NULLABLE), ("_tidb_op", r#""string""#), ("_tidb_commit_ts", r#""long""#)];
    let schemas = decoder.schemas();
    schemas.add(1, &schema("feed_read", &key)).expect("a schema");
    schemas.add(2, &schema("feed_read", &[&key[..], &tail].concat())).expect("a schema");
    schemas.add(3, &schema("other", &key)).expect("a schema");
    decoder
}

pub fn row(id: u32) -> Vec<u8> {
    let key = [long(-1), long(2), long(5)].concat();
    enveloped(id, &[key, if id == 2 { [vec![0], text("c"), long(470)].concat() } else { vec![] }])
}

#[test]
fn rows_and_deletes() {
    let mut decoder = known();
    let upsert = "upsert 18446744073709551615 2 5 ?";
    assert_eq!(said(&mut decoder, Some(&row(1)), Some(&row(2))), [upsert]);
    assert_eq!(positions(&mut decoder, None, Some(&row(2))), [470]);
    assert_eq!(said(&mut decoder, None, Some(&row(1))), [upsert], "without the extension");
    let deleted = said(&mut decoder, Some(&row(1)), None);
    assert_eq!(deleted, ["delete 18446744073709551615 2 5"]);
    assert_eq!(said(&mut decoder, Some(&row(3)), None), ["ignore other_table"]);
    assert_eq!(said(&mut decoder, None, Some(&row(3))), ["ignore other_table"]);
    let damaged = ["dirty partition record_damaged"];
    assert_eq!(said(&mut decoder, None, Some(&[row(2), vec![0]].concat())), damaged);
    let whole = row(2);
    for end in 5..whole.len() {
        assert_eq!(said(&mut decoder, None, Some(&whole[..end])), damaged, "cut at {end}");
    }
}

#[test]
fn unknown_schemas_are_asked_for_once_they_are_named() {
    let mut decoder = known();
    assert_eq!(said(&mut decoder, None, Some(&row(9))), ["dirty partition schema_unknown"]);
    assert_eq!(decoder.schemas().wanted().collect::<Vec<_>>(), [9]);
    for id in 100..300 {
        said(&mut decoder, None, Some(&row(id)));
    }
    assert_eq!(decoder.schemas().wanted().count(), 64, "damage names any number");
    let key = [("user_id", LONG), ("kind", r#""int""#), ("item_id", LONG)];
    decoder.schemas().add(9, &schema("feed_read", &key)).expect("a schema");
    assert_eq!(decoder.schemas().wanted().count(), 63);
    assert_eq!(said(&mut decoder, None, Some(&row(9))), ["upsert 18446744073709551615 2 5 ?"]);
}

#[test]
fn names_that_avro_does_not_allow_are_found_again() {
    let role = TableRole::History {
        user: "1-user".to_owned(),
        item: "item-id".to_owned(),
        kind: KindOf::Constant(Kind::new(9)),
        time: None,
        deleted: None,
    };
    let table = FollowedTable { database: "te-st".to_owned(), table: "my.reads".to_owned(), role };
    let mut decoder = Decoder::new(vec![table], None);
    let fields = [("_1_user", r#""long""#), ("item_id", r#""long""#)];
    let named = schema("my_reads", &fields).replace("default.test", "default.te_st");
    decoder.schemas().add(1, &named).expect("a schema");
    let value = enveloped(1, &[long(4), long(5)]);
    assert_eq!(said(&mut decoder, None, Some(&value)), ["upsert 4 9 5 ?"]);
}
