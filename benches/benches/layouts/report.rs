//! The figures as a table, and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::place::{Place, Round};
use super::size::Size;

/// The bytes a row that were published for TokuDB.
const TOKUDB_BYTES: f64 = 13.0;

/// What was found about one table.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub layout: String,
    pub time_index: bool,
    pub rows: u64,
    /// Bytes of the disk a row, after the load.
    pub loaded_bytes_a_row: f64,
    /// The same after `OPTIMIZE TABLE`, or a full compaction.
    pub packed_bytes_a_row: f64,
    /// The time index's part of the two.
    pub index_bytes_a_row: f64,
    pub packed_index_bytes_a_row: f64,
    /// Median over the rounds, and over their last quarter.
    pub rows_a_second: f64,
    pub rows_a_second_late: f64,
    /// Median of the rounds' ratios to the same rounds of the first layout.
    pub rate_ratio: f64,
    pub rate_ratio_late: f64,
    /// Of the server.
    pub cpu_us_a_row: f64,
    pub written_bytes_a_row: f64,
}

/// The figures of a table that is full. `base`: the rounds of the layout to compare with.
pub fn figures(place: &Place, [loaded, packed]: [Size; 2], base: &[Round]) -> Figures {
    let rows = place.rows as f64;
    let rates: Vec<f64> = place.rounds.iter().map(Round::rate).collect();
    let both = place.rounds.iter().zip(base);
    let ratios: Vec<f64> = both.map(|(own, base)| own.rate() / base.rate()).collect();
    let late = |all: &[f64]| median(&all[all.len() - all.len().div_ceil(4)..]);
    let a_row = |bytes: u64| bytes as f64 / rows;
    let cpu: f64 = place.rounds.iter().map(|round| round.cpu_seconds).sum();
    let written: u64 = place.rounds.iter().map(|round| round.written_bytes).sum();
    Figures {
        layout: place.layout.name.to_owned(),
        time_index: place.time_index,
        rows: place.rows,
        loaded_bytes_a_row: a_row(loaded.files),
        packed_bytes_a_row: a_row(packed.files),
        index_bytes_a_row: a_row(loaded.index),
        packed_index_bytes_a_row: a_row(packed.index),
        rows_a_second: median(&rates),
        rows_a_second_late: late(&rates),
        rate_ratio: median(&ratios),
        rate_ratio_late: late(&ratios),
        cpu_us_a_row: cpu * 1e6 / rows,
        written_bytes_a_row: a_row(written),
    }
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_unstable_by(f64::total_cmp);
    match all.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => all[n / 2],
        n => (all[n / 2 - 1] + all[n / 2]) / 2.0,
    }
}

/// As Markdown.
pub fn table(all: &[Figures]) -> String {
    let mut text = String::from(
        "| layout | rows | bytes a row, loaded | packed | of them index, loaded | packed | rows/s, median | last \
         quarter | ratio | last quarter | server CPU, us a row | written, bytes a row |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for one in all {
        let index = |bytes: f64| match one.time_index {
            true => format!("{bytes:.1}"),
            false => "-".to_owned(),
        };
        let with = if one.time_index { ", with index" } else { "" };
        let _ = writeln!(
            text,
            "| {}{with} | {:.1} M | {:.1} | {:.1} | {} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} |",
            one.layout,
            one.rows as f64 / 1e6,
            one.loaded_bytes_a_row,
            one.packed_bytes_a_row,
            index(one.index_bytes_a_row),
            index(one.packed_index_bytes_a_row),
            one.rows_a_second,
            one.rows_a_second_late,
            one.rate_ratio,
            one.rate_ratio_late,
            one.cpu_us_a_row,
            one.written_bytes_a_row,
        );
    }
    let _ = writeln!(text, "| TokuDB, as published | | {TOKUDB_BYTES:.0} | | | | | | | | | |");
    text
}
