//! The figures as tables.

use std::fmt::Write as _;

use super::figures::Rounds;
use super::rate::{self, Carried, Warmed};
use super::restart;

/// Of what loopback carries, at least.
const OF_LOOPBACK_MIN: f64 = 0.5;

/// `median (min-max)` in so many of a unit, to so many places.
fn told(rounds: &Rounds, unit: f64, places: usize) -> String {
    let [median, min, max] = [rounds.median, rounds.min, rounds.max].map(|one| one / unit);
    format!("{median:.places$} ({min:.places$}-{max:.places$})")
}

/// From a donor to a receiver, as Markdown.
pub fn rates(all: &[rate::Found]) -> String {
    let mut text = "From a donor to a receiver over loopback; median (least-most) of the rounds:\n\n\
        | users of | bytes each | what | users/s, thousands | MB/s | of plain TCP, % | by processor time, % | sender, ns a user | \
        receiver, ns a user |\n|---|---:|---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for found in all {
        let begin = format!("| {} items | {:.0}", found.items, found.entry_bytes);
        let copied = told(&found.copied, 1e6, 0);
        let _ = writeln!(text, "{begin} | copied in memory | | {copied} | | | | |");
        let plain = [("plain TCP", &found.loopback), ("the link, nothing made of it", &found.link)];
        for (what, carried) in plain {
            let (rate, busy) = of(carried);
            let _ = writeln!(text, "{begin} | {what} | | {rate} | | | {busy} |");
        }
        let warmed = [
            ("warm-up, no bound", &found.unbounded),
            ("warm-up, a quarter of a core", &found.bounded),
        ];
        for (what, warmed) in warmed {
            let Warmed { users_per_s, carried, of_loopback, of_loopback_busy } = warmed;
            let (rate, busy) = of(carried);
            let _ = writeln!(
                text,
                "{begin} | {what} | {} | {rate} | {} | {} | {busy} |",
                told(users_per_s, 1e3, 0),
                told(of_loopback, 0.01, 1),
                told(of_loopback_busy, 0.01, 1)
            );
        }
    }
    let percent = OF_LOOPBACK_MIN * 100.0;
    let _ = write!(text, "\n{percent:.0} % of plain TCP or more, without a bound:");
    for found in all {
        let met = found.unbounded.of_loopback.median >= OF_LOOPBACK_MIN;
        let Carried { sender_ns, receiver_ns, .. } = &found.unbounded.carried;
        let end = if sender_ns.median > receiver_ns.median { "donor" } else { "receiver" };
        let met = if met { "met" } else { "missed" };
        let _ = write!(text, " {} items {met} (busier: the {end});", found.items);
    }
    text.push('\n');
    text
}

/// The bytes a second, and the processor time of both ends.
fn of(carried: &Carried) -> (String, String) {
    let busy = [&carried.sender_ns, &carried.receiver_ns].map(|one| told(one, 1.0, 0));
    (told(&carried.bytes_per_s, 1e6, 0), busy.join(" | "))
}

/// Restarts, as Markdown.
pub fn restart(found: &restart::Found) -> String {
    let mut text = format!(
        "A replica of {} users of {} items, killed and started again beside a live peer; median (least-most), \
         seconds from the process's start:\n\n\
         | the peer gives | ready | has all users | users/s, thousands |\n|---|---:|---:|---:|\n\
         | nothing: it has nobody | {} | | |\n",
        found.users,
        found.items,
        told(&found.empty_s, 1.0, 2)
    );
    for share in &found.shares {
        let _ = writeln!(
            text,
            "| {} of a core | {} | {} | {} |",
            share.of_a_core,
            told(&share.ready_s, 1.0, 2),
            told(&share.all_s, 1.0, 2),
            told(&share.users_per_s, 1e3, 0)
        );
    }
    let (checked, hits) = (found.checked, found.from_memory);
    let _ = writeln!(text, "\n{checked} answers checked, all right; memory alone gave {hits}.");
    text
}
