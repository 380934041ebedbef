//! The main job on real servers: marks, filters, unmarks, a forget; rows that others wrote; a real
//! history without one wrong answer.

use std::time::Duration;

use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_proto::v1::{self, MarkRequest};
use tonic::transport::Channel;

use super::ask::{READ, explain, filter, forget, level, mark, patient, sound, unmark};
use super::process::{Process, connect};
use super::servers::{Place, mariadb, mysql, said, tidb};

type Api = SeenServiceClient<Channel>;

/// A running service on this place.
async fn serving(place: &Place) -> (Process, Api, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = place.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let process = Process::start(folder.path(), &flags).await;
    let api = Api::new(connect(process.at.api).await);
    (process, api, folder)
}

/// What the first answer that is not flagged says. After an unmark an answer may be flagged until a
/// fence has come back, where the server does not number commits for us (MySQL); an answer that is not
/// flagged is right.
async fn unread(api: &mut Api, token: &[u8], ids: &[u64]) -> Vec<u32> {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        let ids = ids.iter().copied();
        let request = v1::FilterRequest { token: token.to_vec(), ..filter(7, &[READ], ids) };
        let answer = api.filter(patient(request)).await.expect("an answer").into_inner();
        if level(&answer.quality) != v1::QualityLevel::Degraded {
            return sound(&answer).to_vec();
        }
        let reason = answer.quality.as_ref().map(|quality| quality.reason());
        assert_eq!(reason, Some(v1::DegradedReason::Contested));
    }
}

async fn every_call_does_what_it_says(place: Option<Place>) {
    let Some(place) = place.map(Place::migrated) else { return };
    let (process, mut api, _folder) = serving(&place).await;
    let marked = api.mark(patient(mark(7, READ, 0..100))).await.expect("marked").into_inner();
    assert!(unread(&mut api, &marked.token, &[0, 50, 99]).await.is_empty());
    assert_eq!(unread(&mut api, &marked.token, &[0, 100, 99, 200]).await, [1, 3]);
    let unmarked = api.unmark(patient(unmark(7, READ, [50]))).await.expect("unmarked").into_inner();
    assert_eq!(unread(&mut api, &unmarked.token, &[49, 50, 51]).await, [1]);
    let again = MarkRequest { token: unmarked.token, ..mark(7, READ, [50]) };
    let again = api.mark(patient(again)).await.expect("marked").into_inner();
    assert!(unread(&mut api, &again.token, &[49, 50, 51]).await.is_empty());
    let gone = api.forget(patient(forget(7, READ))).await.expect("forgotten").into_inner();
    assert_eq!(unread(&mut api, &gone.token, &[0, 50, 99]).await, [0, 1, 2]);
    assert_eq!(place.sql("SELECT COUNT(*) FROM history_feed_read").trim(), "0");
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_on_mariadb() {
    every_call_does_what_it_says(mariadb()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_on_mysql() {
    every_call_does_what_it_says(mysql()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_on_tidb() {
    every_call_does_what_it_says(tidb()).await;
}

/// Asks until the user's state is in memory, which it is only where changes are followed.
async fn cached(api: &mut Api) -> v1::ExplainResponse {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    loop {
        looks.tick().await;
        unread(api, &[], &[1]).await;
        let why = api.explain(patient(explain(7, READ, 1))).await.expect("explained").into_inner();
        let entry = why.entry.as_ref().expect("always present");
        if entry.state() == v1::EntryState::Ready {
            return why;
        }
    }
}

async fn rows_of_others_are_seen(place: Option<Place>) {
    let Some(place) = place.map(Place::migrated) else { return };
    place.sql("INSERT INTO history_feed_read VALUES (7, 1, 1, 5)");
    let (process, mut api, _folder) = serving(&place).await;
    cached(&mut api).await;
    assert_eq!(unread(&mut api, &[], &[1, 2, 3]).await, [1, 2]);
    // Somebody inserts and deletes by hand. The answer comes from memory, and follows.
    place.sql("INSERT INTO history_feed_read VALUES (7, 1, 2, 6), (8, 1, 3, 6)");
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while unread(&mut api, &[], &[1, 2, 3]).await != [2] {
        looks.tick().await;
    }
    place.sql("DELETE FROM history_feed_read WHERE user_id = 7 AND item_id = 1");
    while unread(&mut api, &[], &[1, 2, 3]).await != [0, 2] {
        looks.tick().await;
    }
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_others_on_mariadb() {
    rows_of_others_are_seen(mariadb()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_others_on_mysql() {
    rows_of_others_are_seen(mysql()).await;
}

/// Replays the beginning of the sample history; the command fails on one false negative.
async fn a_real_history(place: Option<Place>, events: u32) {
    let Some(place) = place.map(Place::migrated) else { return };
    let (process, _api, _folder) = serving(&place).await;
    let (api, admin) = (process.at.api, process.at.admin);
    let history = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/codereview.tsv.zst");
    let arguments = [
        "replay".to_owned(),
        "--json".to_owned(),
        format!("--server=http://{api}"),
        format!("--admin=http://{admin}"),
        format!("--limit={events}"),
        "--timeout=50s".to_owned(),
        history.to_owned(),
    ];
    let replaying = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        super::servers::seen(&arguments, &[])
    });
    let ended = replaying.await.expect("no panic");
    let report = String::from_utf8_lossy(&ended.stdout).into_owned();
    let last = report.lines().last().unwrap_or_default();
    let figures: serde_json::Value =
        serde_json::from_str(last).unwrap_or_else(|_| panic!("{}", said(&ended)));
    assert!(ended.status.success(), "{}", said(&ended));
    assert_eq!(figures["false_negatives"], 0, "{figures}");
    let rows = place.sql("SELECT COUNT(*) FROM history_feed_read");
    assert!(rows.trim().parse::<u64>().expect("a number") > u64::from(events) / 2, "{rows} rows");
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_history_on_mariadb() {
    a_real_history(mariadb(), 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_history_on_mysql() {
    a_real_history(mysql(), 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_history_on_tidb() {
    a_real_history(tidb(), 2_000).await;
}

/// A mark that the table cannot hold is refused alone, whatever shares its commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_mark_fails_nobody_else() {
    let place = mariadb().expect("always there");
    place
        .sql("CREATE TABLE reads_of (who INT NOT NULL, what INT NOT NULL, UNIQUE KEY (who, what))");
    let namespace = "namespace=[{name=\"feed_read\", table=\"reads_of\", \
                     columns=\"user=who,item=what,kind=1\"}]";
    let made = place.seen("migrate", &["--set", namespace]);
    assert!(made.status.success(), "{}", said(&made));
    let folder = tempfile::tempdir().expect("a folder");
    let flags = place.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--set", namespace]).collect();
    let process = Process::start(folder.path(), &flags).await;
    let channel = connect(process.at.api).await;
    for round in 0..10_u64 {
        let calls = (0..30_u64).map(|user| {
            let mut api = Api::new(channel.clone());
            // An INT holds no such item.
            let item = if user == 13 { 1 << 40 } else { round };
            async move { api.mark(patient(mark(user, READ, [item]))).await.map(drop) }
        });
        let ended = futures_util::future::join_all(calls).await;
        for (user, outcome) in ended.into_iter().enumerate() {
            match outcome {
                Ok(()) => assert_ne!(user, 13),
                Err(status) => {
                    assert_eq!(user, 13, "{status:?}");
                    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
                }
            }
        }
    }
    assert_eq!(place.sql("SELECT COUNT(*) FROM reads_of").trim(), "290");
    assert_eq!(process.terminate().await, Some(0));
}
