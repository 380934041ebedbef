//! Several shards behind one service, and `seen shards`.

use std::time::Duration;

use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_proto::v1::{FilterResponse, QualityLevel};
use seen_testbed::MariaDb;
use tonic::transport::Channel;

use super::ask::{READ, filter, level, mark, patient, sound, within};
use super::process::{Process, connect};
use super::servers::{Place, mariadb, said, seen};

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

async fn asked(api: &mut SeenServiceClient<Channel>, user: u64) -> FilterResponse {
    let question = filter(user, &[READ], [user, 100, 101]);
    let answer = api.filter(within(Duration::from_secs(2), question)).await;
    answer.expect("an answer, sound or not").into_inner()
}

/// Waits until a user's answer is sound: two items are unread.
async fn comes_right(api: &mut SeenServiceClient<Channel>, user: u64) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let answer = asked(api, user).await;
        if level(&answer.quality) != QualityLevel::Degraded {
            assert_eq!(sound(&answer).len(), 2, "user {user}");
            return;
        }
        assert!(tokio::time::Instant::now() < until, "user {user}: {answer:?}");
        looks.tick().await;
    }
}

/// Two shards on two servers, and how the binary is told of them.
struct Two {
    place: Place,
    other: MariaDb,
    flags: Vec<String>,
}

impl Two {
    /// With the schema, and item 100 marked for everybody.
    fn new() -> Self {
        let (place, other) = (mariadb().expect("always there"), MariaDb::start().expect("another"));
        place.sql(&format!("CREATE DATABASE {}_0", place.database));
        other.sql(&format!("CREATE DATABASE {}_1", place.database)).expect("a database");
        let servers = format!("127.0.0.1:{};127.0.0.1:{}", place.server.port(), other.port());
        let more =
            ["mysql.shards=2", &format!("mysql.servers={servers}"), "mysql.connect_timeout=2s"];
        let more = more.iter().flat_map(|flag| ["--set".to_owned(), (*flag).to_owned()]);
        let flags = place.flags().into_iter().chain(more).collect();
        let two = Self { place, other, flags };
        let made = seen(&["migrate"], &two.flags);
        assert!(made.status.success(), "{}", said(&made));
        two
    }

    fn shards(&self, arguments: &[&str]) -> serde_json::Value {
        let ended = seen(&[&["shards", "--json"], arguments].concat(), &self.flags);
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{}", said(&ended)))
    }

    /// The users of each shard, whose item 100 is marked now.
    fn marked_users(&self) -> [Vec<u64>; 2] {
        let ids: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
        let found = self.shards(&["--user", &ids.join(",")]);
        let homes = found["users"].as_array().expect("a list").clone();
        [(self.place.server, 0), (&*self.other, 1)].map(|(server, shard)| {
            let here = homes.iter().filter(|home| home["shard"] == shard);
            let users: Vec<u64> = here.map(|home| home["user"].as_u64().expect("an id")).collect();
            let rows: Vec<String> =
                users.iter().map(|user| format!("({user}, 1, 100, 5)")).collect();
            let table = format!("{}_{shard}.history_feed_read", self.place.database);
            server.sql(&format!("INSERT INTO {table} VALUES {}", rows.join(","))).expect("rows");
            users
        })
    }
}

/// The service starts without a shard; its users are told so with each answer, until it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_down_at_the_start_flags_its_own_users_only() {
    let two = Two::new();
    let [kept, lost] = two.marked_users();
    two.other.kill_9().expect("killed");
    let folder = tempfile::tempdir().expect("a folder");
    let flags: Vec<&str> = two.flags.iter().map(String::as_str).collect();
    let process = Process::start(folder.path(), &flags).await;
    let mut api = SeenServiceClient::new(connect(process.at.api).await);
    for user in &kept {
        comes_right(&mut api, *user).await;
    }
    // Such an answer takes as long as its caller gives it.
    for user in &lost[..3] {
        let question = filter(*user, &[READ], [*user, 100, 101]);
        let answer = api.filter(within(Duration::from_secs(1), question)).await;
        let answer = answer.expect("flagged, and in time").into_inner();
        assert_eq!(level(&answer.quality), QualityLevel::Degraded, "user {user}: {answer:?}");
    }
    two.other.restart().expect("restarted");
    for user in &lost {
        comes_right(&mut api, *user).await;
    }
    assert_eq!(process.terminate().await, Some(0));
}

/// Telling a shard of a newer map shuts out the older one there, and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_told_of_a_newer_map() {
    let two = Two::new();
    let raised = seen(&["shards", "--raise", "1", "--epoch", "2"], &two.flags);
    assert!(raised.status.success(), "{}", said(&raised));
    assert!(said(&raised).contains("map epoch 0 -> 2"), "{}", said(&raised));
    // Again, as after an unknown outcome.
    let again = seen(&["shards", "--raise", "1", "--epoch", "2"], &two.flags);
    assert!(again.status.success(), "{}", said(&again));
    assert!(said(&again).contains("map epoch 2 already"), "{}", said(&again));
    let found = two.shards(&[]);
    assert_eq!(found["shards"][0]["trouble"], serde_json::Value::Null, "{found}");
    let trouble = found["shards"][1]["trouble"].as_str().unwrap_or_default();
    assert!(trouble.contains("newer map"), "{found}");
    let newer = two.shards(&["--set", "mysql.map_epoch=2"]);
    let epochs = [&newer["shards"][0]["map_epoch"], &newer["shards"][1]["map_epoch"]];
    assert_eq!(epochs, [0, 2], "{newer}");
}
