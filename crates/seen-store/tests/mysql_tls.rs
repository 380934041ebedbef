//! Encrypted connections, of the store and of its change feed alike: what is trusted, what is refused and
//! how that is told, and that no password is ever shown.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use seen_filter::history::{Question, Write, WriteOp};
use seen_filter::{
    ChangeFeed, FeedEvent, FeedStart, History, Item, NamespaceId, NamespaceSettings, StoreError,
    UserId,
};
use seen_store::mysql::{
    ClientIdentity, Login, Name, PasswordSource, ServerAddress, ShardServers, Tls,
};
use seen_store::{BinlogFeed, MySqlOptions, MySqlStore};
use seen_testbed::{MariaDb, Mysql, Server, or_skip};
use tempfile::TempDir;

const NS: NamespaceId = NamespaceId::new(0);
/// How long anything awaited may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Never to be seen anywhere.
const PASSWORD: &str = "kn0wn-t0-n0body";
/// Tells a child of this program where the server is.
const CHILD_PORT: &str = "SEEN_TLS_CHILD_PORT";

/// An authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

/// Certificates in a folder of their own.
struct Papers {
    folder: TempDir,
    right: Authority,
    wrong: Authority,
}

impl Papers {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let right = Authority::new(folder.path(), "right");
        let wrong = Authority::new(folder.path(), "wrong");
        Self { folder, right, wrong }
    }

    /// A certificate for these names and its key, signed by the right authority.
    fn signed(&self, file: &str, names: &[&str]) -> ClientIdentity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, file);
        let signed = params.signed_by(&key, &self.right.issuer).expect("signed");
        let identity = ClientIdentity {
            certificate: self.folder.path().join(format!("{file}.pem")),
            key: self.folder.path().join(format!("{file}.key")),
        };
        std::fs::write(&identity.certificate, signed.pem()).expect("written");
        std::fs::write(&identity.key, key.serialize_pem()).expect("written");
        identity
    }

    /// What a server is told to have a certificate for these names.
    fn arguments(&self, names: &[&str]) -> Vec<String> {
        let ClientIdentity { certificate, key } = self.signed("server", names);
        let of = |name: &str, path: &Path| format!("--{name}={}", path.display());
        vec![of("ssl-cert", &certificate), of("ssl-key", &key), of("ssl-ca", &self.right.file)]
    }

    fn mariadb(&self, names: &[&str]) -> MariaDb {
        let arguments = self.arguments(names);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        MariaDb::builder().arguments(&arguments).start().expect("a MariaDB")
    }

    fn mysql(&self, names: &[&str]) -> Option<Mysql> {
        let arguments = self.arguments(names);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        or_skip(Mysql::start_with(&arguments))
    }
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = folder.join(format!("{name}-ca.pem"));
        std::fs::write(&file, params.self_signed(&key).expect("signed").pem()).expect("written");
        Self { issuer: Issuer::new(params, key), file }
    }
}

/// Everything that is logged, at every level, by whichever library.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        LOG.lock().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        let all = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
        all.with_ansi(false).with_writer(|| Log).init();
    });
}

/// Makes the database, and a user whom the server lets in only as `requires` says.
fn prepare(server: &Server, requires: &str) {
    server
        .sql(&format!(
            "CREATE DATABASE seen; CREATE USER seen@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE {requires}; \
             GRANT ALL PRIVILEGES ON *.* TO seen@'%';"
        ))
        .expect("prepared");
}

fn required(ca: &Path) -> Tls {
    Tls::Required { ca: Some(ca.to_owned()), identity: None }
}

fn login(tls: Tls) -> Login {
    let password = PasswordSource::Text(PASSWORD.to_owned());
    Login { user: "seen".to_owned(), password, tls }
}

fn options(port: u16, tls: Tls) -> MySqlOptions {
    MySqlOptions {
        login: login(tls),
        shards: vec![ShardServers {
            database: Name::new("database", "seen").expect("a name"),
            candidates: vec![ServerAddress { host: "127.0.0.1".to_owned(), port }],
            witnesses: Vec::new(),
        }],
        connect_timeout_ms: 5_000,
        check_timeout_ms: 20_000,
        page_timeout_ms: 20_000,
        ..MySqlOptions::default()
    }
}

fn settings() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "reads")]
}

async fn opened(options: &MySqlOptions) -> Arc<MySqlStore> {
    listen();
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    MySqlStore::open(options.clone(), settings()).await.expect("a store")
}

/// Why a store does not open; quickly, since nothing would change.
async fn refused(port: u16, tls: Tls) -> StoreError {
    listen();
    let options = MySqlOptions { connect_timeout_ms: 1_000, ..options(port, tls) };
    let opened = MySqlStore::open(options, settings()).await;
    let error = opened.err().expect("it opened");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    error
}

/// Why the feed of a store does not begin with another login.
async fn feed_refused(store: &MySqlStore, tls: Tls) -> String {
    let mut how = store.binlog_options().expect("a log");
    how.login = login(tls);
    let feed = BinlogFeed::new(how).expect("a feed");
    let first = feed.feeds()[0];
    let error = feed.open(first, FeedStart::Head).await.err().expect("it was opened");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    error.message
}

/// A mark is written, found, and told by the feed.
async fn all_works(store: &MySqlStore, user: u64) {
    let feed = BinlogFeed::new(store.binlog_options().expect("a log")).expect("a feed");
    let mut reader = feed.open(feed.feeds()[0], FeedStart::Head).await.expect("followed");
    let (user, item) = (UserId::new(user), Item::new(1, 42));
    let mark = Write { namespace: NS, user, op: WriteOp::Append, items: vec![(item, None)] };
    store.write(vec![mark]).await.expect("a mark");
    let question = Question { user, items: vec![item, Item::new(1, 43)] };
    let answers = store.check(NS, vec![question]).await.expect("an answer");
    assert_eq!(answers.found, [[true, false]]);
    let told = async {
        loop {
            let batch = reader.next(100).await.expect("the feed goes on");
            let is_it =
                |event: &FeedEvent| matches!(event, FeedEvent::Add { user: of, .. } if *of == user);
            if batch.events.iter().any(is_it) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, told).await.expect("the feed tells");
    feed.close();
}

/// Everything about one server whose certificate is in order. Its user gets in only by TLS.
async fn encrypted(papers: &Papers, server: &Server) {
    prepare(server, "SSL");
    let right = required(&papers.right.file);
    let store = opened(&options(server.port(), right)).await;
    all_works(&store, 1).await;
    let plain = refused(server.port(), Tls::Off).await;
    assert!(plain.message.contains("Access denied"), "the user gets in without TLS: {plain}");

    let wrong = required(&papers.wrong.file);
    let said = refused(server.port(), wrong.clone()).await.message;
    assert!(said.contains("set mysql.tls_ca"), "{said}");
    let said = feed_refused(&store, wrong).await;
    assert!(said.contains("set mysql.tls_ca"), "{said}");
    // The system does not know this authority either.
    let system = Tls::Required { ca: None, identity: None };
    let said = refused(server.port(), system.clone()).await.message;
    assert!(said.contains("set mysql.tls_ca"), "{said}");
    let said = feed_refused(&store, system).await;
    assert!(said.contains("set mysql.tls_ca"), "{said}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_spoken_to_by_tls() {
    let papers = Papers::new();
    let server = papers.mariadb(&["localhost", "127.0.0.1"]);
    encrypted(&papers, &server).await;
    as_the_system_trusts(&papers, &server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_is_spoken_to_by_tls() {
    let papers = Papers::new();
    if let Some(server) = papers.mysql(&["localhost", "127.0.0.1"]) {
        encrypted(&papers, &server).await;
    }
}

/// Where the configuration names no authority, store and feed both trust the system's: here those of a
/// file that a child of this program is told of, since they are the process's.
fn as_the_system_trusts(papers: &Papers, server: &Server) {
    let program = std::env::current_exe().expect("this program");
    let ended = Command::new(program)
        .args(["--exact", "trusted_by_the_system", "--nocapture"])
        .env(CHILD_PORT, server.port().to_string())
        .env("SSL_CERT_FILE", &papers.right.file)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("trusted and told"), "the child did nothing: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_by_the_system() {
    // Has work only as a child of another test, which looks for what is printed.
    let Ok(port) = std::env::var(CHILD_PORT) else { return };
    let port = port.parse().expect("a port");
    let store = opened(&options(port, Tls::Required { ca: None, identity: None })).await;
    all_works(&store, 2).await;
    store.close().await;
    let mut out = std::io::stdout();
    writeln!(out, "trusted and told").expect("printed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name_is_refused() {
    let papers = Papers::new();
    let server = papers.mariadb(&["db.example"]);
    prepare(&server, "NONE");
    let store = opened(&options(server.port(), Tls::Off)).await;
    let right = required(&papers.right.file);
    for said in
        [refused(server.port(), right.clone()).await.message, feed_refused(&store, right).await]
    {
        assert!(said.contains("for another name: write mysql.servers"), "{said}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused() {
    let papers = Papers::new();
    let server = MariaDb::start().expect("a MariaDB");
    prepare(&server, "NONE");
    let store = opened(&options(server.port(), Tls::Off)).await;
    let right = required(&papers.right.file);
    for said in
        [refused(server.port(), right.clone()).await.message, feed_refused(&store, right).await]
    {
        assert!(said.contains("TLS switched off: give it a certificate"), "{said}");
    }
    store.close().await;
}

/// A user whom the server lets in only with a certificate.
async fn both_show_one(papers: &Papers, server: &Server) {
    prepare(server, "X509");
    let with = |identity| Tls::Required { ca: Some(papers.right.file.clone()), identity };
    let mine = papers.signed("client", &["seen"]);
    let store = opened(&options(server.port(), with(Some(mine.clone())))).await;
    all_works(&store, 1).await;
    let without =
        [refused(server.port(), with(None)).await.message, feed_refused(&store, with(None)).await];
    assert!(without.iter().all(|said| said.contains("Access denied")), "{without:?}");
    let swapped = ClientIdentity { key: papers.signed("other", &["seen"]).key, ..mine };
    let swapped = with(Some(swapped));
    for said in
        [refused(server.port(), swapped.clone()).await.message, feed_refused(&store, swapped).await]
    {
        assert!(said.contains("mysql.tls_key is not the key of mysql.tls_cert"), "{said}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_may_ask_for_a_certificate() {
    let papers = Papers::new();
    both_show_one(&papers, &papers.mariadb(&["127.0.0.1"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_may_ask_for_a_certificate() {
    let papers = Papers::new();
    if let Some(server) = papers.mysql(&["127.0.0.1"]) {
        both_show_one(&papers, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_certificates_are_named() {
    let papers = Papers::new();
    let server = papers.mariadb(&["127.0.0.1"]);
    prepare(&server, "NONE");
    let mine = papers.signed("client", &["seen"]);
    let missing = papers.folder.path().join("missing.pem");
    let ca = Some(papers.right.file.clone());
    let keyless = ClientIdentity { key: mine.certificate.clone(), ..mine.clone() };
    let bare = ClientIdentity { certificate: missing.clone(), ..mine.clone() };
    for (tls, option, named) in [
        (required(&missing), "mysql.tls_ca", &missing),
        (required(&mine.key), "mysql.tls_ca", &mine.key),
        (Tls::Required { ca: ca.clone(), identity: Some(bare) }, "mysql.tls_cert", &missing),
        (Tls::Required { ca, identity: Some(keyless) }, "mysql.tls_key", &mine.certificate),
    ] {
        let said = refused(server.port(), tls).await.message;
        assert!(said.contains(&format!("{option} = {}", named.display())), "{said}");
    }
}

/// With everything that any library logs listened to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_is_shown() {
    let papers = Papers::new();
    let server = papers.mariadb(&["127.0.0.1"]);
    prepare(&server, "SSL");
    let right = required(&papers.right.file);
    let store = opened(&options(server.port(), right.clone())).await;
    all_works(&store, 1).await;
    // A wrong one is not shown either.
    let wrong = PasswordSource::Text(format!("{PASSWORD}?"));
    let mut stranger = options(server.port(), right.clone());
    stranger.login.password = wrong.clone();
    stranger.connect_timeout_ms = 1_000;
    let opened = MySqlStore::open(stranger, settings()).await;
    let mut how = store.binlog_options().expect("a log");
    how.login.password = wrong;
    let feed = BinlogFeed::new(how).expect("a feed");
    let followed = feed.open(feed.feeds()[0], FeedStart::Head).await;
    let denied = [
        format!("{:?}", opened.err().expect("it opened")),
        format!("{:?}", followed.err().expect("it was followed")),
    ];
    assert!(denied.iter().all(|said| said.contains("Access denied")), "{denied:?}");
    let shown = format!(
        "{:?} {:?} {:?} {denied:?}",
        options(server.port(), right),
        store.binlog_options(),
        store.status()
    );
    assert!(!shown.contains(PASSWORD), "{shown}");
    store.close().await;
    let log = String::from_utf8_lossy(&LOG.lock()).into_owned();
    assert!(log.contains("found the primary"), "nothing was listened to");
    assert!(!log.contains(PASSWORD), "the password is in the log");
}
