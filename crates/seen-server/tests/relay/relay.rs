//! A replica that follows a relay's topic: rows of others, a relay that is killed, and one that is taken
//! over.

use std::time::Duration;

use seen_proto::v1;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_testbed::{Kafka, or_skip};
use tonic::transport::Channel;

use super::ask::{READ, explain, filter, level, patient};
use super::child::Child;
use super::process::{Process, connect};
use super::servers::{Place, mariadb};

type Api = SeenServiceClient<Channel>;

const TOPIC: &str = "slots";
const USERS: std::ops::Range<u64> = 1..13;

struct Stage {
    place: Place,
    kafka: Kafka,
    flags: Vec<String>,
}

impl Stage {
    fn start() -> Option<Self> {
        let kafka = or_skip(Kafka::start())?;
        let place = mariadb().expect("always there").migrated();
        let mut flags = place.flags();
        flags.extend(["--set".to_owned(), format!("kafka.brokers={}", kafka.bootstrap())]);
        Some(Self { place, kafka, flags })
    }

    fn relay(&self) -> Child {
        Child::start(&["relay", "--topic", TOPIC, "--create-topic", "4"], &self.flags)
    }

    async fn replica(&self) -> (Process, Api, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut flags = self.flags.clone();
        for setting in ["mysql.feed=kafka", "kafka.partitioner=slots", "kafka.topic=slots"] {
            flags.extend(["--set".to_owned(), setting.to_owned()]);
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let process = Process::start(folder.path(), &flags).await;
        let api = Api::new(connect(process.at.api).await);
        (process, api, folder)
    }

    /// Somebody inserts a row for each user by hand.
    fn insert(&self, item: u64) {
        let rows: Vec<_> = USERS.map(|user| format!("({user}, 1, {item}, 5)")).collect();
        self.place.sql(&format!("INSERT INTO history_feed_read VALUES {}", rows.join(", ")));
    }
}

/// Waits until items 1 to `newest` of every user are seen, by users held in memory, whose rows the relay
/// alone tells of.
async fn comes_to_say(api: &mut Api, newest: u64) {
    for user in USERS {
        loop {
            let request = filter(user, &[READ], 1..newest + 1);
            let answer = api.filter(patient(request)).await.expect("an answer").into_inner();
            let is_sound = level(&answer.quality) != v1::QualityLevel::Degraded;
            if is_sound && answer.unseen.is_empty() && is_ready(api, user).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// True if the user's history is in memory and not in doubt.
async fn is_ready(api: &mut Api, user: u64) -> bool {
    let why = api.explain(patient(explain(user, READ, 1))).await.expect("explained");
    why.into_inner().entry.is_some_and(|entry| entry.state() == v1::EntryState::Ready)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_follows_relays_that_come_and_go() {
    let Some(stage) = Stage::start() else { return };
    let first = stage.relay();
    while stage.kafka.partitions(TOPIC).expect("Kafka answers") != 4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (process, mut api, _folder) = stage.replica().await;
    stage.insert(1);
    comes_to_say(&mut api, 1).await;
    stage.insert(2);
    comes_to_say(&mut api, 2).await;
    first.kill_9();
    stage.insert(3);
    let mut second = stage.relay();
    stage.insert(4);
    comes_to_say(&mut api, 4).await;
    // Whichever begins last goes on: the third must not overtake the second.
    second.says("relaying feed");
    let third = stage.relay();
    let mut item = 5;
    while second.is_running() {
        stage.insert(item);
        comes_to_say(&mut api, item).await;
        item += 1;
    }
    let (code, said) = second.exit();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another relay has taken"), "{said}");
    stage.insert(item);
    comes_to_say(&mut api, item).await;
    let (code, said) = third.terminate();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(process.terminate().await, Some(0));
}

#[test]
fn what_cannot_be_relayed_is_refused() {
    let refused = |settings: &[&str]| {
        let flags: Vec<String> =
            settings.iter().flat_map(|one| ["--set".to_owned(), one.to_string()]).collect();
        let output = super::servers::seen(&["relay", "--topic", "t"], &flags);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let embedded = refused(&["storage.kind=sqlite"]);
    assert!(embedded.contains("storage.kind"), "{embedded}");
    let nobody = refused(&["storage.kind=mysql", "mysql.feed=none"]);
    assert!(nobody.contains("mysql.feed"), "{nobody}");
    let circle = refused(&["storage.kind=mysql", "mysql.feed=kafka", "kafka.topic=t"]);
    assert!(circle.contains("kafka.topic"), "{circle}");
    let sharded = refused(&["storage.kind=mysql", "mysql.shards=2"]);
    assert!(sharded.contains("{shard}"), "{sharded}");
}
