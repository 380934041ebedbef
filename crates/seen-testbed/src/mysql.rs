//! MySQL, out of a folder of its own: `scripts/mysql` makes one from a newer Debian than this machine's.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, While};
use crate::keeper::{Keeper, Launch};
use crate::server::{Kind, Server};
use crate::{cache, program, template};

const NAME: &str = "MySQL";
const HOW: &str = "run scripts/mysql, which fetches it (about a minute, needs root and Debian)";
/// The folder with a Debian in which MySQL is installed, if not in the cache.
const PLACE: &str = "SEEN_MYSQL_ROOT";
/// Where `scripts/mysql` makes it.
const IN_CACHE: &str = "mysql-9";

/// Small files and little memory; the template is made with them too.
const SMALL: [&str; 4] = [
    "--innodb-buffer-pool-size=64M",
    "--innodb-redo-log-capacity=16M",
    "--secure-file-priv=NULL",
    "--performance-schema=OFF",
];

/// Nothing acknowledged is lost, and the binlog carries whole rows with their columns' names.
const SAFE: [&str; 12] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--mysqlx=OFF",
    "--server-id=1",
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
    /// Kept over restarts, which set it again.
    read_only: Arc<AtomicBool>,
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
        let place = env::var_os(PLACE).map(PathBuf::from);
        Self::start_at(&place.unwrap_or_else(|| cache::folder().join(IN_CACHE)), more)
    }

    /// Starts the one below a root folder, with more arguments.
    pub fn start_at(root: &Path, more: &[&str]) -> Result<Self, Error> {
        let program = Foreign::server(root)?;
        let keeper = Keeper::new("mysql")?;
        let folder = keeper.folder();
        let data = folder.join("data");
        prepare(&program, folder, &data)?;
        let mut arguments = program.arguments.clone();
        arguments.push(with("--datadir=", &data));
        arguments.push(with("--tmpdir=", folder));
        arguments.push(with("--socket=", &folder.join("s")));
        arguments.push(with("--pid-file=", &folder.join("pid")));
        if program::is_root() {
            arguments.push("--user=root".into());
        }
        arguments.extend(SMALL.iter().chain(&SAFE).chain(more).map(OsString::from));
        let read_only = Arc::new(AtomicBool::new(false));
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
        Ok(Self { server: Server::start(keeper, kind)?, read_only })
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
}

/// Makes a data folder.
fn prepare(program: &Foreign, folder: &Path, data: &Path) -> Result<(), Error> {
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
