//! How long a replica of many users takes, killed and started again, until it is ready: it takes its users from its peer.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use seen_client::{FilterCall, Session};
use serde::Serialize;

use super::arguments::Arguments;
use super::cluster::Cluster;
use super::figures::Rounds;
use super::progress::Bar;
use super::{KIND, NAMESPACE, dump};

/// The peer, and the one that is restarted.
const PEER: usize = 0;
const OWN: usize = 1;
/// Users whose answers are checked afterwards.
const CHECKED: u64 = 1_000;
/// Items that nobody has read, beside each checked user's own.
const UNREAD: u64 = 4;
const NEVER_READ: u64 = 1 << 50;
/// A mark's time in the history, in seconds.
const READ_AT_S: u64 = 1_700_000_000;

/// What restarts came to.
#[derive(Debug, Serialize)]
pub struct Found {
    pub users: u64,
    pub items: u64,
    /// Where the peer has nobody to give: what a start takes by itself.
    pub empty_s: Rounds,
    pub shares: Vec<Share>,
    /// Answers that were checked, and those of them that memory alone gave.
    pub checked: u64,
    pub from_memory: u64,
}

/// Restarts beside a peer that gives so much of one core.
#[derive(Debug, Serialize)]
pub struct Share {
    pub of_a_core: f64,
    pub ready_s: Rounds,
    pub all_s: Rounds,
    pub users_per_s: Rounds,
}

pub async fn measure(arguments: &Arguments, bar: &Bar) -> Found {
    let (users, items) = (arguments.restart_users, arguments.restart_items);
    let cluster = Cluster::make(arguments.seen.as_deref(), &arguments.set);
    bar.says(&format!("restart: importing {} rows", users * items));
    let rows = cluster.folder().join("rows.tsv");
    write_rows(&rows, users, items);
    let file = rows.to_str().expect("a path");
    cluster.seen.run(&["import", file, "--direct", "--streams", "8", "--verify", "1000"]);
    std::fs::remove_file(&rows).expect("removed");

    let mut empty_s = Vec::new();
    let mut shares = Vec::new();
    let (mut checked, mut from_memory) = (0, 0);
    // The default, and as much as there is.
    for of_a_core in [0.25, 1.0] {
        let share = format!("cluster.warm_cpu_share={of_a_core}");
        let peer = cluster.start(PEER, &[share]);
        cluster.ready(PEER).await;
        for round in 1..=arguments.rounds {
            bar.says(&format!("restart: beside an empty peer, round {round}"));
            empty_s.push(once(&cluster, (0, items)).await.0);
        }
        bar.says("restart: filling the peer");
        fill(&cluster, (users, items)).await;
        let mut rounds = Vec::new();
        for round in 1..=arguments.rounds {
            bar.says(&format!("restart: the peer gives {of_a_core} of a core, round {round}"));
            let (ready_s, all_s, hits) = once(&cluster, (users, items)).await;
            rounds.push((ready_s, all_s));
            (checked, from_memory) = (checked + CHECKED.min(users), from_memory + hits);
        }
        drop(peer);
        shares.push(Share {
            of_a_core,
            ready_s: Rounds::of(rounds.iter().map(|one| one.0)),
            all_s: Rounds::of(rounds.iter().map(|one| one.1)),
            users_per_s: Rounds::of(rounds.iter().map(|one| users as f64 / one.1)),
        });
    }
    let empty_s = Rounds::of(empty_s);
    Found { users, items, empty_s, shares, checked, from_memory }
}

/// One start, from the process's first moment: until it is ready, until it holds all users, and how many of the checked
/// users' answers memory alone gave. It is killed afterwards.
async fn once(cluster: &Cluster, (users, items): (u64, u64)) -> (f64, f64, u64) {
    let began = Instant::now();
    let own = cluster.start(OWN, &[]);
    cluster.ready(OWN).await;
    let ready_s = began.elapsed().as_secs_f64();
    let warm = cluster.warmed(OWN).await;
    let all_s = began.elapsed().as_secs_f64();
    assert_eq!((warm.users, warm.refused), (users, 0), "{warm:?}");
    let hits = check(cluster, (users, items)).await;
    drop(own);
    (ready_s, all_s, hits)
}

fn write_rows(path: &Path, users: u64, items: u64) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for user in 0..users {
        for item in dump::items(user, items) {
            writeln!(file, "{user}\t{item}\t{KIND}\t{READ_AT_S}").expect("written");
        }
    }
    file.flush().expect("written");
}

/// Brings all users into the peer's memory.
async fn fill(cluster: &Cluster, (users, items): (u64, u64)) {
    // One entry as a build from storage makes it says from where on the others are to be followed.
    cluster.admin(PEER).rebuild(0, NAMESPACE).await.expect("built");
    let (like, all) = (cluster.folder().join("like.dump"), cluster.folder().join("all.dump"));
    let link = cluster.link(PEER);
    let [like_path, all_path] = [&like, &all].map(|path| path.to_str().expect("a path").to_owned());
    cluster.seen.run(&["dump", "--from", &link, "--out", &like_path]);
    let key = dump::key(&cluster.store()).await;
    dump::write(&like, &all, &key, (users, items)).await;
    cluster.seen.run(&["warm", "--to", &link, "--from-file", &all_path]);
    assert_eq!(cluster.users(PEER).await, users);
    std::fs::remove_file(&all).expect("removed");
}

/// Asks the restarted replica about some users: each answer must be right. How many memory alone gave.
async fn check(cluster: &Cluster, (users, items): (u64, u64)) -> u64 {
    let (client, admin) = (cluster.client(OWN), cluster.admin(OWN));
    let hits = async || {
        let status = admin.status().await.expect("it answers");
        status.traffic.unwrap_or_default().hits
    };
    let before = hits().await;
    for user in (0..users).step_by((users / CHECKED).max(1) as usize).take(CHECKED as usize) {
        let call = FilterCall::new(NAMESPACE)
            .items(KIND, dump::items(user, items))
            .items(KIND, NEVER_READ..NEVER_READ + UNREAD);
        let answer = client.filter(&Session::new(user), call).await.expect("an answer");
        let wrong = answer.unseen.iter().any(|at| u64::from(*at) < items);
        assert!(!wrong && !answer.is_flagged(), "user {user}: {answer:?}");
    }
    hits().await - before
}
