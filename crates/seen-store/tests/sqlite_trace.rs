//! No acknowledgement before its covering sync: shown by the system calls of another process.

mod store;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use seen_filter::History;
use store::{mark, open, other_process, role, say};

const CALLERS: u64 = 8;
const ROUNDS: u64 = 20;

/// An id whose eight bytes are found in a page: none of them occurs twice, and none is zero, so that
/// it is stored whole.
fn id_of(caller: u64, round: u64) -> u64 {
    0x5eed_f00d_0000_0000 | (caller + 0x10) << 24 | (round + 0x40) << 8 | 0x9b
}

/// Not a test of its own: what is traced. Concurrent callers, so that commits are shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traced_part() {
    let Some((_, path)) = role() else { return };
    let store = open(&path).await;
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let id = id_of(caller, round);
                store.write(mark(caller, [id])).await.expect("a write");
                say(&format!("acked {id:016x}"));
            }
        }));
    }
    for caller in callers {
        caller.await.expect("a caller");
    }
    store.close().await;
}

#[derive(Debug)]
enum Call {
    /// Bytes written to the write-ahead log, as hexadecimal text.
    Log(String),
    /// A sync of the write-ahead log: begun and returned at these lines.
    Sync { begun: usize, returned: usize },
    /// This process's word that a mark is durable.
    Acknowledged(String),
}

/// The file descriptor of the write-ahead log: "-wal>" with its letters in hexadecimal.
const LOG: &str = "2d77616c>";

/// The system calls of a trace in order, each with the line on which it began.
fn calls(trace: &str) -> Vec<(usize, Call)> {
    let mut calls = Vec::new();
    let mut unfinished = std::collections::HashMap::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        // All strings, paths too, are written as \x2d\x77...
        let call = call.trim_start().replace("\\x", "");
        let is_sync = call.contains("fdatasync") || call.contains("fsync");
        if is_sync && call.contains("resumed") {
            if let Some(begun) = unfinished.remove(pid) {
                assert!(call.ends_with("= 0"), "a sync failed: {line}");
                calls.push((begun, Call::Sync { begun, returned: at }));
            }
        } else if is_sync && call.contains(LOG) {
            if call.contains("<unfinished") {
                unfinished.insert(pid.to_owned(), at);
            } else {
                assert!(call.ends_with("= 0"), "a sync failed: {line}");
                calls.push((at, Call::Sync { begun: at, returned: at }));
            }
        } else if call.contains(LOG) && (call.starts_with("write(") || call.starts_with("pwrite")) {
            calls.push((at, Call::Log(call)));
        } else if call.starts_with("write(1<") {
            // "acked " in hexadecimal.
            for said in call.split("61636b656420").skip(1) {
                calls.push((at, Call::Acknowledged(said.chars().take(32).collect())));
            }
        }
    }
    calls
}

/// What of a trace contradicts the promise.
fn contradictions(calls: &[(usize, Call)]) -> Vec<String> {
    let mut found = Vec::new();
    for (acked_at, call) in calls {
        let Call::Acknowledged(id_hex) = call else { continue };
        // The id as it was said, in hexadecimal of its hexadecimal letters.
        let bytes: Vec<u8> = (0..16)
            .filter_map(|n| u8::from_str_radix(id_hex.get(n * 2..n * 2 + 2)?, 16).ok())
            .collect();
        let id = String::from_utf8(bytes).expect("an id");
        let written = calls.iter().find_map(|(at, call)| match call {
            Call::Log(bytes) if bytes.contains(&id) => Some(*at),
            _ => None,
        });
        let Some(written) = written else {
            found.push(format!("{id}: acknowledged and never written to the log"));
            continue;
        };
        let synced = calls.iter().any(|(_, call)| match call {
            Call::Sync { begun, returned } => written < *begun && returned < acked_at,
            _ => false,
        });
        if !synced {
            found.push(format!("{id}: written at {written}, said at {acked_at}, no sync between"));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stderr, reason = "a skipped test must be heard of")]
async fn no_acknowledgement_before_its_covering_sync() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("SKIPPED: strace is not installed; apt-get install strace");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let trace = folder.path().join("trace");
    let tracer = [
        "strace",
        "-f",
        "-y",
        "-xx",
        "-s",
        "70000",
        "-o",
        path_text(&trace),
        "-e",
        "trace=fdatasync,fsync,pwrite64,write",
    ];
    let mut other = other_process(&tracer, "traced_part", "mark", &path);
    let mut said = 0;
    while let Some(line) = other.line().await {
        said += u64::from(line.starts_with("acked"));
    }
    other.finish().await;
    assert_eq!(said, CALLERS * ROUNDS);
    let trace = std::fs::read_to_string(&trace).expect("a trace");
    let calls = calls(&trace);
    let count = |which: fn(&Call) -> bool| calls.iter().filter(|(_, c)| which(c)).count() as u64;
    let acknowledged = count(|c| matches!(c, Call::Acknowledged(_)));
    let syncs = count(|c| matches!(c, Call::Sync { .. }));
    assert_eq!(acknowledged, said, "acknowledgements in the trace");
    assert_eq!(contradictions(&calls), [""; 0]);
    assert!(syncs > 0 && syncs < acknowledged, "{syncs} syncs: commits were not shared");

    // The check itself notices a missing sync.
    let without: Vec<_> =
        calls.into_iter().filter(|(_, c)| !matches!(c, Call::Sync { .. })).collect();
    assert_eq!(contradictions(&without).len() as u64, said);
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path of plain letters")
}
