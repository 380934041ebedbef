//! `seen dump` and `seen warm` between the replicas of a cluster.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::{Cluster, free_ports, seen, turn};

/// Users who read something: some of them fall to each replica.
const USERS: u64 = 40;
/// How often replicas are looked at until their builds have ended.
const LOOKS_MAX: usize = 500;

/// A cluster that runs, and what its tools are told.
struct Running {
    folder: tempfile::TempDir,
    base: u16,
    cluster: Cluster,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let base = free_ports(120);
        let cluster = Cluster::start(folder.path(), base);
        Self { folder, base, cluster }
    }

    /// Has a proxy ask for the user: a replica builds its entry.
    fn filter(&self, user: u64) {
        for (command, item) in [("mark", "7"), ("filter", "8")] {
            self.cluster.ask(command, 0, user, &[item]);
        }
    }

    /// The port of a part, counted as they are listed: two proxies, four replicas of the feed, one offline.
    fn port(&self, part: u16, which: u16) -> String {
        format!("127.0.0.1:{}", self.base + part * 10 + which)
    }

    fn link(&self, part: u16) -> String {
        self.port(part, 3)
    }

    /// Users in memory, by the ends of replicas' names.
    fn users(&self) -> Vec<(String, u64)> {
        let map = format!("cluster.map={}", self.folder.path().join("cluster.toml").display());
        let told = seen().args(["cluster", "status", "--json", "--set", &map]).output();
        let status: Value = serde_json::from_slice(&told.expect("it runs").stdout).expect("JSON");
        let replicas = status["replicas"].as_array().expect("replicas").iter();
        let users = |one: &Value| {
            let name = one["name"].as_str().expect("a name").to_owned();
            (name, one["users"].as_u64().expect("a count"))
        };
        replicas.map(users).collect()
    }

    fn users_of(&self, part: u16) -> u64 {
        let users = self.users();
        let port = self.link(part);
        let port = port.rsplit_once(':').map_or("", |(_, port)| port);
        let found = users.iter().find(|(name, _)| name.ends_with(port));
        found.unwrap_or_else(|| panic!("{port}: {users:?}")).1
    }

    fn tool(&self, args: &[&str]) -> Output {
        let store = format!("storage.data_dir={}", self.folder.path().join("data").display());
        seen().args(args).args(["--json", "--set", &store]).output().expect("it runs")
    }

    /// A tool that must succeed, and what it says.
    fn done(&self, args: &[&str]) -> Value {
        let output = self.tool(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {told}"))
    }

    fn dump(&self, part: u16, out: &Path) -> Value {
        // A user whose mark did not come by the feed yet is left out.
        let out = out.to_str().expect("a path");
        let mut dumps =
            (0..LOOKS_MAX).map(|_| self.done(&["dump", "--from", &self.link(part), "--out", out]));
        dumps.find(|dump| dump["left_out"] == 0).expect("all entries are certain in the end")
    }

    /// A tool that must be refused, and why.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.tool(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
fn a_replica_is_warmed_by_its_peer_by_a_file_and_by_a_list() {
    let _turn = turn();
    let cluster = Running::start();
    (0..USERS).for_each(|user| cluster.filter(user));
    // The replicas of the feed, which were asked; each user is with one of them.
    let built = |_: &usize| (2..6).map(|part| cluster.users_of(part)).sum::<u64>() >= USERS;
    (0..LOOKS_MAX).find(built).expect("all entries are built in the end");
    let (first, second, offline) = (2, 3, 6);
    let (from, to) = (cluster.link(first), cluster.link(second));

    let file = cluster.folder.path().join("first.dump");
    let dump = cluster.dump(first, &file);
    assert!(dump["users"].as_u64() > Some(0), "{dump:#}");
    let before = cluster.users_of(second);
    let dry = cluster.done(&["warm", "--to", &to, "--from", &from, "--dry-run"]);
    assert_eq!((&dry["expected"], &dry["brought"]), (&dump["users"], &Value::from(0)), "{dry:#}");
    assert_eq!(cluster.users_of(second), before);

    let warm = cluster.done(&["warm", "--to", &to, "--from", &from]);
    let installed = warm["installed"].as_u64().expect("a count");
    assert!(installed > 0, "{warm:#}");
    assert_eq!(cluster.users_of(second), before + installed);

    from_files(&cluster, (first, &from), second);

    let list = cluster.folder.path().join("users");
    fs::write(&list, "1\n2\n\n3\n").expect("written");
    let (to, admin) = (cluster.link(offline), cluster.port(offline, 1));
    let list = list.to_str().expect("a path");
    let args = ["warm", "--to", &to, "--users", list, "--rate", "100", "--admin", &admin];
    let before = cluster.users_of(offline);
    assert_eq!(cluster.done(&args)["installed"], 3);
    assert_eq!(cluster.users_of(offline), before + 3);
    let other = cluster.port(first, 1);
    let told = cluster.refused(&[&args[..8], &[&other]].concat());
    assert!(told.contains("another process"), "{told}");
    cluster.cluster.end();
}

/// What the second one holds by now brings the first one what it lacks; torn, it brings nothing.
fn from_files(cluster: &Running, (first, to): (u16, &str), second: u16) {
    let file = cluster.folder.path().join("second.dump");
    let dump = cluster.dump(second, &file);
    let bytes = fs::read(&file).expect("the file");
    let torn = cluster.folder.path().join("torn.dump");
    let before = cluster.users_of(first);
    let mut bent = bytes.clone();
    bent[bytes.len() / 2] ^= 1;
    for wrong in [&bytes[..bytes.len() - 20], &bytes[..bytes.len() / 2], &bent] {
        fs::write(&torn, wrong).expect("written");
        let torn = torn.to_str().expect("a path");
        let told = cluster.refused(&["warm", "--to", to, "--from-file", torn]);
        assert!(told.contains("nothing was brought"), "{told}");
    }
    assert_eq!(cluster.users_of(first), before);
    let file = file.to_str().expect("a path");
    let dry = cluster.done(&["warm", "--to", to, "--from-file", file, "--dry-run"]);
    assert_eq!((&dry["expected"], &dry["brought"]), (&dump["users"], &Value::from(0)), "{dry:#}");
    let none = ["warm", "--to", to, "--from-file", file, "--namespace", "push_sent"];
    assert_eq!(cluster.done(&none)["brought"], 0);
    assert_eq!(cluster.users_of(first), before);
    let warm = cluster.done(&["warm", "--to", to, "--from-file", file]);
    assert_eq!(warm["brought"], dump["users"], "{warm:#}");
    let installed = warm["installed"].as_u64().expect("a count");
    assert!(installed > 0, "{warm:#}");
    assert_eq!(cluster.users_of(first), before + installed);
}
