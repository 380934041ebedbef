//! Replicas that follow the binary log, without Kafka, when the primary is lost.

use seen_testbed::MariaDb;
use tokio::task::{block_in_place, spawn_blocking};

use super::producer::Tool;
use super::stage::{Stage, turn};
use super::wait::awaited;
use super::watch::Watch;

/// Nothing is acknowledged that the replica has not got: else a failover may lose it (row 43).
const PRIMARY: [&str; 3] = [
    "--rpl-semi-sync-master-enabled=ON",
    "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    // Until there is a replica.
    "--rpl-semi-sync-master-timeout=10",
];
const REPLICA: [&str; 1] = ["--rpl-semi-sync-slave-enabled=ON"];

/// The stage before the primary is lost, and the server that is to take its place; the third one votes.
async fn pair() -> (Stage, MariaDb, MariaDb) {
    let turn = turn().await;
    let primary = || MariaDb::builder().arguments(&PRIMARY).start().expect("a primary");
    let witness = || MariaDb::builder().server_id(9).start().expect("a witness");
    let (primary, witness) = tokio::join!(spawn_blocking(primary), spawn_blocking(witness));
    let (primary, witness) = (primary.expect("no panic"), witness.expect("no panic"));
    block_in_place(|| {
        primary.create_user("seen", "secret").expect("a user");
        witness.create_user("seen", "secret").expect("a user");
        let mut stage = Stage::new(turn, primary, &["mysql.feed=binlog".to_owned()]);
        let replica = MariaDb::builder().replica_of(&stage.database).arguments(&REPLICA);
        let replica = replica.start().expect("a replica");
        let (one, other) = (stage.database.port(), replica.port());
        stage.set(format!("mysql.servers=127.0.0.1:{one},127.0.0.1:{other}"));
        stage.set(format!("mysql.witnesses=127.0.0.1:{}", witness.port()));
        stage.set("mysql.user=seen".to_owned());
        stage.set("mysql.password=secret".to_owned());
        (stage, replica, witness)
    })
}

/// Lets commits wait for the replica, and longer than any machine is busy: the promise rests on it here.
async fn is_followed(primary: &MariaDb) {
    let set = "SET GLOBAL rpl_semi_sync_master_timeout = 60000";
    block_in_place(|| primary.sql(set)).expect("set");
    awaited("semi-synchronous replication", async || {
        let status = "SHOW GLOBAL STATUS LIKE 'rpl_semi_sync_master_status'";
        let told = block_in_place(|| primary.sql(status)).expect("a status");
        if told.trim().ends_with("ON") { Ok(()) } else { Err(told) }
    })
    .await;
}

/// Waits until a replica, whose primary is gone, has applied everything that it was sent.
async fn applies_all(replica: &MariaDb) {
    let number = |gtid: &str| -> Option<u64> {
        let parts: Vec<u64> = gtid.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
        (parts.len() == 3).then(|| parts[2])
    };
    awaited("the replica to apply what it was sent", async || {
        let status = block_in_place(|| replica.sql("SHOW ALL SLAVES STATUS")).expect("a status");
        let applied = block_in_place(|| replica.sql("SELECT @@gtid_slave_pos")).expect("a place");
        let received = status.trim().split('\t').filter_map(number).max();
        match number(applied.trim()) {
            place if place.is_some() && place >= received => Ok(()),
            place => Err(format!("{place:?} of {received:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_killed_and_its_replica_promoted() {
    if !Tool::chosen().is_of(&[Tool::Debezium], "no producer takes part in it") {
        return;
    }
    let (mut stage, replica, _witness) = pair().await;
    is_followed(&stage.database).await;
    stage.serve().await;
    stage.fill().await;
    let watch = Watch::begin(&stage);
    stage.sql("DELETE FROM history_feed_read WHERE user_id = 2 AND item_id = 2").await;
    stage.sql("INSERT INTO history_feed_read VALUES (1, 1, 20, 5), (3, 1, 20, 5)").await;
    watch.answers_more().await;
    // Marks and foreign rows are under way.
    block_in_place(|| stage.database.kill_9()).expect("killed");
    applies_all(&replica).await;
    block_in_place(|| replica.promote()).expect("promoted");
    drop(std::mem::replace(&mut stage.database, replica));
    stage.sql("INSERT INTO history_feed_read VALUES (4, 1, 21, 5), (5, 1, 21, 5)").await;
    stage.sql("UPDATE history_feed_read SET item_id = 22 WHERE user_id = 4 AND item_id = 21").await;
    stage.sql("DELETE FROM history_feed_read WHERE user_id = 3 AND item_id = 3").await;
    stage.agree().await;
    assert!(stage.stored(1).await.contains(&20), "the foreign row that was acknowledged");
    watch.answers_more().await;
    watch.end(&stage).await;
    stage.settle().await;
    // What comes now is told by the promoted server's log alone.
    stage.sql("INSERT INTO history_feed_read VALUES (6, 1, 23, 5), (7, 1, 23, 5)").await;
    stage.agree().await;
}
