//! Several shards behind one service, and `seen shards`.

use seen_proto::v1::seen_service_client::SeenServiceClient;

use super::ask::{READ, filter, mark, patient, sound};
use super::process::{Process, connect};
use super::servers::{Place, mariadb, said};

const SHARDS: u64 = 4;
const USERS: u64 = 40;

/// A place with a schema for each shard.
fn sharded() -> (Place, Vec<String>) {
    let place = mariadb().expect("always there");
    for shard in 0..SHARDS {
        place.sql(&format!("CREATE DATABASE {}_{shard}", place.database));
    }
    let more = ["--set".to_owned(), format!("mysql.shards={SHARDS}")].to_vec();
    (place, more)
}

fn shards(place: &Place, more: &[&str]) -> (Option<i32>, serde_json::Value) {
    let ended = place.seen("shards", &[&["--json"], more].concat());
    let value = serde_json::from_slice(&ended.stdout);
    (ended.status.code(), value.unwrap_or_else(|_| panic!("{}", said(&ended))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_live_on_their_shards() {
    let (place, more) = sharded();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let made = place.seen("migrate", &more);
    assert!(made.status.success(), "{}", said(&made));
    let folder = tempfile::tempdir().expect("a folder");
    let flags = place.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.clone()).collect();
    let process = Process::start(folder.path(), &flags).await;
    let mut api = SeenServiceClient::new(connect(process.at.api).await);
    for user in 0..USERS {
        let marked = api.mark(patient(mark(user, READ, [user, 100]))).await.expect("marked");
        let token = marked.into_inner().token;
        let asked =
            seen_proto::v1::FilterRequest { token, ..filter(user, &[READ], [user, 100, 101]) };
        let answer = api.filter(patient(asked)).await.expect("an answer").into_inner();
        assert_eq!(sound(&answer), [2], "user {user}");
    }
    assert_eq!(process.terminate().await, Some(0));

    let (code, found) = shards(&place, &[&["--verify", "--user", "7,8"], more.as_slice()].concat());
    assert_eq!(code, Some(0), "{found}");
    let all = found["shards"].as_array().expect("a list");
    let users = |shard: &serde_json::Value| shard["namespaces"][READ]["users"].as_u64();
    assert_eq!(all.iter().filter_map(users).sum::<u64>(), USERS, "{found}");
    assert!(all.iter().all(|shard| users(shard) > Some(0)), "each has some: {found}");
    let home = found["users"][0]["shard"].as_u64().expect("a number");
    assert_eq!(found["users"][0]["user"], 7);
    let (here, elsewhere) = (home, (home + 1) % SHARDS);
    let rows = |shard: u64| {
        let database = &place.database;
        let count = format!("SELECT COUNT(*) FROM {database}_{shard}.history_feed_read");
        place.sql(&format!("{count} WHERE user_id = 7")).trim().to_owned()
    };
    assert_eq!((rows(here).as_str(), rows(elsewhere).as_str()), ("2", "0"));

    let wrong = format!("{}_{elsewhere}.history_feed_read", place.database);
    place.sql(&format!("INSERT INTO {wrong} VALUES (7, 1, 1, 5)"));
    let (code, found) = shards(&place, &[&["--verify"], more.as_slice()].concat());
    assert_eq!(code, Some(5));
    let of_shard = &found["shards"][elsewhere as usize]["namespaces"][READ];
    assert_eq!((&of_shard["misplaced"], &of_shard["first"][0]), (&1.into(), &7.into()), "{found}");
}
