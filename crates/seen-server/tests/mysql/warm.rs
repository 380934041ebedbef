//! A starting replica takes its users from its peer and reads no storage for it, by the server's own counters.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use seen_proto::v1;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_testbed::{MariaDb, Server, or_skip};
use tonic::transport::Channel;

use super::ask::{READ, filter, mark, patient, sound};
use super::process::connect;
use super::servers::{Place, said};

const USERS: u64 = 300;
/// How often users are asked about until memory alone answers.
const LOOKS_MAX: usize = 300;
/// Items that a user is asked about; user `n` has read those whose remainder by 7 is `n`'s.
const ASKED: u64 = 40;
/// Histories of the default configuration: a start looks at one row of each, whether it is as it should be.
const HISTORIES: u64 = 2;
/// One whom nobody asked about before.
const STRANGER: u64 = 1 << 40;

/// Filters that memory alone answered, and what became of the users whom a peer gave.
const HITS: &str = "seen_filter_hits_total";
const WARMED: &str = "seen_warm_users_total";

/// A server that counts the rows that were read of each table, and keeps what it was told.
fn counting() -> Option<MariaDb> {
    let counts = ["--userstat=1", "--general-log=1", "--log-output=TABLE"];
    or_skip(MariaDb::builder().arguments(&counts).start())
}

fn is_read(user: u64, item: u64) -> bool {
    item % 7 == user % 7
}

/// A `seen replica` of slot 0. Killed when it is dropped.
struct Replica {
    child: Child,
    api: SeenServiceClient<Channel>,
    http: SocketAddr,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    /// Starts one, and waits until it is ready.
    async fn start(place: &Place, map: &Path, link: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seen"));
        command.arg("replica").args(place.flags()).env_remove("SEEN_CONFIG");
        for key in ["listen", "admin_listen", "http_listen"] {
            command.args(["--set", &format!("server.{key}=127.0.0.1:0")]);
        }
        // Samples of its answers are looked up in storage, and on a busy machine a process stands still.
        let settings = ["limits.seen_sample=0", "limits.unread_sample=0", "cluster.pause_max=60s"];
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.args(["--set", &format!("cluster.map={}", map.display())]);
        command.args(["--set", &format!("cluster.link_listen={link}")]);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        // It says so only once it is ready.
        let announced = tokio::task::spawn_blocking(move || {
            let mut told = String::new();
            loop {
                let from = told.len();
                assert!(stderr.read_line(&mut told).expect("UTF-8") > 0, "it ended: {told}");
                if let Some(line) = told[from..].strip_prefix("seen: replica on ") {
                    let line = line.to_owned();
                    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
                    return line;
                }
            }
        });
        let line = announced.await.expect("it starts");
        let (api, rest) = line.split_once(" (").expect("addresses");
        let http = rest.split_once("http ").expect("addresses").1.trim_end().trim_end_matches(')');
        let at = |address: &str| address.parse().expect("an address");
        Self { child, api: SeenServiceClient::new(connect(at(api)).await), http: at(http) }
    }

    /// A counter, of the lines that hold this. Status would count the rows of the histories, and so read them.
    fn counted(&self, name: &str, holds: &str) -> u64 {
        let mut stream = TcpStream::connect(self.http).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("asked");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("UTF-8");
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(holds));
        let counts = lines.map(|line| line.rsplit(' ').next().and_then(|count| count.parse().ok()));
        counts.map(|count: Option<u64>| count.expect("a number")).sum()
    }

    /// Asks about every user, and checks each answer. How many of them memory alone gave.
    async fn ask_all(&mut self, tokens: &BTreeMap<u64, Vec<u8>>) -> u64 {
        let before = self.counted(HITS, "");
        for (user, token) in tokens {
            let request =
                v1::FilterRequest { token: token.clone(), ..filter(*user, &[READ], 0..ASKED) };
            let answer = self.api.filter(patient(request)).await.expect("an answer").into_inner();
            let unread: Vec<u32> =
                (0..ASKED).filter(|item| !is_read(*user, *item)).map(|item| item as u32).collect();
            assert_eq!(sound(&answer), unread, "user {user}");
        }
        self.counted(HITS, "") - before
    }
}

/// Two ports that nobody listens on.
fn free_ports() -> [SocketAddr; 2] {
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("an address"))
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
    let map = folder.path().join("cluster.toml");
    let links = free_ports();
    let replicas = links.map(|link| ["--replica".to_owned(), format!("feed/0={link}")]).concat();
    let replicas: Vec<&str> = replicas.iter().map(String::as_str).collect();
    let made = place.seen("cluster", &[&["init"], replicas.as_slice()].concat());
    assert!(made.status.success(), "{}", said(&made));
    std::fs::write(&map, &made.stdout).expect("written");
    let counts = Counts(&place);

    let mut first = Replica::start(&place, &map, links[0]).await;
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
        hits = first.ask_all(&tokens).await;
        if hits == USERS {
            break;
        }
    }
    assert_eq!(hits, USERS, "all entries are built in the end");
    let of_builds = counts.rows();
    assert!(of_builds >= USERS * (ASKED / 7), "{of_builds}: the server counts what builds read");

    counts.forget_statements();
    let mut second = Replica::start(&place, &map, links[1]).await;
    assert_eq!(second.counted(WARMED, "installed"), USERS);
    // As often as it is asked: what the donor's entries contained covers the tokens of the marks at the first one.
    for _ in 0..3 {
        assert_eq!(second.ask_all(&tokens).await, USERS);
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
