//! The Grafana dashboard: it shows metrics that exist, in the way of their kind, and leaves none out.

use std::collections::BTreeSet;
use std::fs;

use seen_filter::MetricKind;
use seen_server::metrics::all;
use serde_json::Value;

use super::walk;

/// Where it lies.
pub const PATH: &str = "crates/seen-server/dashboards/seen.json";
/// What Prometheus appends to the name of a histogram.
const HISTOGRAM_PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// What the name of something that only grows stands in: by itself it says nothing.
const CHANGES: [&str; 2] = ["rate(", "increase("];

/// The dashboard.
pub fn read() -> Value {
    let text = fs::read_to_string(walk::root().join(PATH)).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

/// What is wrong with a dashboard, a line each.
pub fn faults(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut shown = BTreeSet::new();
    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap_or_default();
        if panel["fieldConfig"]["defaults"]["unit"].as_str().is_none_or(str::is_empty) {
            faults.push(format!("panel {title:?} has no unit"));
        }
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        let expressions = targets.iter().filter_map(|target| target["expr"].as_str());
        for (before, name) in expressions.flat_map(names) {
            match metric(name) {
                None => faults.push(format!("panel {title:?} shows {name}, which does not exist")),
                Some((metric, grows)) => {
                    shown.insert(metric);
                    if grows && !CHANGES.iter().any(|change| before.ends_with(change)) {
                        faults.push(format!("panel {title:?} shows {name} without its change"));
                    }
                }
            }
        }
    }
    let left_out = all().filter(|metric| !shown.contains(metric.name));
    faults.extend(left_out.map(|metric| format!("no panel shows {}", metric.name)));
    faults.extend(misplaced(panels));
    faults
}

/// The names of our series in an expression, each with what stands before it.
fn names(expression: &str) -> Vec<(&str, &str)> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("seen_").map(|(at, _)| at);
    let starts = starts.filter(|at| !expression[..*at].ends_with(in_name));
    let name = |at: usize| {
        let rest = &expression[at..];
        let end = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
        (&expression[..at], &rest[..end])
    };
    starts.map(name).collect()
}

/// The metric that a series belongs to, and whether the series only grows.
fn metric(series: &str) -> Option<(&'static str, bool)> {
    all().find_map(|metric| match metric.kind {
        MetricKind::Histogram => {
            let part = series.strip_prefix(metric.name)?;
            HISTOGRAM_PARTS.contains(&part).then_some((metric.name, true))
        }
        kind => (metric.name == series).then_some((metric.name, kind == MetricKind::Counter)),
    })
}

/// Panels that share an id or a place, or leave the grid's 24 columns.
fn misplaced(panels: &[Value]) -> Vec<String> {
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut faults = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        let number = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        let (x, y, width, height) = (number("x"), number("y"), number("w"), number("h"));
        let mut cells = (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y)));
        let free = cells.all(|cell| places.insert(cell));
        if !free || x + width > 24 || !ids.insert(panel["id"].as_u64().expect("an id")) {
            faults.push(format!("panel {title:?} has no place or id of its own"));
        }
    }
    faults
}
