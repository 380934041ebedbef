//! MySQL, out of a folder of its own: `scripts/mysql` makes one from a newer Debian than this machine's.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{Error, While};
use crate::keeper::{Keeper, Launch};
use crate::port::Port;
use crate::server::{Kind, Server};
use crate::{cache, program, template, wait};

const NAME: &str = "MySQL";
const HOW: &str = "run scripts/mysql, which fetches it (about a minute, needs root and Debian)";
/// The folder with a Debian in which MySQL is installed, if not in the cache.
const PLACE: &str = "SEEN_MYSQL_ROOT";
/// Where `scripts/mysql` makes it.
const IN_CACHE: &str = "mysql-9";
/// How long a replica may take to have everything, for the server.
const CATCH_UP_SECONDS: u32 = 60;
/// The name of every private group: its members find each other by their ports alone.
const GROUP: &str = "5ee45ee4-5ee4-5ee4-5ee4-5ee45ee45ee4";

/// Small files and little memory; the template is made with them too.
const SMALL: [&str; 4] = [
    "--innodb-buffer-pool-size=64M",
    "--innodb-redo-log-capacity=16M",
    "--secure-file-priv=NULL",
    "--performance-schema=OFF",
];

/// Nothing acknowledged is lost, and the binlog carries whole rows with their columns' names.
const SAFE: [&str; 11] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--mysqlx=OFF",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--innodb-flush-log-at-trx-commit=1",
    "--sync-binlog=1",
];

/// Run while a template is made: over TCP, 127.0.0.1 is another host than localhost.
const ROOT_BY_TCP: &str = "CREATE USER root@'127.0.0.1';\n\
     GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n";

/// A private MySQL server. root needs no password on 127.0.0.1 and on the socket.
///
/// It is a [`Server`]: `port`, `sql`, `kill_9`, `restart`, `freeze` and so on are there.
#[derive(Debug)]
pub struct Mysql {
    server: Server,
    server_id: u32,
    /// How many replicas took an id after this server's.
    replicas: AtomicU32,
    /// Kept over restarts, which set it again.
    read_only: Arc<AtomicBool>,
    /// Where it speaks with the other members of its group.
    group_port: Option<Port>,
}

/// How a MySQL is to be started.
#[derive(Debug, Default)]
#[must_use]
pub struct MysqlBuilder<'a> {
    root: Option<PathBuf>,
    arguments: Vec<String>,
    primary: Option<&'a Mysql>,
    data_folder: Option<PathBuf>,
    group: Option<Option<&'a Mysql>>,
}

impl<'a> MysqlBuilder<'a> {
    /// More arguments for the server, after and so above the others.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Follows a primary by GTID from its beginning, is read-only and writes a binlog of what it
    /// applies. It has caught up when it starts.
    pub fn replica_of(mut self, primary: &'a Mysql) -> Self {
        self.primary = Some(primary);
        self
    }

    /// Keeps the data there, also after the server is gone. What lies there already is used.
    pub fn data_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_folder = Some(folder.into());
        self
    }

    /// Is the first member of a replication group, or joins the one that another is a member of.
    pub fn in_group_with(mut self, member: Option<&'a Mysql>) -> Self {
        self.group = Some(member);
        self
    }

    /// Starts it, and returns when it answers; a member of a group when it is one.
    pub fn start(self) -> Result<Mysql, Error> {
        let place = self.root.clone().or_else(|| env::var_os(PLACE).map(PathBuf::from));
        let place = place.unwrap_or_else(|| cache::folder().join(IN_CACHE));
        let program = Foreign::server(&place)?;
        let keeper = Keeper::new("mysql")?;
        let folder = keeper.folder();
        let data = self.data_folder.clone().unwrap_or_else(|| folder.join("data"));
        prepare(&program, folder, &data)?;
        let before = self.primary.or(self.group.flatten());
        let server_id = before.map_or(1, |before| {
            before.server_id + 1 + before.replicas.fetch_add(1, Ordering::Relaxed)
        });
        let group_port = self.group.is_some().then(Port::take).transpose()?;
        let mut arguments = program.arguments.clone();
        arguments.push(with("--datadir=", &data));
        arguments.push(with("--tmpdir=", folder));
        arguments.push(with("--socket=", &folder.join("s")));
        arguments.push(with("--pid-file=", &folder.join("pid")));
        if program::is_root() {
            arguments.push("--user=root".into());
        }
        arguments.extend(SMALL.iter().chain(&SAFE).map(OsString::from));
        arguments.push(format!("--server-id={server_id}").into());
        if let Some(port) = &group_port {
            arguments.extend(of_group(&place, port));
        }
        arguments.extend(self.arguments.iter().map(OsString::from));
        let read_only = Arc::new(AtomicBool::new(self.primary.is_some()));
        let kept = Arc::clone(&read_only);
        let launch = move |port: u16| {
            let mut arguments = arguments.clone();
            arguments.push(format!("--port={port}").into());
            if kept.load(Ordering::Relaxed) {
                arguments.push("--super-read-only=1".into());
            }
            Launch { program: program.loader.clone(), arguments, environment: Vec::new() }
        };
        let kind = Kind { name: NAME, has_socket: true, launch: Box::new(launch) };
        let server = Server::start(keeper, kind)?;
        let started =
            Mysql { server, server_id, replicas: AtomicU32::new(0), read_only, group_port };
        if let Some(primary) = self.primary {
            started.follow(primary)?;
        }
        match self.group {
            Some(None) => started.begin_group()?,
            Some(Some(member)) => started.join_group(member)?,
            None => {}
        }
        Ok(started)
    }
}

/// What makes a server able to be a member of a group.
fn of_group(root: &Path, port: &Port) -> Vec<OsString> {
    let at = format!("127.0.0.1:{}", port.number());
    vec![
        with("--plugin-dir=", &root.join("usr/lib/mysql/plugin")),
        "--plugin-load-add=group_replication.so".into(),
        "--performance-schema=ON".into(),
        "--report-host=127.0.0.1".into(),
        format!("--loose-group-replication-group-name={GROUP}").into(),
        format!("--loose-group-replication-local-address={at}").into(),
        format!("--loose-group-replication-group-seeds={at}").into(),
        "--loose-group-replication-start-on-boot=OFF".into(),
        "--loose-group-replication-recovery-get-public-key=ON".into(),
        // A member that is gone is left out as soon as it is missed.
        "--loose-group-replication-member-expel-timeout=0".into(),
    ]
}

/// How to run a program of another Debian: by its own loader, with its own libraries.
#[derive(Debug)]
struct Foreign {
    loader: PathBuf,
    arguments: Vec<OsString>,
}

impl Foreign {
    /// Finds the server below a root.
    fn server(root: &Path) -> Result<Self, Error> {
        let program = program::at(&root.join("usr/sbin/mysqld"), HOW)?;
        let libraries = root.join("usr/lib");
        let what = || format!("list {}", libraries.display());
        for folder in fs::read_dir(&libraries).when(what)? {
            // usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2, or another architecture's.
            let folder = folder.when(what)?.path();
            let files = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut loaders = files.filter(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                name.starts_with("ld-linux") && name.contains(".so.")
            });
            if let Some(loader) = loaders.next() {
                let arguments = vec![
                    "--library-path".into(),
                    folder.into(),
                    program.into(),
                    "--no-defaults".into(),
                    with("--basedir=", &root.join("usr")),
                ];
                return Ok(Self { loader: loader.path(), arguments });
            }
        }
        let what = format!("{}/*/ld-linux*", libraries.display());
        Err(Error::Missing { what, how: HOW.to_owned() })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.loader);
        command.args(&self.arguments);
        command
    }
}

fn with(name: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push(path);
    argument
}

impl Mysql {
    /// Starts one, from the folder `$SEEN_MYSQL_ROOT` or the one that `scripts/mysql` made.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments.
    pub fn start_with(more: &[&str]) -> Result<Self, Error> {
        Self::builder().arguments(more).start()
    }

    /// Starts the one below a root folder, with more arguments.
    pub fn start_at(root: &Path, more: &[&str]) -> Result<Self, Error> {
        MysqlBuilder { root: Some(root.to_owned()), ..MysqlBuilder::default() }
            .arguments(more)
            .start()
    }

    /// To start one in another way.
    pub fn builder<'a>() -> MysqlBuilder<'a> {
        MysqlBuilder::default()
    }

    /// Makes a user who may do everything.
    pub fn create_user(&self, name: &str, password: &str) -> Result<(), Error> {
        self.server.make_user(name, password).map(|_| ())
    }

    /// Refuses everybody's writes, or takes them again; also after a restart.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), Error> {
        let on = u8::from(read_only);
        self.sql(&format!("SET GLOBAL super_read_only = {on}; SET GLOBAL read_only = {on}"))?;
        self.read_only.store(read_only, Ordering::Relaxed);
        Ok(())
    }

    /// Follows a primary by GTID, read-only. Returns when it has everything that the primary had.
    pub fn follow(&self, primary: &Mysql) -> Result<(), Error> {
        self.set_read_only(true)?;
        self.sql(&format!(
            "STOP REPLICA;\n\
             CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={},\n\
               SOURCE_USER='root', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1,\n\
               GET_SOURCE_PUBLIC_KEY=1;\n\
             START REPLICA;",
            primary.port()
        ))?;
        self.catch_up_with(primary)
    }

    /// Waits until this server has applied everything that another has in its binlog now.
    pub fn catch_up_with(&self, other: &Mysql) -> Result<(), Error> {
        let executed = other.sql("SELECT @@GLOBAL.gtid_executed")?;
        let executed = executed.trim().replace("\\n", "");
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', {CATCH_UP_SECONDS})");
        if self.sql(&wait)?.trim() == "0" {
            return Ok(());
        }
        let message = format!("it did not reach {executed}; its log: {}", self.log());
        Err(Error::Sql { statement: wait, message })
    }

    /// Makes a replica a primary: it forgets the one it followed, and takes writes.
    pub fn promote(&self) -> Result<(), Error> {
        self.sql("STOP REPLICA; RESET REPLICA ALL;")?;
        self.set_read_only(false)
    }

    /// Begins a group with this member alone.
    pub fn begin_group(&self) -> Result<(), Error> {
        self.sql(
            "SET GLOBAL group_replication_bootstrap_group = ON;\n\
             START GROUP_REPLICATION;\n\
             SET GLOBAL group_replication_bootstrap_group = OFF;",
        )
        .map(|_| ())
    }

    /// Joins the group of a member, for the first time or after a crash. Returns when it has what the
    /// others had.
    pub fn join_group(&self, member: &Mysql) -> Result<(), Error> {
        let seed = member.group_port.as_ref().map_or(0, Port::number);
        self.sql(&format!(
            "SET GLOBAL group_replication_group_seeds = '127.0.0.1:{seed}';\n\
             CHANGE REPLICATION SOURCE TO SOURCE_USER='root' \
               FOR CHANNEL 'group_replication_recovery';\n\
             START GROUP_REPLICATION;"
        ))?;
        let online = wait::until(Duration::from_secs(CATCH_UP_SECONDS.into()), || {
            match self.sql(
                "SELECT MEMBER_STATE FROM performance_schema.replication_group_members \
                 WHERE MEMBER_ID = @@server_uuid",
            ) {
                Ok(state) if state.trim() == "ONLINE" => Some(Ok(())),
                Ok(state) if state.trim() == "ERROR" => Some(Err(self.log())),
                _ => None,
            }
        });
        let message = match online {
            Some(Ok(())) => return Ok(()),
            Some(Err(log)) => log,
            None => self.log(),
        };
        Err(Error::Sql { statement: "START GROUP_REPLICATION".to_owned(), message })
    }
}

/// Makes a data folder, unless it is one.
fn prepare(program: &Foreign, folder: &Path, data: &Path) -> Result<(), Error> {
    if data.join("mysql").is_dir() {
        return Ok(());
    }
    let version = template::version(program.command().arg("--version"))?;
    template::copy_to(data, &format!("mysql-{version}"), |template| {
        let first = folder.join("first.sql");
        fs::write(&first, ROOT_BY_TCP).when(|| format!("write {}", first.display()))?;
        let mut command = program.command();
        command.arg("--initialize-insecure").args(SMALL).arg("--skip-log-bin");
        command.arg(with("--datadir=", template)).arg(with("--init-file=", &first));
        if program::is_root() {
            command.arg("--user=root");
        }
        template::run(NAME, &mut command)?;
        // Each copy is a server of its own.
        let identity = template.join("auto.cnf");
        if identity.exists() {
            fs::remove_file(&identity).when(|| format!("remove {}", identity.display()))?;
        }
        Ok(())
    })
}

impl Deref for Mysql {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
