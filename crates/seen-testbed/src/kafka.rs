//! Kafka: one broker that is its own controller, from the jars that `scripts/feed-tools` fetches.

mod records;
mod topics;
mod wire;

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, While};
use crate::java::{Properties, Tool};
use crate::keeper::Keeper;
use crate::process::{Kind, Look, Process};
use crate::template;

pub use records::Record;

const NAME: &str = "Kafka";
/// What `scripts/feed-tools` calls it, and the version that its folder's name stands for.
pub(crate) const TARGET: &str = "debezium";
const VERSION: &str = "4.3.1";
/// What a topic has that nobody made.
const PARTITIONS: usize = 4;
/// Which of its ports is for whom.
const CLIENTS: usize = 0;
const SECURED_CLIENTS: usize = 1;
const CONTROLLER: usize = 2;
/// What the settings of the secured port begin with.
const SECURED: &str = "listener.name.secured";
/// In the data folder: who the broker is.
const IDENTITY: &str = "meta.properties";

/// What does not depend on where the broker runs. Everything has one replica, and nothing is forgotten
/// unless a topic is told to.
const SETTINGS: [(&str, &str); 20] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("auto.create.topics.enable", "true"),
    ("log.retention.ms", "-1"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    // After a crash the broker is not let in before its old session is over.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    ("log.cleaner.dedupe.buffer.size", "2097152"),
];

/// A private Kafka broker, with its data folder and port kept over restarts.
///
/// It is a [`Process`]: `port`, `stop`, `kill_9`, `restart`, `freeze` and so on are there.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
}

/// How a Kafka is to be started.
#[derive(Clone, Debug)]
#[must_use]
pub struct KafkaBuilder {
    settings: Properties,
    sasl: bool,
    tls: bool,
}

impl KafkaBuilder {
    /// How many partitions a topic has that nobody made: 4 unless told otherwise.
    pub fn partitions(self, partitions: usize) -> Self {
        self.setting("num.partitions", &partitions.to_string())
    }

    /// One more setting of the broker, above the others.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.set(name, value);
        self
    }

    /// Asks for this name and password, by SASL PLAIN, those who come by the
    /// [`secured_bootstrap`](Kafka::secured_bootstrap).
    pub fn sasl(mut self, user: &str, password: &str) -> Self {
        self.sasl = true;
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let login = format!("{module} required user_{user}=\"{password}\";");
        self.setting(&format!("{SECURED}.sasl.enabled.mechanisms"), "PLAIN")
            .setting(&format!("{SECURED}.plain.sasl.jaas.config"), &login)
    }

    /// Speaks TLS with those who come by the [`secured_bootstrap`](Kafka::secured_bootstrap). Both are
    /// PEM, the key in PKCS #8.
    pub fn tls(mut self, certificates: &str, key: &str) -> Self {
        self.tls = true;
        self.setting(&format!("{SECURED}.ssl.keystore.type"), "PEM")
            .setting(&format!("{SECURED}.ssl.keystore.certificate.chain"), certificates)
            .setting(&format!("{SECURED}.ssl.keystore.key"), key)
    }

    /// What is spoken on the secured port.
    fn secured_protocol(&self) -> &'static str {
        match (self.sasl, self.tls) {
            (false, false) => "PLAINTEXT",
            (true, false) => "SASL_PLAINTEXT",
            (false, true) => "SSL",
            (true, true) => "SASL_SSL",
        }
    }

    /// Starts it, and returns when it answers.
    pub fn start(self) -> Result<Kafka, Error> {
        let tool = Tool::find("kafka", TARGET)?;
        let keeper = Keeper::new("kafka")?;
        let folder = keeper.folder().to_owned();
        let tool = tool.with_log(&folder)?;
        let data = folder.join("data");
        prepare(&tool, &data)?;
        let cluster = identify(&data)?;
        let launch = move |ports: &[u16]| {
            let file = folder.join("server.properties");
            let mut settings = settings(ports, &data, self.secured_protocol());
            settings.extend(&self.settings);
            settings.write(&file)?;
            Ok(tool.launch("kafka.Kafka", [file]))
        };
        let kind = Kind {
            name: NAME,
            ports: 3,
            launch: Box::new(launch),
            look: Box::new(move |start| Ok(look(&start.ports, &cluster))),
        };
        Ok(Kafka { process: Process::start(keeper, kind)? })
    }
}

impl Kafka {
    /// Starts one with the defaults: see [`KafkaBuilder`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// To start one in another way.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder { settings: Properties::default(), sasl: false, tls: false }
            .partitions(PARTITIONS)
    }

    /// The address that clients are given: `127.0.0.1:12345`.
    pub fn bootstrap(&self) -> String {
        address(&self.ports(), CLIENTS)
    }

    /// The address for those who speak as [`KafkaBuilder::sasl`] and [`KafkaBuilder::tls`] have set.
    pub fn secured_bootstrap(&self) -> String {
        address(&self.ports(), SECURED_CLIENTS)
    }
}

impl Deref for Kafka {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

fn address(ports: &[u16], which: usize) -> String {
    format!("127.0.0.1:{}", ports.get(which).copied().unwrap_or_default())
}

fn settings(ports: &[u16], data: &Path, secured: &str) -> Properties {
    let mut settings: Properties = SETTINGS.into_iter().collect();
    let [plain, secured_at, controller] =
        [CLIENTS, SECURED_CLIENTS, CONTROLLER].map(|which| address(ports, which));
    let clients = format!("PLAINTEXT://{plain},SECURED://{secured_at}");
    settings.set("listeners", format!("{clients},CONTROLLER://{controller}"));
    settings.set("advertised.listeners", clients);
    settings.set("controller.quorum.voters", format!("1@{controller}"));
    let protocols = format!("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:{secured}");
    settings.set("listener.security.protocol.map", protocols);
    settings.set("log.dirs", data.display());
    settings
}

/// Makes a data folder.
fn prepare(tool: &Tool, data: &Path) -> Result<(), Error> {
    template::copy_to(data, &format!("kafka-{VERSION}"), |folder| {
        // The ports are no part of what is made.
        let file = folder.join("server.properties");
        settings(&[1, 2, 3], folder, "PLAINTEXT").write(&file)?;
        let arguments: [OsString; 5] =
            ["format".into(), "-t".into(), random_id().into(), "-c".into(), (&file).into()];
        let mut command = Command::new(tool.java());
        command.args(tool.arguments("kafka.tools.StorageTool", arguments));
        template::run(NAME, &mut command)?;
        fs::remove_file(&file).when(|| format!("remove {}", file.display()))
    })
}

/// Makes each copy a cluster of its own. Gives its id.
fn identify(data: &Path) -> Result<String, Error> {
    let file = data.join(IDENTITY);
    let what = || format!("change {}", file.display());
    let cluster = random_id();
    let old = fs::read_to_string(&file).when(what)?;
    let mut lines: Vec<String> =
        old.lines().filter(|line| !line.starts_with("cluster.id=")).map(str::to_owned).collect();
    lines.push(format!("cluster.id={cluster}\n"));
    fs::write(&file, lines.join("\n")).when(what)?;
    Ok(cluster)
}

/// 16 bytes as Kafka writes them: 22 letters, the last of which stands for two bits.
fn random_id() -> String {
    let drawn = RandomState::new();
    let digits = (0..21_u64).map(|at| {
        let digit = drawn.hash_one(at) % 32;
        char::from_digit(u32::try_from(digit).unwrap_or_default(), 32).unwrap_or('0')
    });
    digits.chain(['A']).collect()
}

/// Whether it is this broker that answers, and not somebody else on its port.
fn look(ports: &[u16], cluster: &str) -> Look {
    let port = ports.first().copied().unwrap_or_default();
    match topics::cluster_at(port) {
        Ok(Some(answered)) if answered == cluster => Look::Ready,
        Ok(Some(answered)) => Look::NotYet(Some(format!("the cluster {answered} answers"))),
        Ok(None) => Look::NotYet(Some("no broker yet".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Look::NotYet(None),
        Err(error) => Look::NotYet(Some(error.to_string())),
    }
}
