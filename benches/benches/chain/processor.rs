//! Processor time, by part.

use std::fs;
use std::time::Instant;

/// Linux counts in hundredths of a second.
const TICKS: f64 = 100.0;

/// Processor times from a moment on.
pub struct Processor {
    began: Instant,
    parts: Vec<(&'static str, u32, f64)>,
    machine: Machine,
}

#[derive(Clone, Copy)]
struct Machine {
    busy_s: f64,
    cores: f64,
}

impl Processor {
    /// Begins to count for these processes, and for this one, which makes the load.
    pub fn start(parts: &[(&'static str, u32)]) -> Self {
        let own = [("the load", std::process::id())];
        let all = parts.iter().chain(&own).copied();
        let parts = all.map(|(name, pid)| (name, pid, seconds(pid))).collect();
        Self { began: Instant::now(), parts, machine: machine() }
    }

    /// Each part's share of the machine in percent, and that of everything together.
    pub fn shares(&self) -> Vec<(&'static str, f64)> {
        let now = machine();
        let whole_s = self.began.elapsed().as_secs_f64() * now.cores;
        let percent = |used_s: f64| 100.0 * used_s / whole_s;
        let shares =
            self.parts.iter().map(|(name, pid, before)| (*name, percent(seconds(*pid) - before)));
        let all = ("everything", percent(now.busy_s - self.machine.busy_s));
        shares.chain([all]).collect()
    }
}

/// What a process has used, all its threads together.
fn seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

fn machine() -> Machine {
    let stat = fs::read_to_string("/proc/stat").expect("procfs");
    let all = stat.lines().next().expect("the machine's line");
    let ticks: Vec<f64> = all.split_whitespace().filter_map(|ticks| ticks.parse().ok()).collect();
    // User, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen.
    let busy = ticks.iter().take(8).sum::<f64>() - ticks[3] - ticks[4];
    let cores = stat.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    Machine { busy_s: busy / TICKS, cores: cores as f64 }
}
