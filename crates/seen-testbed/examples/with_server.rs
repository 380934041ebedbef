//! Runs a command beside a private server, gone when the command has ended:
//!
//! ```sh
//! cargo run -p seen-testbed --example with_server -- mariadb [ARGUMENT...] -- COMMAND...
//! ```
//!
//! The server is `mariadb`, `mysql` or `tidb`; arguments before the second `--` are its own, such as
//! `--innodb-buffer-pool-size=1G`. The command finds a configuration for an empty schema `seen` in
//! the variable `SEEN_CONFIG`.

use std::process::{Command, ExitCode};

use seen_testbed::{Error, MariaDb, Mysql, Server, Tidb};

const USER: &str = "seen";
const PASSWORD: &str = "private";

/// A server of one of the three kinds.
enum Private {
    MariaDb(MariaDb),
    Mysql(Mysql),
    Tidb(Tidb),
}

impl Private {
    fn start(kind: &str, arguments: &[&str]) -> Result<Option<Self>, Error> {
        Ok(Some(match kind {
            "mariadb" => Self::MariaDb(MariaDb::builder().arguments(arguments).start()?),
            "mysql" => Self::Mysql(Mysql::start_with(arguments)?),
            "tidb" => Self::Tidb(Tidb::start_with(arguments)?),
            _ => return Ok(None),
        }))
    }

    fn create_user(&self) -> Result<(), Error> {
        match self {
            Self::MariaDb(server) => server.create_user(USER, PASSWORD),
            Self::Mysql(server) => server.create_user(USER, PASSWORD),
            Self::Tidb(server) => server.create_user(USER, PASSWORD),
        }
    }

    fn server(&self) -> &Server {
        match self {
            Self::MariaDb(server) => server,
            Self::Mysql(server) => server,
            Self::Tidb(server) => server,
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = arguments.splitn(2, |argument| argument == "--");
    let (Some([kind, own @ ..]), Some([program, rest @ ..])) = (parts.next(), parts.next()) else {
        eprintln!("usage: with_server mariadb|mysql|tidb [ARGUMENT...] -- COMMAND...");
        return ExitCode::from(2);
    };
    match run(kind, own, program, rest) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    kind: &str,
    own: &[String],
    program: &str,
    rest: &[String],
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let Some(private) = Private::start(kind, &own)? else {
        return Err(format!("{kind} is no server that can be started: mariadb, mysql, tidb").into());
    };
    private.create_user()?;
    let server = private.server();
    server.sql("CREATE DATABASE seen")?;
    let config = server.folder().join("seen.toml");
    let text = format!(
        "[storage]\nkind = \"mysql\"\n\n[mysql]\nservers = \"127.0.0.1:{}\"\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\n",
        server.port()
    );
    std::fs::write(&config, text)?;
    let status = Command::new(program).args(rest).env("SEEN_CONFIG", &config).status();
    let status = status.map_err(|error| format!("cannot run {program}: {error}"))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
