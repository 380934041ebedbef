//! The directions between crates, from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Which crates of the workspace each may depend on. Server, then roles, then proto, then filter; the
/// replica sees two traits, and neither SQL nor the store.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("seen-filter", &[]),
    ("seen-dialect", &["seen-filter"]),
    ("seen-kafka", &["seen-filter", "seen-dialect"]),
    ("seen-testbed", &[]),
    ("seen-proto", &["seen-filter"]),
    ("seen-store", &["seen-filter"]),
    ("seen-api", &["seen-proto"]),
    ("seen-cluster", &["seen-filter", "seen-proto"]),
    ("seen-replica", &["seen-filter", "seen-proto", "seen-api", "seen-cluster"]),
    // Not in the binary: it tries the rules of the replica.
    ("seen-models", &["seen-filter", "seen-replica"]),
    (
        "seen-sim",
        &[
            "seen-filter",
            "seen-proto",
            "seen-store",
            "seen-replica",
            "seen-api",
            "seen-cluster",
            "seen-proxy",
        ],
    ),
    // Not in the binary: it feeds every decoder.
    (
        "seen-fuzz",
        &[
            "seen-filter",
            "seen-proto",
            "seen-dialect",
            "seen-store",
            "seen-replica",
            "seen-cluster",
            "seen-server",
        ],
    ),
    ("seen-proxy", &["seen-filter", "seen-proto", "seen-api", "seen-cluster"]),
    ("seen-client", &["seen-filter", "seen-proto"]),
    (
        "seen-server",
        &[
            "seen-filter",
            "seen-proto",
            "seen-dialect",
            "seen-kafka",
            "seen-store",
            "seen-replica",
            "seen-client",
            "seen-api",
            "seen-cluster",
            "seen-proxy",
        ],
    ),
    (
        BENCHES,
        &[
            "seen-filter",
            "seen-proto",
            "seen-store",
            "seen-replica",
            "seen-client",
            "seen-server",
            "seen-api",
            "seen-cluster",
            "seen-proxy",
        ],
    ),
];

/// Compares with everything, and so may use everything.
const BENCHES: &str = "seen-benches";

/// Outside crates that only some of ours may know.
const KNOWN_ONLY_TO: [(&str, &[&str]); 11] = [
    ("prost", &["seen-proto"]),
    ("prost-types", &["seen-proto"]),
    ("tonic-prost", &["seen-proto", "seen-replica", "seen-api"]),
    ("sqlx", &["seen-store"]),
    ("rdkafka", &["seen-kafka"]),
    ("opentelemetry", &["seen-api", "seen-client", "seen-server"]),
    ("opentelemetry_sdk", &["seen-server"]),
    ("opentelemetry-otlp", &["seen-server"]),
    ("tonic", &["seen-proto", "seen-api", "seen-replica", "seen-client", "seen-server"]),
    ("clap", &["seen-server", "seen-sim"]),
    (
        "tokio",
        &[
            "seen-proto",
            "seen-api",
            "seen-cluster",
            "seen-proxy",
            "seen-store",
            "seen-kafka",
            "seen-replica",
            "seen-client",
            "seen-server",
            "seen-sim",
        ],
    ),
];

/// Each crate of the workspace with what it depends on, tests and benches apart.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// The workspace as it is.
pub fn workspace() -> Graph {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let uses = package["dependencies"].as_array().expect("dependencies").iter();
            let uses = uses.filter(|one| one["kind"] != "dev").map(|one| text(&one["name"]));
            (text(&package["name"]), uses.collect())
        })
        .collect()
}

/// What is against the directions.
pub fn violations(graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, uses) in graph {
        let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| known == name) else {
            wrong.push(format!("{name} is in no direction: add it to MAY_USE"));
            continue;
        };
        for used in uses {
            if graph.contains_key(used) && !may_use.contains(&used.as_str()) {
                wrong.push(format!("{name} must not depend on {used}"));
            }
            let rule = KNOWN_ONLY_TO.iter().find(|(outside, _)| outside == used);
            if let Some((_, holders)) = rule
                && name != BENCHES
                && !holders.contains(&name.as_str())
            {
                wrong.push(format!("{name} must not depend on {used}: only {holders:?} may"));
            }
        }
    }
    wrong
}

#[test]
fn a_wrong_direction_is_found() {
    let uses = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let graph: Graph = [
        ("seen-replica".to_owned(), uses(&["seen-store", "sqlx", "tokio"])),
        ("seen-filter".to_owned(), uses(&["tokio"])),
        ("seen-store".to_owned(), uses(&["seen-filter", "sqlx", "tokio"])),
        ("seen-attic".to_owned(), uses(&[])),
    ]
    .into();
    assert_eq!(violations(&graph).len(), 4, "{:?}", violations(&graph));
}
