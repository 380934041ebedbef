//! The style of the whole workspace, held by tests: lengths, banned calls, crate directions, and
//! texts that are made from the code.

mod dashboard;
mod graph;
mod source;
mod walk;

use std::fs;
use std::path::Path;

use seen_server::reference;
use source::{Finding, Source};

/// A file has fewer lines than this.
const FILE_LINES: usize = 500;
/// A function has fewer lines than this, its documentation apart.
const FUNCTION_LINES: usize = 70;
/// Where no clock is read, no randomness drawn and nothing spawned: the rules and the pure domain.
const PURE: [&str; 2] = ["crates/seen-filter/src/", "crates/seen-replica/src/rules"];
/// Names that say nothing about a module's subject.
const EMPTY_NAMES: [&str; 5] = ["common", "helpers", "misc", "util", "utils"];

/// Fails with one line for each finding.
fn none(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

/// Every Rust file of the workspace that people write.
fn sources() -> Vec<Source> {
    let sources: Vec<Source> = walk::rust_files().iter().map(|path| Source::read(path)).collect();
    assert!(sources.len() > 20, "only {} files were found", sources.len());
    sources
}

#[test]
fn files_and_functions_are_short() {
    let sources = sources();
    let long = sources.iter().flat_map(|source| {
        let lines = source.text.lines().count();
        let file = (lines >= FILE_LINES).then(|| source.finding(1, format!("{lines} lines")));
        file.into_iter().chain(source.long_functions(FUNCTION_LINES))
    });
    none(long.collect());
}

#[test]
fn modules_are_named_by_their_subject_and_lie_beside_their_folder() {
    let sources = sources();
    let misnamed = sources.iter().filter_map(|source| {
        let stem = Path::new(&source.path).file_stem()?.to_str()?;
        let empty = EMPTY_NAMES.contains(&stem);
        // Between test programs there is no other way to share a module.
        let old_style = stem == "mod" && source.path.contains("/src/");
        (empty || old_style).then(|| source.finding(1, format!("a module called {stem}")))
    });
    none(misnamed.collect());
}

#[test]
fn the_rules_and_the_pure_domain_read_no_clock_and_spawn_nothing() {
    let pure: Vec<Source> = sources()
        .into_iter()
        .filter(|source| PURE.iter().any(|folder| source.path.starts_with(folder)))
        .collect();
    assert!(pure.len() > 5, "only {} pure files were found", pure.len());
    none(pure.iter().flat_map(Source::impure_calls).collect());
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_skipped() {
    none(sources().iter().flat_map(Source::unfinished).collect());
}

#[test]
fn metric_names_come_from_the_lists_of_metrics() {
    let sources = sources();
    let program = sources.iter().filter(|source| source.path.contains("/src/"));
    none(program.flat_map(Source::literal_metrics).collect());
}

#[test]
fn what_is_banned_is_found() {
    let text = "use std::time::{Duration, Instant as Now};\n\
                use rand::Rng;\n\
                fn a() { let _ = std::time::SystemTime::now(); tokio::spawn(b()); set.spawn(c()); }\n\
                fn d() { let _ = vec![std::time::SystemTime::now()]; std::thread::sleep(e); }\n\
                #[cfg(test)] mod tests { fn f() { let _ = Instant::now(); } }\n\
                fn g(spawn: u8, rand: u8) -> u8 { spawn + rand }\n";
    let bad = Source::parse("a.rs", text);
    let lines: Vec<usize> = bad.impure_calls().iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [1, 2, 3, 3, 3, 4, 4]);
    // Put together at run time, as this file is searched, too.
    let later = format!("fn a() {{ {}!() }}\n#[test]\n#[{}]\nfn b() {{}}\n", "todo", "ignore");
    assert_eq!(Source::parse("b.rs", &later).unfinished().len(), 2);
    let metric = "fn a() { counter!(\"seen_x_total\").increment(1); gauge!(X.name, \"a\" => b); }";
    assert_eq!(Source::parse("c.rs", metric).literal_metrics().len(), 1);
    let long = format!("/// Doc.\nfn a() {{\n{}}}\n", "    b();\n".repeat(FUNCTION_LINES - 2));
    assert_eq!(Source::parse("d.rs", &long).long_functions(FUNCTION_LINES).len(), 1);
    let short = long.replacen("    b();\n", "", 1);
    assert!(Source::parse("e.rs", &short).long_functions(FUNCTION_LINES).is_empty());
}

#[test]
fn crates_depend_in_one_direction() {
    let wrong = graph::violations(&graph::workspace());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn tables_in_documents_are_in_step_with_the_code() {
    let root = walk::root();
    let mut all = String::new();
    for path in reference::documents(&root).expect("documents") {
        let text = fs::read_to_string(&path).expect("readable");
        let fresh = reference::with_tables(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        assert!(
            fresh == text,
            "{} drifted; run: cargo run -p seen-server --example readme_tables",
            path.display()
        );
        all.push_str(&text);
    }
    if root.join("README.md").exists() {
        for (name, _) in reference::tables() {
            let marker = format!("<!-- {name}:begin -->");
            assert!(all.contains(&marker), "neither README.md nor docs/ holds {marker}");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let faults = dashboard::faults(&dashboard::read());
    assert!(faults.is_empty(), "{}\n{}", dashboard::PATH, faults.join("\n"));
}

#[test]
fn what_is_wrong_with_a_dashboard_is_found() {
    let whole = dashboard::read().to_string();
    let changed = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from} is not there");
        let changed = serde_json::from_str(&whole.replace(from, to)).expect("JSON");
        dashboard::faults(&changed).join("\n")
    };
    let gone = changed("seen_evictions_total", "seen_expulsions_total");
    assert!(gone.contains("shows seen_expulsions_total, which does not exist"), "{gone}");
    assert!(gone.contains("no panel shows seen_evictions_total"), "{gone}");
    let bare = changed("seen_build_duration_seconds_bucket", "seen_build_duration_seconds");
    assert!(bare.contains("seen_build_duration_seconds, which does not exist"), "{bare}");
    let total = changed("rate(seen_marked_rows_total", "avg(seen_marked_rows_total");
    assert!(total.contains("shows seen_marked_rows_total without its change"), "{total}");
    let above = changed("\"x\":8", "\"x\":7");
    assert!(above.contains("has no place or id of its own"), "{above}");
    assert!(changed("\"unit\":\"reqps\"", "\"unit\":\"\"").contains("has no unit"));
}
