//! What the operating system knows about processes: CPU time and resident memory.

use std::fs;
use std::io;
use std::time::Duration;

/// Clock ticks a second in `/proc`; Linux fixes it for programs on every architecture.
const TICKS_PER_S: u64 = 100;

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not as expected"))
}

/// CPU time that a process has taken, user and system, all its threads together.
///
/// # Errors
/// The process is gone, or there is no `/proc`.
pub(super) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat)
        .map(|ticks| Duration::from_millis(ticks * 1_000 / TICKS_PER_S))
        .ok_or_else(|| malformed("/proc/PID/stat"))
}

/// The sum of fields 14 and 15. The second field is the program's name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Bytes of memory that a process holds.
///
/// # Errors
/// The process is gone, or there is no `/proc`.
pub(super) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map(|kib| kib * 1_024)
        .ok_or_else(|| malformed("/proc/PID/status"))
}

/// How many cores this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the figures were taken on.
pub(super) fn machine() -> Vec<String> {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let model = model.unwrap_or_else(|| "unknown processor".to_owned());
    let version = env!("CARGO_PKG_VERSION");
    let mut notes = vec![format!("seen {version}, {} cores of {model}", cores())];
    if cfg!(debug_assertions) {
        notes.push("a debug build: no figure means anything; build with --release".to_owned());
    }
    if let Some(load) = other_load() {
        notes.push(format!(
            "the machine was not idle when the run began (load {load:.1}): expect noise, and trust \
             ratios more than absolute figures"
        ));
    }
    notes
}

/// The load of the last minute, if it is more than a fifth of a core.
fn other_load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (load > 0.2).then_some(load)
}

/// The value in the middle. 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_confuse() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 3 0";
        assert_eq!(ticks(stat), Some(325));
        assert_eq!(ticks("42 (a"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes(std::process::id()).expect("/proc") > 100_000);
        cpu_time(std::process::id()).expect("/proc");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
