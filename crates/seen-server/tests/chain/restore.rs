//! The database goes back.

use super::ask::{READ, mark, patient};
use super::chain::Chain;
use super::producer::Tool;

/// A backup is put back under a running service, and its producer begins anew at the log's end: the rows
/// that were written since the backup are gone, and nobody says so. The service's own fences do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_restored_from_a_backup() {
    let why_not = "Canal's messages do not say where in the log they lie";
    if !Tool::chosen().is_of(&[Tool::Debezium, Tool::Maxwell], why_not) {
        return;
    }
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    let backup = tempfile::tempdir().expect("a folder");
    let data = chain.database.folder().join("data");
    tokio::task::block_in_place(|| {
        chain.producer.stop().expect("stopped");
        chain.database.stop().expect("stopped");
        copy(&data, backup.path());
        chain.database.restart().expect("restarted");
        chain.producer.restart().expect("restarted");
    });
    // An hour's work, all of it acknowledged.
    chain.agree().await;
    let mut api = chain.replicas[0].api.clone();
    for user in 1..12 {
        api.mark(patient(mark(user, READ, [35, 36]))).await.expect("marked");
    }
    chain.sql("DELETE FROM history_feed_read WHERE user_id = 2").await;
    chain.agree().await;
    tokio::task::block_in_place(|| {
        chain.producer.kill_9().expect("killed");
        chain.database.stop().expect("stopped");
        std::fs::remove_dir_all(&data).expect("removed");
        copy(backup.path(), &data);
        chain.database.restart().expect("restarted");
    });
    chain.sql("INSERT INTO history_feed_read VALUES (3, 1, 37, 5)").await;
    chain.begin_producer_anew().await;
    chain.agree().await;
    assert!(!chain.stored(1).await.contains(&35), "what was lost stays lost");
    chain.settle().await;
}

/// Copies a folder with all that is in it.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let mut copying = std::process::Command::new("cp");
    let done = copying.arg("-a").arg(from.join(".")).arg(to).status();
    assert!(done.expect("cp runs").success());
}
