//! The map changes while everything runs: a slot comes, and goes again.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Cluster, PORTS, free_ports, seen, turn};

const USERS: u64 = 40;

/// A replica of the slot that comes, on the ports after the cluster's.
fn replica(folder: &Path, base: u16) -> Child {
    let mut command = seen();
    command.args(["replica", "--stop-with-stdin"]);
    let data = folder.join("data");
    for setting in [
        format!("cluster.map={}", folder.join("cluster.toml").display()),
        format!("storage.data_dir={}", data.display()),
        "cluster.pool=feed".to_owned(),
        "cluster.slot=2".to_owned(),
        format!("cluster.link_listen=127.0.0.1:{}", base + PORTS),
        "server.listen=127.0.0.1:0".to_owned(),
        "server.admin_listen=127.0.0.1:0".to_owned(),
        "server.http_listen=127.0.0.1:0".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs")
}

fn cluster_command(map: &str, arguments: &[&str]) -> Command {
    let mut command = seen();
    command.arg("cluster").args(arguments).args(["--set", map]);
    command
}

/// Epoch, and the number of slots that the feed's replicas are of.
fn status(map: &str) -> (u64, usize) {
    let output = cluster_command(map, &["status", "--json"]).output().expect("it runs");
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success(), "{status:#}");
    let replicas = status["replicas"].as_array().expect("replicas");
    let feed = replicas.iter().filter(|one| one["pool"] == "feed");
    let slots: std::collections::BTreeSet<u64> =
        feed.map(|one| one["slot"].as_u64().expect("a slot")).collect();
    (status["epoch"].as_u64().expect("an epoch"), slots.len())
}

#[test]
fn a_slot_comes_and_goes_while_everything_runs() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let base = free_ports(80);
    let cluster = Cluster::start(folder.path(), base);
    for user in 0..USERS {
        cluster.ask("mark", user % 2, user, &["7", "8"]);
        cluster.ask("filter", user % 2, user, &["7", "9"]);
    }
    let map = format!("cluster.map={}", folder.path().join("cluster.toml").display());
    let slot = format!("feed/2=127.0.0.1:{}", base + PORTS);
    let planned = cluster_command(&map, &["plan", "--json", "--slot", &slot]).output();
    let plan: Value = serde_json::from_slice(&planned.expect("it runs").stdout).expect("JSON");
    assert_eq!(plan["steps"].as_array().expect("steps").len(), 3, "{plan:#}");
    assert_eq!(status(&map), (1, 2), "a plan changes nothing");
    let mut third = replica(folder.path(), base);
    for (wish, expected) in [(["--slot", &slot], (4, 3)), (["--no-slot", "feed/2"], (7, 2))] {
        let applied = cluster_command(&map, &["apply", wish[0], wish[1], "--step-timeout", "2m"])
            .output()
            .expect("it runs");
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        assert_eq!(status(&map), expected);
        for user in 0..USERS {
            let told = cluster.ask("filter", (user + 1) % 2, user, &["7", "8", "9"]);
            let read = |item: &str| super::line(&told, item).ends_with(" read");
            assert!(read("7") && read("8") && !read("9"), "user {user}: {told}");
        }
    }
    drop(third.stdin.take());
    assert!(third.wait().expect("it ends").success());
    cluster.end();
}
