//! Makes raw messages: every legal way of writing a field, and damage.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_varint, skip_field,
};

/// Counts how often singular fields are sent, by prost's own reader.
pub struct Sends;

impl Sends {
    /// True if no field of `singular` is sent twice, nor one of a submessage named in `inner`. Bytes
    /// that cannot be read count as sent once: prost refuses them anyway.
    pub fn once(raw: &[u8], singular: &[u32], inner: &[(u32, &[u32])]) -> bool {
        let mut sent = Vec::new();
        each_field(raw, |tag, message| {
            sent.push(tag);
            if let (Some((_, fields)), Some(message)) =
                (inner.iter().find(|(number, _)| *number == tag), message)
                && !Self::once(message, fields, &[])
            {
                sent.extend(singular.first().into_iter().chain(singular.first()));
            }
        });
        singular.iter().all(|tag| sent.iter().filter(|seen| *seen == tag).count() <= 1)
    }

    /// The bytes of the first length-delimited field of this number.
    pub fn payload(raw: &[u8], number: u32) -> Option<&[u8]> {
        let mut found = None;
        each_field(raw, |tag, message| {
            if tag == number && found.is_none() {
                found = message;
            }
        });
        found
    }
}

fn each_field<'a>(raw: &'a [u8], mut each: impl FnMut(u32, Option<&'a [u8]>)) {
    let mut rest = raw;
    while !rest.is_empty() {
        let Ok((tag, wire_type)) = decode_key(&mut rest) else { return };
        let mut peek = rest;
        let message = match wire_type {
            WireType::LengthDelimited => {
                decode_varint(&mut peek).ok().and_then(|len| peek.get(..len as usize))
            }
            _ => None,
        };
        each(tag, message);
        if skip_field(wire_type, tag, &mut rest, DecodeContext::default()).is_err() {
            return;
        }
    }
}

/// A number, at times with more bytes than it needs.
fn varint(value: u64, padding: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    encode_varint(value, &mut raw);
    for _ in 0..padding.min(10 - raw.len()) {
        if let Some(last) = raw.last_mut() {
            *last |= 0x80;
        }
        raw.push(0);
    }
    raw
}

fn padding() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(0), 1 => 1..4_usize, 1 => Just(9)]
}

fn key(number: u32, wire_type: u32) -> impl Strategy<Value = Vec<u8>> {
    padding().prop_map(move |pad| varint((number << 3 | wire_type).into(), pad.min(3)))
}

fn uint(number: u32, value: impl Strategy<Value = u64>) -> impl Strategy<Value = Vec<u8>> {
    (key(number, 0), value, padding())
        .prop_map(|(key, value, pad)| [key, varint(value, pad)].concat())
}

fn fixed(number: u32) -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![any::<u64>(), select(vec![0, 1, u64::MAX])];
    (key(number, 1), value).prop_map(|(key, value)| [key, value.to_le_bytes().to_vec()].concat())
}

fn bytes(number: u32, body: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (key(number, 2), body, padding())
        .prop_map(|(key, body, pad)| [key, varint(body.len() as u64, pad), body].concat())
}

/// A field that no message has, of any layout, groups included.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![20..40_u32, Just((1 << 29) - 1)];
    number.prop_flat_map(|number| {
        let flat = prop_oneof![
            uint(number, any::<u64>()).boxed(),
            fixed(number).boxed(),
            bytes(number, vec(any::<u8>(), 0..20)).boxed(),
            (key(number, 5), any::<u32>())
                .prop_map(|(key, value)| [key, value.to_le_bytes().to_vec()].concat())
                .boxed(),
        ];
        prop_oneof![
            4 => flat.clone().boxed(),
            1 => (key(number, 3), vec(flat, 0..4), key(number, 4))
                .prop_map(|(begin, inner, end)| [begin, inner.concat(), end].concat())
                .boxed(),
        ]
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => "[a-z_]{1,48}".prop_map(String::into_bytes),
        2 => "\\PC{1,12}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..60),
    ]
}

fn small_kind() -> impl Strategy<Value = u64> {
    // The last one is a kind again once protobuf has cut it to 32 bits.
    prop_oneof![20 => 0..256_u64, 1 => any::<u64>(), 1 => Just((1 << 32) + 7)]
}

fn id_run() -> impl Strategy<Value = Vec<u8>> {
    let whole = vec(any::<u64>(), 0..20)
        .prop_map(|ids| ids.iter().flat_map(|id| id.to_le_bytes()).collect());
    prop_oneof![
        20 => bytes(2, whole),
        1 => bytes(2, vec(any::<u8>(), 0..30)),
        1 => bytes(2, (900..1_100_usize).prop_map(|ids| vec![7; ids * 8])),
    ]
}

fn group() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![6 => id_run().boxed(), 4 => fixed(2).boxed(), 1 => unknown().boxed()];
    let kind = proptest::option::weighted(0.8, uint(1, small_kind()));
    let pieces = (kind, vec(piece, 0..6)).prop_map(|(kind, mut pieces)| {
        pieces.extend(kind);
        pieces
    });
    pieces.prop_shuffle().prop_map(|pieces| pieces.concat())
}

fn item() -> impl Strategy<Value = Vec<u8>> {
    let time = prop_oneof![9 => 0..253_402_300_800_000_u64, 1 => any::<u64>()];
    let fields = (
        proptest::option::of(uint(1, small_kind())),
        proptest::option::of(fixed(2)),
        proptest::option::of(uint(3, time)),
        proptest::option::weighted(0.1, unknown()),
    );
    let pieces = fields.prop_map(|(kind, id, time, other)| {
        [kind, id, time, other].into_iter().flatten().collect::<Vec<_>>()
    });
    pieces.prop_shuffle().prop_map(|pieces| pieces.concat())
}

fn token() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..60), 1 => (1_020..1_030_usize).prop_map(|len| vec![1; len])]
}

/// Fields in any order; now and then one is sent twice.
fn message(fields: impl Strategy<Value = Vec<Vec<u8>>>) -> impl Strategy<Value = Vec<u8>> {
    (fields, proptest::option::weighted(0.1, any::<Index>()))
        .prop_map(|(mut fields, again)| {
            if let Some(again) = again.filter(|_| !fields.is_empty()) {
                fields.push(again.get(&fields).clone());
            }
            fields
        })
        .prop_shuffle()
        .prop_map(|fields| fields.concat())
}

/// A `FilterRequest`, mostly valid.
pub fn filter_bytes() -> impl Strategy<Value = Vec<u8>> {
    let choice = prop_oneof![9 => 0..3_u64, 1 => any::<u64>(), 1 => Just((1 << 32) + 2)];
    let singular = (
        proptest::option::of(fixed(1)),
        proptest::option::of(bytes(4, token())),
        proptest::option::of(uint(5, choice)),
        proptest::option::of(uint(6, any::<u64>())),
        proptest::option::weighted(0.2, unknown()),
    );
    let names = prop_oneof![9 => vec(bytes(2, name()), 1..4), 1 => vec(bytes(2, name()), 0..11)];
    let groups = prop_oneof![
        19 => vec(bytes(3, group()), 0..5),
        1 => (990..1_010_usize).prop_map(|groups| vec![vec![0x1a, 0]; groups]),
    ];
    let fields = (singular, names, groups).prop_map(|(singular, names, groups)| {
        let (user, token, choice, confirm, other) = singular;
        let singular = [user, token, choice, confirm, other].into_iter().flatten();
        singular.chain(names).chain(groups).collect()
    });
    message(fields)
}

/// A `MarkRequest`, mostly valid.
pub fn mark_bytes() -> impl Strategy<Value = Vec<u8>> {
    let singular = (
        proptest::option::of(fixed(1)),
        proptest::option::weighted(0.95, bytes(2, name())),
        proptest::option::of(bytes(4, token())),
        proptest::option::weighted(0.2, unknown()),
    );
    let items = prop_oneof![
        19 => vec(bytes(3, item()), 0..8),
        1 => (990..1_010_usize).prop_map(|items| vec![vec![0x1a, 0]; items]),
    ];
    let fields = (singular, items).prop_map(|((user, name, token, other), items)| {
        [user, name, token, other].into_iter().flatten().chain(items).collect()
    });
    message(fields)
}

/// A `FilterStreamRequest`, mostly valid.
pub fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let fields = (
        proptest::option::of(fixed(1)),
        proptest::option::weighted(0.95, bytes(2, filter_bytes())),
        proptest::option::of(uint(3, prop_oneof![9 => 0..60_001_u64, 1 => any::<u64>()])),
        proptest::option::weighted(0.2, unknown()),
    );
    message(fields.prop_map(|(id, filter, timeout, other)| {
        [id, filter, timeout, other].into_iter().flatten().collect()
    }))
}

/// The same with a few bytes changed, put in, taken out or cut off.
pub fn mutated(raw: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let damage = (0..4_u8, any::<Index>(), any::<u8>());
    (raw, vec(damage, 1..4)).prop_map(|(mut raw, damages)| {
        for (how, at, byte) in damages {
            if raw.is_empty() {
                break;
            }
            let at = at.index(raw.len());
            match how {
                0 => raw[at] = byte,
                1 => raw[at] ^= 1 << (byte % 8),
                2 => raw.insert(at, byte),
                _ if byte < 64 => raw.truncate(at),
                _ => drop(raw.remove(at)),
            }
        }
        raw
    })
}
