//! A whole chain to look at: a private MariaDB, Debezium and Kafka, and two replicas that follow it.
//!
//! ```sh
//! scripts/feed-tools && cargo build --release --bin seen
//! cargo run -p seen-testbed --example with_chain -- target/release/seen [-- COMMAND...]
//! ```
//!
//! It says how to insert a row by hand and how to ask both replicas, and lasts until its input ends or
//! Ctrl-C. With a command it lasts as long as that, which finds in its environment `SEEN_REPLICA_1` and
//! `SEEN_REPLICA_2` (what `seen filter --server` takes), `SEEN_SQL_PORT` (user root, no password,
//! database seen) and `SEEN_CONFIG`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use seen_testbed::{Debezium, Kafka, MariaDb};

type Failed = Box<dyn std::error::Error>;

const TOPIC: &str = "seen";
const PARTITIONS: usize = 4;
const TABLES: [&str; 3] = ["seen.history_feed_read", "seen.history_push_sent", "seen.seen_control"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = arguments.splitn(2, |argument| argument == "--");
    let (Some([seen]), command) = (parts.next(), parts.next().unwrap_or_default()) else {
        eprintln!("usage: with_chain PATH/TO/seen [-- COMMAND...]");
        return ExitCode::from(2);
    };
    match run(Path::new(seen), command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(seen: &Path, command: &[String]) -> Result<ExitCode, Failed> {
    eprintln!("starting MariaDB, Kafka and Debezium ...");
    let kafka = Kafka::start()?;
    kafka.create_topic(TOPIC, PARTITIONS, &[])?;
    let database = MariaDb::start()?;
    database.sql("CREATE DATABASE seen")?;
    let config = database.folder().join("seen.toml");
    let text = format!(
        "[storage]\nkind = \"mysql\"\n\n[mysql]\nservers = \"127.0.0.1:{}\"\nuser = \"root\"\n\
         feed = \"kafka\"\n\n[kafka]\nbrokers = \"{}\"\ntopic = \"{TOPIC}\"\n",
        database.port(),
        kafka.bootstrap(),
    );
    std::fs::write(&config, text)?;
    let migrated = Command::new(seen).arg("migrate").env("SEEN_CONFIG", &config).output();
    let migrated = migrated.map_err(|error| format!("cannot run {}: {error}", seen.display()))?;
    if !migrated.status.success() {
        return Err(String::from_utf8_lossy(&migrated.stderr).into_owned().into());
    }
    let feed = Debezium::builder(&kafka, database.port()).tables(&TABLES).key("user_id");
    let feed = feed.into_topic(TOPIC).snapshot("no_data");
    let _debezium = feed.property("skipped.operations", "none").start()?;
    let replicas = [Replica::start(seen, &config)?, Replica::start(seen, &config)?];
    let urls = replicas.each_ref().map(|replica| replica.url.clone());
    if let [program, rest @ ..] = command {
        let mut child = Command::new(program);
        child.args(rest).env("SEEN_CONFIG", &config);
        child.env("SEEN_SQL_PORT", database.port().to_string());
        child.env("SEEN_REPLICA_1", &urls[0]).env("SEEN_REPLICA_2", &urls[1]);
        let status = child.status().map_err(|error| format!("cannot run {program}: {error}"))?;
        return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)));
    }
    let seen = seen.display();
    eprintln!(
        "\nInsert a row by hand:\n  mariadb --no-defaults -h 127.0.0.1 -P {} -u root seen -e \\\n    \
         \"INSERT INTO history_feed_read VALUES (42, 1, 1001, 0)\"\n\nAsk both replicas about it:\n  \
         {seen} filter --server {} --user 42 --kind 1 1001 1002\n  \
         {seen} filter --server {} --user 42 --kind 1 1001 1002\n\nThe configuration: {}\n\
         Ctrl-C, or the end of the input, ends everything.",
        database.port(),
        urls[0],
        urls[1],
        config.display(),
    );
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(ExitCode::SUCCESS)
}

/// One `seen serve`, killed with the example.
struct Replica {
    child: Child,
    url: String,
}

impl Replica {
    fn start(seen: &Path, config: &Path) -> Result<Self, Failed> {
        // Free now, and below the ports that the system hands out by itself.
        let ports: Vec<u16> = (20_000..32_000)
            .step_by(7)
            .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .take(3)
            .collect();
        let [api, admin, http] = ports[..] else { return Err("no free port".into()) };
        let mut command = Command::new(seen);
        command.arg("serve").env("SEEN_CONFIG", config);
        for (key, port) in [("listen", api), ("admin_listen", admin), ("http_listen", http)] {
            command.args(["--set", &format!("server.{key}=127.0.0.1:{port}")]);
        }
        let child = command.spawn()?;
        let replica = Self { child, url: format!("http://127.0.0.1:{api}") };
        seen_testbed::until(std::time::Duration::from_secs(60), || {
            std::net::TcpStream::connect(("127.0.0.1", api)).ok()
        })
        .ok_or("a replica did not start within 60 s")?;
        Ok(replica)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
