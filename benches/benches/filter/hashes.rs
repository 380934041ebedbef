//! Table: what the keyed hash of one id costs, alone and one after another in plain code.

use std::hint::black_box;

use seen_filter::Kind;

use crate::measure::{key, time_ns, unread};

/// Two rounds of a folded 64x64 -> 128 multiply: fast, but no pseudo-random function.
#[inline(always)]
fn folded_twice(keys: [u64; 4], id: u64) -> u64 {
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        wide as u64 ^ (wide >> 64) as u64
    };
    // A bijective first round, so that no two ids collide in it.
    let spread = (id ^ keys[0]).wrapping_mul(keys[1] | 1);
    let first = spread ^ fold(spread.rotate_left(32), keys[2] | 1);
    fold(first ^ keys[3], keys[0] | 1)
}

pub fn print() {
    let ids: Vec<u64> = unread(0).take(400).collect();
    let kind = key().for_kind(Kind::new(0));
    let keys = [1, 2, 3, 4].map(|n| crate::measure::mix(black_box(n)));
    let sum = |hash: &dyn Fn(&[u64]) -> u64| {
        time_ns(200, || {
            black_box(hash(black_box(&ids)));
        }) / ids.len() as f64
    };
    let sip = sum(&|ids| ids.iter().fold(0, |sum, id| sum ^ kind.hash(*id)));
    let folded = sum(&|ids| ids.iter().fold(0, |sum, id| sum ^ folded_twice(keys, *id)));
    println!("\n| hash, plain code | ns an id |\n|---|---:|");
    println!("| SipHash-1-3 of two fixed words, the first one folded in before | {sip:.2} |");
    println!("| two folded multiplies after a bijective round | {folded:.2} |");
}
