//! A starting replica takes its users from its peer and reads no storage for it, by the server's own counters.

use std::collections::BTreeMap;
use std::time::Duration;

use seen_proto::v1;
use seen_testbed::{MariaDb, Server, or_skip};

use super::ask::{READ, filter, mark, patient, sound};
use super::peer::{Replica, WARMED, map_of_two};
use super::servers::Place;

const USERS: u64 = 300;
/// How often users are asked about until memory alone answers.
const LOOKS_MAX: usize = 300;
/// Items that a user is asked about; user `n` has read those whose remainder by 7 is `n`'s.
const ASKED: u64 = 40;
/// Histories of the default configuration: a start looks at one row of each, whether it is as it should be.
const HISTORIES: u64 = 2;
/// One whom nobody asked about before.
const STRANGER: u64 = 1 << 40;

/// Filters that memory alone answered.
const HITS: &str = "seen_filter_hits_total";

/// A server that counts the rows that were read of each table, and keeps what it was told.
fn counting() -> Option<MariaDb> {
    let counts = ["--userstat=1", "--general-log=1", "--log-output=TABLE"];
    or_skip(MariaDb::builder().arguments(&counts).start())
}

fn is_read(user: u64, item: u64) -> bool {
    item % 7 == user % 7
}

/// Asks about every user, and checks each answer. How many of them memory alone gave.
async fn ask_all(replica: &mut Replica, tokens: &BTreeMap<u64, Vec<u8>>) -> u64 {
    let before = replica.counted(HITS, "");
    for (user, token) in tokens {
        let request =
            v1::FilterRequest { token: token.clone(), ..filter(*user, &[READ], 0..ASKED) };
        let answer = replica.api.filter(patient(request)).await.expect("an answer").into_inner();
        let unread: Vec<u32> =
            (0..ASKED).filter(|item| !is_read(*user, *item)).map(|item| item as u32).collect();
        assert_eq!(sound(&answer), unread, "user {user}");
    }
    replica.counted(HITS, "") - before
}

/// What MariaDB has counted and kept about the histories.
struct Counts<'a>(&'a Place);

impl Counts<'_> {
    /// Rows of histories that were read.
    fn rows(&self) -> u64 {
        let sum = format!(
            "SELECT COALESCE(SUM(ROWS_READ), 0) FROM INFORMATION_SCHEMA.TABLE_STATISTICS \
             WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME LIKE 'history\\_%'",
            self.0.database
        );
        self.0.sql(&sum).trim().parse().expect("a number")
    }

    /// Forgets what the server was told.
    fn forget_statements(&self) {
        self.0.sql("TRUNCATE mysql.general_log");
    }

    /// What was asked of histories about users since.
    fn about_users(&self) -> Vec<String> {
        let told = "SELECT argument FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') \
                    AND argument LIKE '%history\\_%WHERE%user\\_id%' \
                    AND argument NOT LIKE '%general\\_log%'";
        self.0.sql(told).lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_up_reads_no_storage() {
    let Some(server) = counting() else { return };
    // It ends with the process, as the other tests' servers do.
    let server: &'static Server = Box::leak(Box::new(server));
    let place = super::servers::on(server).migrated();
    let folder = tempfile::tempdir().expect("a folder");
    let flags = place.flags();
    let (map, links) = map_of_two(folder.path(), &flags);
    let counts = Counts(&place);

    let mut first = Replica::start(&flags, &map, links[0]).await;
    let mut tokens = BTreeMap::new();
    for user in 0..USERS {
        let items = (0..ASKED).filter(|item| is_read(user, *item));
        let marked = first.api.mark(patient(mark(user, READ, items))).await.expect("marked");
        tokens.insert(user, marked.into_inner().token);
    }
    // It asks storage until the users are built, and its fences have come back.
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let mut hits = 0;
    for _ in 0..LOOKS_MAX {
        looks.tick().await;
        hits = ask_all(&mut first, &tokens).await;
        if hits == USERS {
            break;
        }
    }
    assert_eq!(hits, USERS, "all entries are built in the end");
    let of_builds = counts.rows();
    assert!(of_builds >= USERS * (ASKED / 7), "{of_builds}: the server counts what builds read");

    counts.forget_statements();
    let mut second = Replica::start(&flags, &map, links[1]).await;
    assert_eq!(second.counted(WARMED, "installed"), USERS);
    // As often as it is asked: what the donor's entries contained covers the tokens of the marks at the first one.
    for _ in 0..3 {
        assert_eq!(ask_all(&mut second, &tokens).await, USERS);
    }
    assert!(counts.rows() <= of_builds + HISTORIES, "{} after {of_builds}", counts.rows());
    assert_eq!(counts.about_users(), [""; 0]);

    // Whom nobody gave is asked for in storage, which both counters tell as well.
    place.sql(&format!("INSERT INTO history_feed_read VALUES ({STRANGER}, 1, 3, 5)"));
    counts.forget_statements();
    let before = counts.rows();
    let asked = second.api.filter(patient(filter(STRANGER, &[READ], [3, 4]))).await;
    assert_eq!(sound(&asked.expect("an answer").into_inner()), [1]);
    assert!(counts.rows() > before && !counts.about_users().is_empty(), "{before} rows before");
}
