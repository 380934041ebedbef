//! MariaDB, with a row binlog; primaries and replicas.

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::Error;
use crate::keeper::{Keeper, Launch};
use crate::server::{Kind, Server};
use crate::{program, template};

const NAME: &str = "MariaDB";
const HOW: &str = "Debian: apt-get install mariadb-server";
const HOW_ROCKSDB: &str = "Debian: apt-get install mariadb-plugin-rocksdb";
/// How long a replica may take to have everything, for the server.
const CATCH_UP_SECONDS: u32 = 60;

/// Small files and little memory, so that a copy and a start are fast. The template is made with
/// them too: another log size would be a conversion at each start.
const SMALL: [&str; 4] = [
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=8M",
    "--aria-pagecache-buffer-size=8M",
    "--key-buffer-size=8M",
];

/// What the servers of a production have: nothing acknowledged is lost, and the binlog carries whole
/// rows with their columns' names.
const SAFE: [&str; 10] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--gtid-strict-mode=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--sync-binlog=1",
    // What was given to io_uring may still be written when the process is gone. After a kill the next one, which begins
    // at once here, was seen to find its files damaged, and never was without it.
    "--innodb-use-native-aio=0",
];

/// A private MariaDB server. root needs no password on 127.0.0.1 and on the socket.
///
/// It is a [`Server`]: `port`, `sql`, `kill_9`, `restart`, `freeze` and so on are there.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
    server_id: u32,
    /// How many replicas took an id after this server's.
    replicas: AtomicU32,
    /// Kept over restarts, which set it again.
    read_only: Arc<AtomicBool>,
}

/// How a MariaDB is to be started.
#[derive(Debug, Default)]
#[must_use]
pub struct Builder<'a> {
    server_id: Option<u32>,
    arguments: Vec<String>,
    primary: Option<&'a MariaDb>,
    data_folder: Option<PathBuf>,
    rocksdb: bool,
}

impl<'a> Builder<'a> {
    /// The `server_id`: 1, or for a replica one that no other replica of its primary has.
    pub fn server_id(mut self, id: u32) -> Self {
        self.server_id = Some(id);
        self
    }

    /// One more argument for the server, after and so above the others.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// More arguments for the server.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Follows a primary by GTID from its beginning, is read-only and writes a binlog of what it
    /// applies. It has caught up when it starts.
    pub fn replica_of(mut self, primary: &'a MariaDb) -> Self {
        self.primary = Some(primary);
        self
    }

    /// Keeps the data there, also after the server is gone. What lies there already is used.
    pub fn data_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_folder = Some(folder.into());
        self
    }

    /// Loads the storage engine MyRocks: `ENGINE=ROCKSDB`.
    pub fn with_rocksdb(mut self) -> Self {
        self.rocksdb = true;
        self
    }

    /// Starts it, and returns when it answers.
    pub fn start(self) -> Result<MariaDb, Error> {
        let program = program::find("mariadbd", HOW)?;
        let keeper = Keeper::new("mariadb")?;
        let data = self.data_folder.unwrap_or_else(|| keeper.folder().join("data"));
        prepare(&program, &data)?;
        let server_id = self.server_id.unwrap_or_else(|| match self.primary {
            None => 1,
            Some(primary) => {
                primary.server_id + 1 + primary.replicas.fetch_add(1, Ordering::Relaxed)
            }
        });
        let read_only = Arc::new(AtomicBool::new(self.primary.is_some()));
        let mut arguments = arguments(keeper.folder(), &data);
        arguments.push(format!("--server-id={server_id}").into());
        if self.primary.is_some() {
            arguments.push("--log-slave-updates".into());
        }
        if self.rocksdb {
            arguments.push("--plugin-load-add=ha_rocksdb.so".into());
            // Without it a server whose engine cannot begin starts all the same, without its tables;
            // `loose`, for where there is no such plugin.
            arguments.push("--loose-rocksdb=FORCE".into());
            // The default takes a last record of which only a part was written for damage, and does not begin.
            arguments.push("--loose-rocksdb-wal-recovery-mode=0".into());
        }
        arguments.extend(self.arguments.into_iter().map(OsString::from));
        let kept = Arc::clone(&read_only);
        let launch = move |port: u16| {
            let mut arguments = arguments.clone();
            arguments.push(format!("--port={port}").into());
            if kept.load(Ordering::Relaxed) {
                arguments.push("--read-only=1".into());
            }
            Launch { program: program.clone(), arguments, environment: Vec::new() }
        };
        let kind = Kind { name: NAME, has_socket: true, launch: Box::new(launch) };
        let server = Server::start(keeper, kind)?;
        let started = MariaDb { server, server_id, replicas: AtomicU32::new(0), read_only };
        if self.rocksdb {
            started.check_rocksdb()?;
        }
        if let Some(primary) = self.primary {
            started.follow(primary)?;
        }
        Ok(started)
    }
}

fn arguments(folder: &Path, data: &Path) -> Vec<OsString> {
    let with = |name: &str, path: &Path| {
        let mut argument = OsString::from(name);
        argument.push(path);
        argument
    };
    let mut arguments = vec![
        "--no-defaults".into(),
        with("--datadir=", data),
        with("--tmpdir=", folder),
        with("--socket=", &folder.join("s")),
        with("--pid-file=", &folder.join("pid")),
    ];
    if program::is_root() {
        arguments.push("--user=root".into());
    }
    arguments.extend(SMALL.iter().chain(&SAFE).map(OsString::from));
    arguments
}

/// Makes a data folder, unless it is one.
fn prepare(program: &Path, data: &Path) -> Result<(), Error> {
    if data.join("mysql").is_dir() {
        return Ok(());
    }
    let version = template::version(Command::new(program).args(["--no-defaults", "--version"]))?;
    template::copy_to(data, &format!("mariadb-{version}"), |folder| {
        let install = program::find("mariadb-install-db", HOW)?;
        let mut command = Command::new(install);
        command.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
        command.args(["--skip-test-db", "--skip-name-resolve"]).args(SMALL);
        command.arg(format!("--datadir={}", folder.display()));
        if program::is_root() {
            command.arg("--user=root");
        }
        template::run(NAME, &mut command)
    })
}

impl MariaDb {
    /// Starts one with the defaults: see [`Builder`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// To start one in another way.
    pub fn builder<'a>() -> Builder<'a> {
        Builder::default()
    }

    /// Its `server_id`.
    pub fn server_id(&self) -> u32 {
        self.server_id
    }

    /// Makes a user who may do everything but write to a read-only server, which root can.
    ///
    /// On a primary: a replica gets the user from it.
    pub fn create_user(&self, name: &str, password: &str) -> Result<(), Error> {
        let user = self.server.make_user(name, password)?;
        self.sql(&format!("REVOKE SUPER, READ ONLY ADMIN ON *.* FROM {user}"))?;
        Ok(())
    }

    /// Follows a primary by GTID from where this server's own log ends, read-only. Returns when it
    /// has everything that the primary had. An old primary can so come back as a replica.
    pub fn follow(&self, primary: &MariaDb) -> Result<(), Error> {
        self.set_read_only(true)?;
        self.sql(&format!(
            "STOP ALL SLAVES;\n\
             SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_current_pos;\n\
             CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='root',\n\
               MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1;\n\
             START SLAVE;",
            primary.port()
        ))?;
        self.catch_up_with(primary)
    }

    /// Waits until this replica has applied everything that the primary has in its binlog now.
    pub fn catch_up_with(&self, primary: &MariaDb) -> Result<(), Error> {
        let position = primary.gtid_position()?;
        let wait = format!("SELECT MASTER_GTID_WAIT('{position}', {CATCH_UP_SECONDS})");
        if self.sql(&wait)?.trim() == "0" {
            return Ok(());
        }
        let status = self.sql("SHOW ALL SLAVES STATUS")?;
        let message = format!("the replica did not reach {position}; its status: {status}");
        Err(Error::Sql { statement: wait, message })
    }

    /// Where this server's binlog ends: `0-1-6`; empty before the first write.
    pub fn gtid_position(&self) -> Result<String, Error> {
        Ok(self.sql("SELECT @@GLOBAL.gtid_binlog_pos")?.trim().to_owned())
    }

    /// Makes a replica a primary: it forgets the one it followed, and takes writes.
    pub fn promote(&self) -> Result<(), Error> {
        self.sql("STOP ALL SLAVES; RESET SLAVE ALL;")?;
        self.set_read_only(false)
    }

    /// Refuses writes of everybody but root, or takes them again; also after a restart.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), Error> {
        self.sql(&format!("SET GLOBAL read_only = {}", u8::from(read_only)))?;
        self.read_only.store(read_only, Ordering::Relaxed);
        Ok(())
    }

    fn check_rocksdb(&self) -> Result<(), Error> {
        let engines = "SELECT COUNT(*) FROM information_schema.engines WHERE engine = 'ROCKSDB'";
        if self.sql(engines)?.trim() == "1" {
            return Ok(());
        }
        Err(Error::Missing { what: "ha_rocksdb.so".to_owned(), how: HOW_ROCKSDB.to_owned() })
    }
}

impl Deref for MariaDb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
