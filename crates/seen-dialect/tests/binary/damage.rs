//! Bytes cut, flipped and mixed: never a panic, never nothing.

use proptest::prelude::*;
use proptest::sample::Index;
use seen_dialect::{Dialect, What};

use super::{open_protocol, said, simple, ticdc_avro, tidb_binlog};

type Message = (Option<Vec<u8>>, Option<Vec<u8>>);

fn messages() -> Vec<Message> {
    let (key, value) = open_protocol::message(&[
        (open_protocol::ROW, open_protocol::INSERT),
        (r#"{"ts":9,"t":3}"#, ""),
        (r#"{"ts":9,"scm":"test","t":2}"#, r#"{"q":"TRUNCATE TABLE feed_read"}"#),
    ]);
    let number = |value| tidb_binlog::number(3, value);
    let mutation = tidb_binlog::mutation(
        1,
        &[number(1), number(2), number(3)],
        Some(&[number(1), number(2), number(4)]),
    );
    let columns = [("user_id", "bigint"), ("kind", "tinyint"), ("item_id", "bigint")];
    let table = tidb_binlog::table("feed_read", &columns, &[mutation]);
    let entry = |(name, value): (&str, Vec<u8>)| [simple::text(name), value].concat();
    let item = [simple::long(7), simple::long(5)].concat();
    let entries: Vec<u8> = simple::row(item).into_iter().flat_map(entry).collect();
    let map = [vec![2, 6], entries, vec![0]].concat();
    vec![
        (Some(key), Some(value)),
        (None, Some(tidb_binlog::dml(&[table]))),
        (None, Some(simple::dml("feed_read", 1, &[0; 3], &map, &map))),
        (Some(ticdc_avro::row(1)), Some(ticdc_avro::row(2))),
        (Some(ticdc_avro::row(1)), None),
        (
            None,
            Some(
                b"\x0dSEEN\x10\x01\x1a\x04feed\x30\x40\x4a\x01\x07\x52\x01\x02\x9a\x01\x00"
                    .to_vec(),
            ),
        ),
    ]
}

fn damaged(bytes: &mut Vec<u8>, flips: &[(Index, u8)], cut: Option<Index>) {
    if bytes.is_empty() {
        return;
    }
    for (at, bits) in flips {
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
}

#[test]
fn undamaged_messages_are_read() {
    for (key, value) in messages() {
        let told = said::said(&mut ticdc_avro::known(), key.as_deref(), value.as_deref());
        assert!(!told.iter().any(|line| line.starts_with("dirty")), "{told:?}");
    }
}

proptest! {
    #[test]
    fn damage_says_something(
        one in 0..6_usize,
        other in 0..6_usize,
        flips in proptest::collection::vec((any::<Index>(), 1..=255_u8), 0..4),
        key_flips in proptest::collection::vec((any::<Index>(), 1..=255_u8), 0..3),
        cut in proptest::option::of(any::<Index>()),
        mix in any::<bool>(),
        forced in proptest::option::of(0..Dialect::ALL.len()),
    ) {
        let mut all = messages();
        let (_, mixed) = all[other].clone();
        let (mut key, mut value) = all.swap_remove(one);
        if mix {
            value = mixed;
        }
        if let Some(key) = &mut key {
            damaged(key, &key_flips, None);
        }
        if let Some(value) = &mut value {
            damaged(value, &flips, cut);
        }
        let mut decoder = ticdc_avro::known();
        if let Some(forced) = forced {
            decoder = seen_dialect::Decoder::new(decoder.tables().to_vec(), Some(Dialect::ALL[forced]));
        }
        said::said(&mut decoder, key.as_deref(), value.as_deref());
    }

    #[test]
    fn any_bytes_say_something(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..120)),
        start in 0..6_usize,
    ) {
        let starts: [&[u8]; 6] =
            [b"", b"\x0dSEEN", &[8, 0, 16], &[22, 6, 6, 2], &[0, 0, 0, 0, 2], &[22, 4, 4, 2]];
        let value = value.map(|value| [starts[start], &value].concat());
        said::said(&mut ticdc_avro::known(), key.as_deref(), value.as_deref());
    }

    /// A cut transaction of many rows says that something is missing, whatever was read of it.
    #[test]
    fn a_cut_transaction_is_a_doubt(rows in 1..20_u64, cut in any::<Index>()) {
        let row = |n| [tidb_binlog::number(3, n), tidb_binlog::number(3, 1), tidb_binlog::number(3, n)];
        let mutations: Vec<_> = (0..rows).map(|n| tidb_binlog::mutation(0, &row(n), None)).collect();
        let columns = [("user_id", "bigint"), ("kind", "tinyint"), ("item_id", "bigint")];
        let whole = tidb_binlog::dml(&[tidb_binlog::table("feed_read", &columns, &mutations)]);
        // Its first bytes are what it is told by.
        let end = 3 + cut.index(whole.len() - 3);
        let mut out = Vec::new();
        let record = seen_dialect::Record { value: Some(&whole[..end]), ..Default::default() };
        said::decoder().decode(&record, &mut out);
        let is_doubt = |event: &seen_dialect::Event| matches!(event.what, What::Dirty(_));
        let said_all = out.len() as u64 == rows && !out.iter().any(is_doubt);
        prop_assert!(out.iter().any(is_doubt) || said_all, "{} of {}: {:?}", end, whole.len(), out);
        prop_assert!(!said_all, "{} of {}", end, whole.len());
    }
}
