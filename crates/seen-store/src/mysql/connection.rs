//! Connections: how one is opened for its purpose.

use std::fmt;

use seen_filter::StoreError;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, Row as _};

use super::cluster;
use super::dialect::{STATEMENTS_KEPT_MAX, ServerFacts, server_read_only};
use super::errors::{Failure, Stage};
use super::map;
use super::mapping::Name;
use super::options::MySqlOptions;
use super::server::ServerAddress;
use super::tls;

/// What a connection is for. The three classes of work have connections of their own, so that none
/// starves another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Point checks, while a caller waits.
    Check,
    /// Point checks that may be late, on TiDB.
    LateCheck,
    /// Marks, unmarks, forgets and fences.
    Write,
    /// Pages of builds and listings, sizes, and other background work.
    Page,
    /// Asking a server what it is.
    Probe,
}

impl Role {
    /// The limit of a statement at the server, in milliseconds.
    pub(crate) fn limit_ms(self, options: &MySqlOptions) -> u64 {
        match self {
            Self::Check | Self::LateCheck => options.check_timeout_ms,
            Self::Write => options.write_timeout_ms,
            Self::Page => options.page_timeout_ms,
            Self::Probe => options.connect_timeout_ms,
        }
    }

    /// How long the client waits: longer, so that the server's own answer comes first.
    pub(crate) fn patience_ms(self, options: &MySqlOptions) -> u64 {
        self.limit_ms(options) * 3 / 2
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "check",
            Self::LateCheck => "late check",
            Self::Write => "write",
            Self::Page => "page",
            Self::Probe => "probe",
        })
    }
}

/// Where to connect to. Everything that sqlx would set by itself is set by [`connect`] in one go.
fn connect_options(
    options: &MySqlOptions,
    address: &ServerAddress,
    database: Option<&Name>,
) -> Result<MySqlConnectOptions, StoreError> {
    let mut connect = MySqlConnectOptions::new()
        .host(&address.host)
        .port(address.port)
        .username(&options.login.user)
        .statement_cache_capacity(STATEMENTS_KEPT_MAX)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .charset("utf8mb4")
        .disable_statement_logging();
    // An empty password is not the same as none: TiDB refuses it.
    if let Some(password) = options.login.password_now()? {
        connect = connect.password(&password);
    }
    if let Some(database) = database {
        connect = connect.database(database.as_str());
    }
    let Some(material) = tls::Material::read(&options.login.tls)? else {
        return Ok(connect.ssl_mode(MySqlSslMode::Disabled));
    };
    connect = connect.ssl_mode(MySqlSslMode::VerifyIdentity);
    // Added to the system's, which sqlx reads by itself.
    if let Some(ca) = material.ca {
        connect = connect.ssl_ca_from_pem(ca);
    }
    if let Some((certificate, key)) = material.identity {
        connect = connect.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
    }
    Ok(connect)
}

/// What a connection that could not be opened failed with.
fn not_opened(address: &ServerAddress, error: sqlx::Error) -> Failure {
    let no_tls = matches!(&error, sqlx::Error::Tls(why) if why.to_string().contains("support TLS"));
    let advice = if no_tls { Some(tls::NO_TLS.to_owned()) } else { tls::advice(&error) };
    match advice {
        Some(advice) => Failure::Store(tls::refused(address, &error, &advice)),
        None => Failure::Sql(Stage::Open, error),
    }
}

/// Opens a connection within the connect timeout and asks the server what it is.
pub(crate) async fn connect(
    options: &MySqlOptions,
    address: &ServerAddress,
    database: Option<&Name>,
    role: Role,
) -> Result<(MySqlConnection, ServerFacts), Failure> {
    let target = connect_options(options, address, database).map_err(Failure::Store)?;
    let opening = async {
        let mut connection = target.connect().await?;
        let row = connection
            .fetch_one(concat!(
                "SELECT VERSION(), CAST(@@server_id AS UNSIGNED), ",
                server_read_only!()
            ))
            .await?;
        let version: String = row.try_get(0)?;
        let server_id: u64 = row.try_get(1)?;
        let read_only: i64 = row.try_get(2)?;
        Ok((connection, version, server_id, read_only != 0))
    };
    let sql = |error| not_opened(address, error);
    let limit = options.connect_timeout();
    let silent = |_| Failure::Silent(Stage::Open, options.connect_timeout_ms);
    let (mut connection, version, server_id, read_only) =
        tokio::time::timeout(limit, opening).await.map_err(silent)?.map_err(sql)?;
    let mut facts = ServerFacts::new(&version, server_id, read_only).map_err(Failure::Store)?;
    if role != Role::Probe {
        let snapshot = role != Role::Write;
        let session = facts.dialect.session(role.limit_ms(options), snapshot);
        let mut session = session + &map::session(options.map_epoch);
        if matches!(role, Role::Check | Role::LateCheck) {
            session += facts.dialect.check_session();
        }
        let asked = cluster::is_node(&mut connection, facts.dialect);
        facts.is_galera = tokio::time::timeout(limit, asked).await.map_err(silent)??;
        if facts.is_galera {
            session += cluster::SEES_WHAT_WAS_WRITTEN;
        }
        let setting = sqlx::raw_sql(AssertSqlSafe(session));
        let set = setting.execute(&mut connection);
        tokio::time::timeout(limit, set).await.map_err(silent)?.map_err(sql)?;
    }
    Ok((connection, facts))
}
