//! Table: the longest single steps, and building.

use std::time::Instant;

use seen_filter::{Builder, HashKey, Inserted, Item, Sizing, UnixMillis, UserState, transfer};

use crate::measure::{best_quarter, history, key};

fn us_since(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / 1e3
}

fn built(key: &HashKey, items: usize) -> UserState {
    let mut builder = Builder::new(key, &Sizing::new(0.01, None));
    history(0, items).for_each(|id| builder.push(Item::new(0, id), UnixMillis::default(), 0));
    builder.finish()
}

/// The longest of the insertions that grow a state by half, in microseconds.
fn longest_insert_us(key: &HashKey, items: usize) -> (f64, f64) {
    let sizing = Sizing::new(0.01, None);
    let mut state = built(key, items);
    let (mut longest, mut all_us, mut layers) = (0.0_f64, 0.0, 0);
    for id in history(1, items / 2) {
        let start = Instant::now();
        let inserted = state.insert(key, &sizing, Item::new(0, id), 0);
        let us = us_since(start);
        all_us += us;
        if inserted == Inserted::Layered {
            longest = longest.max(us);
            layers += 1;
        }
    }
    assert!(layers > 0, "no layer was added");
    (longest, all_us / (items / 2) as f64)
}

pub fn print() {
    let key = key();
    let header = transfer::Header {
        namespace: seen_filter::NamespaceId::default(),
        user: seen_filter::UserId::default(),
        user_epoch: seen_filter::UserEpoch::default(),
        generation: seen_filter::Generation::default(),
        position: None,
    };
    println!("\n| items | build, ns an item | new layer, us | insert, ns | encode + decode, us |");
    println!("|---:|---:|---:|---:|---:|");
    for items in [1_000, 50_000, 500_000, 1_000_000] {
        let rounds = (3_000_000 / items).clamp(3, 200);
        let build_us = |_| {
            let start = Instant::now();
            std::hint::black_box(built(&key, items));
            us_since(start)
        };
        let transfer_us = |_| {
            let state = built(&key, items);
            let start = Instant::now();
            let bytes = transfer::encode(&state, &header, &key).unwrap_or_default();
            assert!(transfer::decode(&bytes, &key).is_ok());
            us_since(start)
        };
        let inserts: Vec<(f64, f64)> =
            (0..rounds.min(9)).map(|_| longest_insert_us(&key, items)).collect();
        let (layer_us, insert_us): (Vec<f64>, Vec<f64>) = inserts.into_iter().unzip();
        println!(
            "| {items} | {:.1} | {:.1} | {:.0} | {:.0} |",
            1e3 * best_quarter((0..rounds).map(build_us).collect()) / items as f64,
            best_quarter(layer_us),
            1e3 * best_quarter(insert_us),
            best_quarter((0..rounds.min(20)).map(transfer_us).collect()),
        );
    }
}
