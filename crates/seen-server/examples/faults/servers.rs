//! The servers behind the cluster on MariaDB: a primary, a replica that may take its place, a witness, Kafka and Debezium; and what is done
//! to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seen_server::cli::drill::{Act, BigUser, Stage};
use seen_testbed::{Debezium, Kafka, MariaDb, Record, TcpProxy};

use super::toxiproxy::Toxiproxy;

pub type Failed = Box<dyn std::error::Error>;

const TOPIC: &str = "seen";
const PARTITIONS: usize = 4;
const TABLES: [&str; 3] = ["seen.history_feed_read", "seen.history_push_sent", "seen.seen_control"];
pub const USER: &str = "seen";
pub const PASSWORD: &str = "private";
/// Nothing is acknowledged that the replica has not got: else a failover may lose it.
const PRIMARY: [&str; 4] = [
    "--gtid-domain-id=1",
    "--rpl-semi-sync-master-enabled=ON",
    "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    // Until there is a replica.
    "--rpl-semi-sync-master-timeout=10",
];
const REPLICA: &str = "--rpl-semi-sync-slave-enabled=ON";
/// The same of a server that is promoted, once it has a replica itself.
const FOLLOWED: &str = "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'; \
                        SET GLOBAL rpl_semi_sync_master_timeout = 60000; \
                        SET GLOBAL rpl_semi_sync_master_enabled = ON";
/// Users of whom each has so many rows, and their first number.
const BIG_USERS: u64 = 3;
pub const BIG_ITEMS: u64 = 500_000;
pub const BIG_FROM: u64 = 900_000_000_000;
/// Records that nobody can read, in each partition.
const POISON: u64 = 10;
/// How long a promoted replica may take to apply what it has.
const APPLIES_WITHIN: Duration = Duration::from_secs(60);
/// What fills the disk.
const FILLER: &str = "filler";

/// The servers.
pub struct Servers {
    kafka: Kafka,
    pair: Mutex<Pair>,
    _witness: MariaDb,
    debezium: Debezium,
    /// Debezium's way to whoever is the primary.
    feed_way: TcpProxy,
    /// The cluster's ways to all three.
    toxiproxy: Toxiproxy,
    big_users: AtomicU64,
}

/// Who takes the writes, and who may take its place.
struct Pair {
    primary: MariaDb,
    /// None once it was promoted, until another one is needed.
    replica: Option<MariaDb>,
    /// The first primary's small disk of its own, where there is one.
    disk: Option<PathBuf>,
    /// How often a replica was promoted.
    promoted: u32,
}

impl Servers {
    /// Starts them, with the tables of `seen` made. The configuration of the parts is written to `config`.
    pub fn start(
        seen: &Path,
        toxiproxy: &Path,
        config: &Path,
        disk: Option<PathBuf>,
    ) -> Result<Self, Failed> {
        let kafka = Kafka::start()?;
        kafka.create_topic(TOPIC, PARTITIONS, &[])?;
        let mut primary = MariaDb::builder().arguments(&PRIMARY);
        if let Some(disk) = &disk {
            primary = primary.data_folder(disk.join("data"));
        }
        let primary = primary.start()?;
        let witness = MariaDb::builder().server_id(9).start()?;
        primary.create_user(USER, PASSWORD)?;
        witness.create_user(USER, PASSWORD)?;
        primary.sql("CREATE DATABASE seen")?;
        let replica = replica_of(&primary, 0)?;
        let toxiproxy =
            Toxiproxy::start(toxiproxy, &[primary.port(), replica.port(), witness.port()])?;
        fs::write(config, configuration(&toxiproxy.ports, &kafka.bootstrap()))?;
        migrated(seen, config)?;
        for number in 0..BIG_USERS {
            // Nobody has heard of these users: the feed need not carry their rows.
            let user = BIG_FROM + number;
            long_history(&primary, user)?;
        }
        primary.sql("SET GLOBAL rpl_semi_sync_master_timeout = 60000")?;
        let feed_way = TcpProxy::to(primary.port())?;
        let debezium = Debezium::builder(&kafka, feed_way.port()).tables(&TABLES).key("user_id");
        let debezium = debezium.into_topic(TOPIC).snapshot("no_data");
        let debezium = debezium.property("skipped.operations", "none").start()?;
        let pair = Mutex::new(Pair { primary, replica: Some(replica), disk, promoted: 0 });
        Ok(Self {
            kafka,
            pair,
            _witness: witness,
            debezium,
            feed_way,
            toxiproxy,
            big_users: AtomicU64::new(0),
        })
    }

    fn pair(&self) -> MutexGuard<'_, Pair> {
        self.pair.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poison(&self) -> Result<(), Failed> {
        for partition in 0..PARTITIONS as i32 {
            let key = |n: u64| match n % 2 {
                0 => format!("{{\"user_id\":{n}}}"),
                _ => "neither JSON nor anything".to_owned(),
            };
            let records: Vec<Record> =
                (0..POISON).map(|n| Record::new(&key(n), "{\"op\":\"c\",\"after\":")).collect();
            self.kafka.send(TOPIC, partition, &records)?;
        }
        Ok(())
    }

    fn forget(&self) -> Result<(), Failed> {
        for partition in 0..PARTITIONS as i32 {
            let end = self.kafka.offsets(TOPIC, partition)?.end;
            self.kafka.delete_records(TOPIC, partition, end)?;
        }
        Ok(())
    }

    /// Somebody is there to take the primary's place, and has all that is acknowledged from now on.
    fn followed(&self) -> Result<(), Failed> {
        let mut pair = self.pair();
        if pair.replica.is_none() {
            let replica = replica_of(&pair.primary, pair.promoted)?;
            // Where the lost one was.
            self.toxiproxy.lead(pair.replica_at(), replica.port())?;
            pair.primary.sql(FOLLOWED)?;
            pair.replica = Some(replica);
        }
        Ok(())
    }

    /// The primary is gone for good. The replica applies what it was sent, and is the primary then.
    fn promote(&self) -> Result<(), Failed> {
        let mut pair = self.pair();
        let replica = pair.replica.take().ok_or("there is no replica")?;
        let applied = seen_testbed::until(APPLIES_WITHIN, || {
            let state = replica.sql("SHOW SLAVE STATUS").ok()?;
            let applied = replica.sql("SELECT @@gtid_slave_pos").ok()?;
            let parts = |text: &str| -> BTreeSet<String> {
                text.split([',', '\t', '\n']).map(str::to_owned).collect()
            };
            parts(applied.trim()).is_subset(&parts(&state)).then_some(())
        });
        applied.ok_or("the replica did not apply what it was sent")?;
        replica.promote()?;
        self.feed_way.cut();
        self.feed_way.retarget(replica.port());
        self.feed_way.heal();
        pair.primary = replica;
        pair.disk = None;
        pair.promoted += 1;
        drop(pair);
        self.debezium.restart()?;
        Ok(())
    }

    fn begun(&self, act: Act) -> Result<(), Failed> {
        match act {
            Act::StorageFrozen => self.pair().primary.freeze()?,
            Act::StorageKilled => self.pair().primary.kill_9()?,
            Act::StorageFailover => {
                self.followed()?;
                self.pair().primary.kill_9()?;
            }
            Act::StorageReadOnly => self.pair().primary.set_read_only(true)?,
            Act::StorageDiskFull => self.pair().fill_disk()?,
            Act::KafkaDown => self.kafka.stop()?,
            Act::KafkaFrozen => self.kafka.freeze()?,
            Act::KafkaForgets => self.forget()?,
            Act::KafkaPoison => self.poison()?,
            of_the_network => self.toxiproxy.begin(of_the_network)?,
        }
        Ok(())
    }

    fn healed(&self, act: Act) -> Result<(), Failed> {
        match act {
            Act::StorageFrozen => self.pair().primary.thaw()?,
            Act::StorageKilled => {
                self.pair().primary.restart()?;
                // Its way was lost meanwhile, which ends Debezium's task.
                self.debezium.restart()?;
            }
            Act::StorageFailover => self.promote()?,
            Act::StorageReadOnly => self.pair().primary.set_read_only(false)?,
            Act::StorageDiskFull => {
                // Its log is damaged for good where it broke off amid an event: neither its replica nor Debezium comes past that.
                self.pair().primary.kill_9()?;
                self.promote()?;
            }
            Act::KafkaDown => self.kafka.restart()?,
            Act::KafkaFrozen => self.kafka.thaw()?,
            Act::KafkaForgets | Act::KafkaPoison => {}
            of_the_network => self.toxiproxy.heal(of_the_network)?,
        }
        Ok(())
    }
}

impl Pair {
    /// Which of the cluster's ways leads, or has led, to the replica: the two take turns.
    fn replica_at(&self) -> usize {
        1 - (self.promoted % 2) as usize
    }

    fn fill_disk(&self) -> Result<(), String> {
        let disk = self.disk.as_ref().ok_or("the primary has no disk of its own")?;
        // It ends when there is no room left.
        let _full = Command::new("dd")
            .args(["if=/dev/zero", "bs=64K", "status=none"])
            .arg(format!("of={}", disk.join(FILLER).display()))
            .stderr(std::process::Stdio::null())
            .status();
        Ok(())
    }
}

/// A semi-synchronous replica, with a GTID domain of its own: MariaDB tells of each domain only the last number and whose that
/// is, and Debezium starts nowhere but in what it is told of. In the same domain its place is lost with the promoted
/// server's first commit.
fn replica_of(primary: &MariaDb, promoted: u32) -> Result<MariaDb, Failed> {
    let domain = format!("--gtid-domain-id={}", promoted + 2);
    Ok(MariaDb::builder().replica_of(primary).arguments(&[REPLICA, &domain]).start()?)
}

impl Stage for Servers {
    fn begin(&self, act: Act) -> Result<(), String> {
        self.begun(act).map_err(|error| error.to_string())
    }

    fn heal(&self, act: Act) -> Result<(), String> {
        self.healed(act).map_err(|error| error.to_string())
    }

    fn storage_ports(&self) -> Vec<u16> {
        self.toxiproxy.ports.clone()
    }

    fn way_to(&self, port: u16) -> Option<u16> {
        // Without one its faults are "not done".
        self.toxiproxy.lead_to_link(port).ok()
    }

    fn big_user(&self) -> Option<BigUser> {
        if self.pair().promoted > 0 {
            // They were on the first primary alone.
            return None;
        }
        let number = self.big_users.fetch_add(1, Ordering::Relaxed);
        (number < BIG_USERS).then_some(BigUser { user: BIG_FROM + number, items: BIG_ITEMS })
    }

    fn tell(&self) -> String {
        let pair = self.pair();
        let version = pair.primary.sql("SELECT VERSION()").unwrap_or_default();
        let disk = match pair.disk {
            Some(_) => "whose files lie in memory (tmpfs)",
            None => "whose files lie on the disk",
        };
        format!(
            "MariaDB {} {disk}, with a semi-synchronous replica and a witness, behind toxiproxy; Debezium and one Kafka broker, \
             {PARTITIONS} partitions",
            version.trim()
        )
    }
}

fn configuration(sql: &[u16], brokers: &str) -> String {
    let address = |at: usize| format!("127.0.0.1:{}", sql.get(at).copied().unwrap_or_default());
    format!(
        "[storage]\nkind = \"mysql\"\n\n[mysql]\nservers = \"{},{}\"\nwitnesses = \"{}\"\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\nfeed = \"kafka\"\n\n[kafka]\nbrokers = \"{brokers}\"\ntopic = \"{TOPIC}\"\n\
         partitions = {PARTITIONS}\n",
        address(0),
        address(1),
        address(2),
    )
}

/// Has `seen` make its tables.
pub fn migrated(seen: &Path, config: &Path) -> Result<(), Failed> {
    let migrated = Command::new(seen).arg("migrate").env("SEEN_CONFIG", config).output();
    let migrated = migrated.map_err(|error| format!("cannot run {}: {error}", seen.display()))?;
    match migrated.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&migrated.stderr).into_owned().into()),
    }
}

/// A user with a long history, which is in the primary's tables and in no log.
fn long_history(primary: &MariaDb, user: u64) -> Result<(), Failed> {
    primary.sql(&format!(
        "SET sql_log_bin = 0; INSERT INTO seen.history_feed_read SELECT {user}, 1, seq, 0 FROM seen.seq_1_to_{BIG_ITEMS}"
    ))?;
    Ok(())
}
