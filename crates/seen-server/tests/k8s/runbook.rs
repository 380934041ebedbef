//! What the runbook names: metrics, options, files and commands.

use std::collections::BTreeSet;

use seen_server::config::SECTIONS;
use seen_server::metrics::all;

use super::tools::root;

/// Where its short paths begin.
const FOLDERS: [&str; 3] = ["k8s", "k8s/overlays/production", ""];

/// What stands in single backquotes, and the lines of blocks.
fn quoted(text: &str) -> BTreeSet<&str> {
    let (mut quoted, mut in_block) = (BTreeSet::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            quoted.insert(line.split(" # ").next().unwrap_or_default().trim());
        } else {
            quoted.extend(line.split('`').skip(1).step_by(2));
        }
    }
    quoted
}

/// Metrics that do not exist.
pub fn unknown_metrics(text: &str) -> Vec<&str> {
    let named = quoted(text).into_iter().filter(|one| one.starts_with("seen_"));
    let named = named.map(|one| one.split('{').next().unwrap_or_default());
    named.filter(|one| !all().any(|metric| metric.name == *one)).collect()
}

/// Options that do not exist.
pub fn unknown_options(text: &str) -> Vec<&str> {
    let exists = |section: &str, key: &str| {
        let section = SECTIONS.iter().find(|known| known.name == section);
        section.map(|section| section.options.iter().any(|option| option.key == key))
    };
    let named = quoted(text).into_iter().filter(|one| !one.ends_with(".toml"));
    named.filter(|one| one.split_once('.').and_then(|(a, b)| exists(a, b)) == Some(false)).collect()
}

/// Files and folders that do not exist.
pub fn unknown_files(text: &str) -> Vec<&str> {
    let is_path = |one: &&str| {
        let parts = one.split('/').next().unwrap_or_default();
        one.contains('/') && !one.contains(' ') && ["k8s", "base", "config"].contains(&parts)
    };
    let there = |one: &str| FOLDERS.iter().any(|folder| root().join(folder).join(one).exists());
    quoted(text).into_iter().filter(is_path).filter(|one| !there(one)).collect()
}

/// Commands of the binary, without its name and without what comes after a pipe.
pub fn commands(text: &str) -> Vec<String> {
    let of_seen = quoted(text).into_iter().filter_map(|one| {
        let begin = one.split_once(" -- seen ").map(|(_, command)| command);
        let command = begin.or_else(|| one.strip_prefix("seen "))?;
        Some(command.split('|').next().unwrap_or_default().trim().to_owned())
    });
    of_seen.collect::<BTreeSet<_>>().into_iter().collect()
}
