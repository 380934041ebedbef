#![allow(unused)]
#[allow(dead_code)]
#[path = "model/world.rs"]
mod model;
use model::*;
use std::collections::BTreeMap;
#[test]
fn survey() {
    let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    let show: usize = std::env::var("SHOW").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let from: u64 = std::env::var("FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let filter = std::env::var("KIND").unwrap_or_default();
    let mut kinds: BTreeMap<String, Vec<Failure>> = BTreeMap::new();
    let mut failures = 0;
    let t = std::time::Instant::now();
    for seed in from..from + n {
        if let Some(f) = run_seed(seed, None) {
            failures += 1;
            let v: String = f.violation.chars().filter(|c| !c.is_ascii_digit()).collect::<String>().replace("B", "A");
            let kind = format!("S{} pos{} stamps{} {}", f.config.lag_us > 0, f.config.positions, f.config.stamps, v);
            kinds.entry(kind).or_default().push(f);
        }
    }
    eprintln!("{failures} of {n} fail; {:?}", t.elapsed());
    for (k, v) in &kinds { eprintln!("{:5} {k}", v.len()); }
    let mut shown: Vec<Failure> = Vec::new();
    for (k, v) in &kinds {
        if !k.contains(&filter) { continue; }
        let best = v.iter().take(8).cloned().map(Failure::shortened).min_by_key(|f| f.actions.len()).unwrap();
        shown.push(best);
    }
    shown.sort_by_key(|f| f.actions.len());
    for f in shown.iter().take(show) {
        let text = f.to_string();
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().take(if lines.len() > 110 {60} else {110}) { eprintln!("{line}"); }
        if lines.len() > 110 { eprintln!("..."); for line in &lines[lines.len()-50..] { eprintln!("{line}"); } }
        eprintln!();
    }
}
