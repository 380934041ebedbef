//! TiDB: one process with its own store, built by `scripts/tidb`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::error::{Error, While};
use crate::keeper::{Keeper, Launch};
use crate::server::{Kind, Server};
use crate::{cache, program};

const NAME: &str = "TiDB";
const HOW: &str = "run scripts/tidb, which builds it (about 6 minutes, needs Go)";
/// Where the server is, if not in the cache.
const PLACE: &str = "SEEN_TIDB_SERVER";
/// Where `scripts/tidb` puts it: the commit is part of the name.
const IN_CACHE: &str = "tidb-e4e814fdc0af/tidb-server";

/// A private TiDB server. root needs no password on 127.0.0.1; there is no socket.
///
/// It is a [`Server`]: `port`, `sql`, `kill_9`, `restart`, `freeze` and so on are there.
#[derive(Debug)]
pub struct Tidb {
    server: Server,
}

impl Tidb {
    /// Starts one, from `$SEEN_TIDB_SERVER` or what `scripts/tidb` built.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments.
    pub fn start_with(more: &[&str]) -> Result<Self, Error> {
        let place = env::var_os(PLACE).map(PathBuf::from);
        Self::start_at(&place.unwrap_or_else(|| cache::folder().join(IN_CACHE)), more)
    }

    /// Starts this program, with more arguments.
    pub fn start_at(program: &Path, more: &[&str]) -> Result<Self, Error> {
        let program = program::at(program, HOW)?;
        let keeper = Keeper::new("tidb")?;
        let folder = keeper.folder().to_owned();
        // A folder for its locks goes to the system's temporary folder in spite of -temp-dir.
        let temporary = folder.join("tmp");
        fs::create_dir(&temporary).when(|| format!("make {}", temporary.display()))?;
        let mut arguments =
            ["-store", "unistore", "-host", "127.0.0.1", "-socket", "", "-L", "warn"]
                .map(OsString::from)
                .to_vec();
        arguments.extend(["-advertise-address", "127.0.0.1"].map(OsString::from));
        // One port less that could be taken.
        arguments.push("-report-status=false".into());
        arguments.extend(["-path".into(), folder.join("data").into()]);
        arguments.extend(["-temp-dir".into(), temporary.join("ddl").into()]);
        arguments.extend(more.iter().map(OsString::from));
        let launch = move |port: u16| {
            let mut arguments = arguments.clone();
            arguments.extend(["-P".into(), port.to_string().into()]);
            let environment = vec![("TMPDIR", temporary.clone().into())];
            Launch { program: program.clone(), arguments, environment }
        };
        let kind = Kind { name: NAME, has_socket: false, launch: Box::new(launch) };
        Ok(Self { server: Server::start(keeper, kind)? })
    }

    /// Makes a user who may do everything.
    pub fn create_user(&self, name: &str, password: &str) -> Result<(), Error> {
        self.server.make_user(name, password).map(|_| ())
    }
}

impl Deref for Tidb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
