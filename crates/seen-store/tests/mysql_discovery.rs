//! Which server takes the writes, where more than `read_only` says so: a Galera cluster, of which every
//! node does, and semi-synchronous replication, which may have stopped waiting.

mod faults;

use std::net::TcpListener;
use std::path::Path;

use faults::{
    PASSWORD, USER, address, eventually, found, mark, migrate, open, options, server, works_again,
};
use seen_filter::history::WriteOp;
use seen_filter::{History, StoreErrorKind};
use seen_store::mysql::{ExamineOptions, Severity, Standing};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::{Error, MariaDb, or_skip};
use tempfile::TempDir;

/// Where Debian has it.
const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// By this user one node gives another its data; its password is the same.
const GIVER: &str = "giver";

/// A port that nobody listens at. Below the range that the system gives out by itself.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports = std::iter::repeat_with(|| 20_000 + rand::random_range(0..10_000));
    ports.take(1_000).find(free).expect("a free port")
}

/// A node of a Galera cluster. The first makes the cluster, the other joins by the first one's port.
struct Node {
    server: MariaDb,
    group_port: u16,
    _data: TempDir,
}

impl Node {
    /// Nothing, loudly, where there is no Galera.
    fn start(first: Option<&Self>) -> Option<Self> {
        if !Path::new(PROVIDER).exists() {
            let how = "Debian: apt-get install galera-4".to_owned();
            return or_skip(Err(Error::Missing { what: PROVIDER.to_owned(), how }));
        }
        let folder = TempDir::new().expect("a folder");
        let data = folder.path().join("data");
        let plain = MariaDb::builder().data_folder(&data).start().expect("a MariaDB");
        plain.create_user(USER, PASSWORD).expect("a user");
        let giver = format!("GRANT ALL PRIVILEGES ON *.* TO {GIVER}@'%' IDENTIFIED BY '{GIVER}'");
        plain.sql(&giver).expect("a user");
        plain.stop().expect("stopped");
        drop(plain);
        let group_port = free_port();
        let join = first.map_or(String::new(), |node| format!("127.0.0.1:{}", node.group_port));
        let server = MariaDb::builder()
            .data_folder(&data)
            .arguments(&[
                "--wsrep-on=ON",
                "--log-slave-updates",
                "--wsrep-gtid-mode=ON",
                // What a session must not take over from its server.
                "--wsrep-dirty-reads=ON",
                "--wsrep-cluster-name=seen",
                "--wsrep-node-address=127.0.0.1",
                "--wsrep-sst-method=mysqldump",
                "--innodb-autoinc-lock-mode=2",
                "--gtid-strict-mode=0",
                &format!("--wsrep-sst-auth={GIVER}:{GIVER}"),
                &format!("--wsrep-provider={PROVIDER}"),
                &format!("--wsrep-cluster-address=gcomm://{join}"),
                &format!(
                    "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{group_port};\
                     ist.recv_addr=127.0.0.1:{};gcache.size=16M;pc.recovery=false",
                    free_port()
                ),
            ])
            .start()
            .expect("a node");
        Some(Self { server, group_port, _data: folder })
    }

    fn state(&self) -> String {
        let sql = "SHOW GLOBAL STATUS LIKE 'wsrep_local_state_comment'";
        self.server.sql(sql).unwrap_or_default().trim().to_owned()
    }

    fn counter(&self, name: &str) -> u64 {
        faults::counter(&self.server, name)
    }

    async fn is(&self, state: &str) {
        eventually("the node's state", async || {
            let now = self.state();
            if now.ends_with(state) { Ok(()) } else { Err(now + &self.server.log()) }
        })
        .await;
    }
}

async fn primary_at(store: &MySqlStore, port: u16) {
    eventually("the primary is found", async || match &store.status()[0].standing {
        Standing::One(primary) if primary.address.port == port => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// An unmark by another node waits, or it would find nothing to remove; so does each transaction that
/// writes. Nodes count commits each by itself: no number is comparable with another node's.
async fn unmarks_wait(store: &MySqlStore, elsewhere: &MySqlStore, node: &Node) {
    for id in 110..160 {
        let waited = node.counter("wsrep_causal_reads");
        store.write(mark(1, [id])).await.expect("a mark");
        let mut unmark = mark(1, [id]);
        unmark[0].op = WriteOp::Remove;
        assert_eq!(elsewhere.write(unmark).await.expect("an unmark"), None);
        assert_eq!(found(store, 1, [id]).await.expect("a check"), [false], "item {id}");
        assert!(node.counter("wsrep_causal_reads") > waited, "the write did not wait");
    }
    assert_eq!(store.write(mark(1, [1_000])).await.expect("a mark"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_a_galera_cluster_are_one_primary() {
    let Some(one) = Node::start(None) else { return };
    let two = Node::start(Some(&one)).expect("as the first");
    two.is("Synced").await;
    one.is("Synced").await;
    let witness = server(&[]);
    one.server.sql("CREATE DATABASE seen").expect("a database");
    let mut options = options(&[one.server.port(), two.server.port()]);
    options.shards[0].witnesses = vec![address(witness.port())];
    migrate(&options).await;
    let store = open(&options).await;
    primary_at(&store, one.server.port()).await;
    works_again(&store, 1).await;

    // What was marked through one node is found through the other at once, also by others.
    let elsewhere = MySqlOptions {
        shards: vec![seen_store::mysql::ShardServers {
            candidates: vec![address(two.server.port())],
            witnesses: Vec::new(),
            ..options.shards[0].clone()
        }],
        ..options.clone()
    };
    let elsewhere = open(&elsewhere).await;
    for id in 10..60 {
        store.write(mark(1, [id])).await.expect("a mark");
        assert_eq!(found(&elsewhere, 1, [id]).await.expect("a check"), [true], "item {id}");
    }
    unmarks_wait(&store, &elsewhere, &two).await;
    elsewhere.close().await;

    // A node that is out of step is left; the next one is kept when the first is back.
    one.server.sql("SET GLOBAL wsrep_desync = ON").expect("out of step");
    primary_at(&store, two.server.port()).await;
    works_again(&store, 2).await;
    one.server.sql("SET GLOBAL wsrep_desync = OFF").expect("in step");
    one.is("Synced").await;
    works_again(&store, 3).await;
    primary_at(&store, two.server.port()).await;

    // Half of a cluster is no primary component, whatever we could reach; nor does it answer those who
    // have not heard of it.
    let unaware = MySqlOptions { probe_interval_ms: 60_000, ..options.clone() };
    let unaware = open(&unaware).await;
    works_again(&unaware, 5).await;
    one.server.sql("SET GLOBAL wsrep_sync_wait = 0").expect("a default of others");
    assert_eq!(one.server.sql("SELECT @@wsrep_dirty_reads").expect("a default").trim(), "1");
    two.server.kill_9().expect("killed");
    eventually("the other node is refused", async || match &store.status()[0].standing {
        Standing::NoneWritable(why) if why.contains("primary component") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let refused = store.write(mark(4, [1])).await.expect_err("a lone node took it");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
    // Its own clients are answered there, as its default says; the store is not.
    let rows = format!("SELECT COUNT(*) FROM {}", faults::TABLE);
    one.server.sql(&rows).expect("a dirty read");
    let check = found(&unaware, 1, [10]).await.expect_err("a lone node was believed");
    assert_eq!(check.kind, StoreErrorKind::Unavailable, "{check}");
    assert!(unaware.page(faults::page(1)).await.is_err(), "a lone node was believed");
    unaware.close().await;
    store.close().await;
}

/// Two clusters are two histories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_two_clusters_are_a_split_brain() {
    let Some(one) = Node::start(None) else { return };
    let other = Node::start(None).expect("as the first");
    one.server.sql("CREATE DATABASE seen").expect("a database");
    migrate(&options(&[one.server.port()])).await;
    let both = options(&[one.server.port(), other.server.port()]);
    let refused = MySqlStore::open(both, faults::plain()).await.err().expect("two primaries");
    assert!(refused.message.contains("several of its servers take writes at once"), "{refused}");
}

/// Replicas that are away are told of, and cost nobody his answer: whoever wants to lose nothing by a
/// failover must mend them, and refusing marks until then would make each replica a single point of
/// failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn semi_synchronous_replication_that_does_not_wait_is_told_of() {
    let primary = server(&[
        "--rpl-semi-sync-master-enabled=ON",
        "--rpl-semi-sync-master-timeout=100",
        "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    ]);
    let options = options(&[primary.port()]);
    migrate(&options).await;
    // Nobody follows: the first commit waited in vain, and the next ones do not wait.
    let status = primary.sql("SHOW GLOBAL STATUS LIKE 'rpl_semi_sync_master_status'");
    assert!(status.expect("a status").contains("OFF"));
    let store = open(&options).await;
    works_again(&store, 1).await;
    assert!(store.status()[0].waits_for_nobody, "{:?}", store.status());
    store.close().await;

    let peers = || {
        let mut options = options.clone();
        options.shards[0].candidates.push(address(1));
        options
    };
    let examined = async |how: ExamineOptions| {
        let found = MySqlStore::examine(peers(), faults::plain(), how).await.expect("a look");
        let about = |name: &str| {
            let of = found.findings.iter().filter(|one| one.subject.contains(name));
            of.map(|one| (one.severity, one.mend.clone().unwrap_or_default())).collect::<Vec<_>>()
        };
        (about("rpl_semi_sync_master_status"), about("rpl_semi_sync_master_timeout"))
    };
    let (status, timeout) = examined(ExamineOptions::default()).await;
    assert_eq!(status, [(Severity::Warning, String::new())]);
    assert_eq!(timeout, []);
    // Longer than reads are assumed to lag.
    primary.sql("SET GLOBAL rpl_semi_sync_master_timeout = 2000").expect("set");
    let (_, timeout) = examined(ExamineOptions::default()).await;
    let mend = "SET GLOBAL rpl_semi_sync_master_timeout = 1000";
    assert_eq!(timeout, [(Severity::Error, mend.to_owned())]);
    primary.sql(mend).expect("mended");
    assert_eq!(examined(ExamineOptions::default()).await.1, []);
    let short = ExamineOptions { snapshot_lag_ms: 500, ..ExamineOptions::default() };
    assert_eq!(examined(short).await.1.len(), 1);
}
