//! One connection: who the server is, whether its log can be followed, and where it is.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{
    BinlogStream, BinlogStreamRequest, ClientIdentity, Conn, DriverError, OptsBuilder, Row, Sid,
    SslOpts,
};

use super::facts::{Facts, Log};
use super::gtid::{Gtid, GtidSet, SourceId};
use super::meaning::{CONTROL_TABLE, ControlRow};
use super::place::{LogPlace, Place, timeline_of_name};
use super::schemas::Schemas;
use super::translate::several_domains;
use super::{BinlogOptions, BinlogShard};
use crate::mysql::tls::{self, Material};
use crate::mysql::{Name, ServerAddress};

/// Largest event that is read: as large as the servers allow.
const PACKET_BYTES_MAX: usize = 1 << 30;
/// When the system looks after a connection that says nothing. Only for those left behind: readers
/// notice silence themselves.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why a connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Somebody must change something first.
    Refused(String),
    /// It may work later.
    Lost(String),
    /// The log does not have, or not any more, what was asked for.
    NoPlace(String),
}

/// A connection before its log is asked for.
pub(super) struct Session {
    conn: Conn,
    pub facts: Facts,
}

type Answer<T> = Result<T, Trouble>;

fn refused<T>(why: impl Into<String>) -> Answer<T> {
    Err(Trouble::Refused(why.into()))
}

impl From<mysql_async::Error> for Trouble {
    fn from(error: mysql_async::Error) -> Self {
        let mysql_async::Error::Server(server) = &error else {
            return Self::Lost(error.to_string());
        };
        match server.code {
            1044 | 1045 | 1142 | 1143 | 1227 | 1698 => Self::Refused(format!(
                "{error}; the change feed's user needs GRANT REPLICATION SLAVE, BINLOG MONITOR ON \
                 *.* (MySQL: REPLICATION SLAVE, REPLICATION CLIENT) and SELECT on the database"
            )),
            1193 => {
                Self::Refused(format!("{error}; needed are MariaDB from 10.5 or MySQL from 8.0 on"))
            }
            // The second range is MariaDB's: positions that are missing, duplicate or out of order.
            1236 | 1945..=1957 => Self::NoPlace(error.to_string()),
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// A connection to a server.
pub(super) async fn to(options: &BinlogOptions, address: &ServerAddress) -> Answer<Conn> {
    let password = options.login.password_now().map_err(|e| Trouble::Lost(e.to_string()))?;
    let material =
        Material::read(&options.login.tls).map_err(|error| Trouble::Lost(error.message))?;
    let how = OptsBuilder::default()
        .ip_or_hostname(address.host.clone())
        .tcp_port(address.port)
        .user(Some(options.login.user.clone()))
        .pass(password)
        .ssl_opts(material.map(ssl_opts))
        // Else the library leaves this connection for one by the server's socket.
        .prefer_socket(false)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE))
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .wait_timeout(Some(28_800));
    Conn::new(how).await.map_err(|error| {
        let no_tls =
            matches!(&error, mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer));
        let advice = if no_tls { Some(tls::NO_TLS.to_owned()) } else { tls::advice(&error) };
        match advice {
            Some(advice) => Trouble::Lost(tls::refused(address, &error, &advice).message),
            None => error.into(),
        }
    })
}

/// The same trust as the store's own connections have: the system's authorities and the named one,
/// instead of those that the library brings along.
fn ssl_opts(material: Material) -> SslOpts {
    let system = tls::system_authorities().into_iter();
    let roots = system.chain(material.ca).map(Into::into).collect();
    let identity = material
        .identity
        .map(|(certificate, key)| ClientIdentity::new(certificate.into(), key.into()));
    SslOpts::default()
        .with_root_certs(roots)
        .with_disable_built_in_roots(true)
        .with_client_identity(identity)
}

/// The newest number of the server's log, of those that `place` has.
pub(super) async fn head_number(conn: &mut Conn, place: &Place) -> Answer<u64> {
    let unreadable = || Trouble::Lost("the server's position cannot be read".to_owned());
    if let LogPlace::Set(_, source) = &place.log {
        let [executed] = variables(conn, ["gtid_executed"]).await?;
        return Ok(GtidSet::parse(&executed).ok_or_else(unreadable)?.newest(*source));
    }
    let [position] = variables(conn, ["gtid_binlog_pos"]).await?;
    let gtids = Gtid::list(&position).ok_or_else(unreadable)?;
    Ok(gtids.iter().map(|gtid| gtid.seq).max().unwrap_or(0))
}

impl Session {
    /// Connects and asks the server everything that must be known before its log is read.
    pub async fn open(
        options: &BinlogOptions,
        shard: &BinlogShard,
        address: &ServerAddress,
    ) -> Answer<Self> {
        let mut conn = to(options, address).await?;
        let version = text(conn.query_first("SELECT VERSION()").await?);
        let is_mariadb = version.is_some_and(|version| version.contains("MariaDB"));
        let facts = match is_mariadb {
            true => mariadb_facts(&mut conn, shard).await?,
            false => mysql_facts(&mut conn, shard).await?,
        };
        let homes = options.tables.iter().filter_map(|mapping| mapping.database.as_ref());
        let wanted = homes.chain([&shard.database]).map(Name::as_str);
        Schemas::of(&mut conn).await?.demand(wanted, facts.ignores_case)?;
        Ok(Self { conn, facts })
    }

    /// True if a row of the control table that came by is still there, or a newer one in its place.
    pub async fn has_landmark(&mut self, shard: &BinlogShard, row: &ControlRow) -> Answer<bool> {
        let sql = format!(
            "SELECT seq FROM {}.{CONTROL_TABLE} WHERE user_id = ? AND namespace = ? AND writer = ?",
            shard.database
        );
        let params = (row.user, row.namespace, row.writer);
        match self.conn.exec_first::<Row, _, _>(sql, params).await {
            Ok(found) => Ok(number(found).is_some_and(|seq| seq >= row.seq)),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for the log from `place` on. Whether the server has it shows with the first event.
    pub async fn dump(mut self, place: &Place, heartbeat_ms: u64) -> Answer<BinlogStream> {
        let period_ns = heartbeat_ms.saturating_mul(1_000_000);
        let heartbeat = format!(
            "SET @master_heartbeat_period = {period_ns}, @source_heartbeat_period = {period_ns}"
        );
        self.conn.query_drop(heartbeat).await?;
        // Never the number of a real replica, and never that of another reader, which the server would
        // disconnect.
        let request = BinlogStreamRequest::new(rand::random_range(1 << 31..=u32::MAX));
        let stream = match (&self.facts.log, &place.log) {
            (Log::MySql { .. }, LogPlace::Set(set, _)) => {
                let sids: Vec<_> = set.0.iter().map(|(id, ranges)| sid(id, ranges)).collect();
                let request = request.with_gtid().with_gtid_set(sids);
                self.conn.get_binlog_stream(request).await?
            }
            _ => {
                let state = self.connect_state(place).await?;
                // Capability 4: GTIDs are understood, nothing needs to be disguised.
                let wish = format!(
                    "SET @mariadb_slave_capability = 4, @slave_connect_state = '{state}', \
                     @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0"
                );
                self.conn.query_drop(wish).await?;
                self.conn.get_binlog_stream(request).await?
            }
        };
        Ok(stream)
    }

    /// After which GTIDs MariaDB is to begin. Where only the number is known, and the domain's numbers
    /// are several servers', from the beginning of a file before it: a guessed server would make
    /// MariaDB pass over transactions without a word.
    async fn connect_state(&mut self, place: &Place) -> Answer<String> {
        let Log::MariaDb { domain, state, .. } = &self.facts.log else {
            return Ok(String::new());
        };
        match &place.log {
            LogPlace::After(Some(gtid)) => return Ok(gtid.to_string()),
            LogPlace::ByNumber if place.done > 0 => {}
            _ => return Ok(String::new()),
        }
        let (domain, done) = (*domain, place.done);
        let mut servers = state.iter().filter(|gtid| gtid.domain == domain);
        if let (Some(only), None) = (servers.next(), servers.next()) {
            return Ok(Gtid { seq: done, ..*only }.to_string());
        }
        let files: Vec<Row> = self.conn.query("SHOW BINARY LOGS").await?;
        for file in files.into_iter().rev() {
            let Some(name) = text(Some(file)) else { continue };
            let sql = "SELECT BINLOG_GTID_POS(?, 4)";
            let Some(begins) = text(self.conn.exec_first(sql, (name,)).await?) else { continue };
            let Some(gtids) = Gtid::list(&begins) else { continue };
            if gtids.iter().all(|gtid| gtid.domain != domain || gtid.seq <= done) {
                return Ok(begins);
            }
        }
        Err(Trouble::NoPlace("the log's files before it have been purged".to_owned()))
    }
}

fn sid<'a>(source: &SourceId, ranges: &[(u64, u64)]) -> Sid<'a> {
    let ranges = ranges.iter().map(|(first, end)| mysql_async::GnoInterval::new(*first, *end));
    Sid::new(source.0).with_intervals(ranges.collect())
}

/// The first column of a row, which the library would panic over if it were of another type.
fn text(row: Option<Row>) -> Option<String> {
    row?.take_opt::<Option<String>, _>(0)?.ok()?
}

/// The same as a number.
fn number(row: Option<Row>) -> Option<u64> {
    row?.take_opt::<Option<u64>, _>(0)?.ok()?
}

/// True if there is no such table or database.
fn is_missing(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(server) if matches!(server.code, 1049 | 1146))
}

/// One row of texts, as many as `names`; the names become global variables.
async fn variables<const N: usize>(conn: &mut Conn, names: [&str; N]) -> Answer<[String; N]> {
    let asked: Vec<_> = names.iter().map(|name| format!("@@global.{name}")).collect();
    let row: Option<Row> = conn.query_first(format!("SELECT {}", asked.join(", "))).await?;
    let Some(mut row) = row else {
        return Err(Trouble::Lost("the server did not tell its settings".to_owned()));
    };
    let mut at = 0;
    Ok(names.map(|_| {
        at += 1;
        row.take_opt::<Option<String>, _>(at - 1).and_then(Result::ok).flatten().unwrap_or_default()
    }))
}

/// Refuses a server whose log does not say everything, naming what mends it.
fn demand(settings: &[(&str, &str, &str)]) -> Answer<()> {
    for (name, value, wanted) in settings {
        let is_on = |text: &str| matches!(text.to_ascii_uppercase().as_str(), "1" | "ON");
        let same = match *wanted {
            "ON" => is_on(value),
            "OFF" => !is_on(value),
            wanted => value.eq_ignore_ascii_case(wanted),
        };
        if !same {
            let how = match *name {
                "log_bin" => "start the server with --log-bin".to_owned(),
                name => format!("SET GLOBAL {name}={wanted}, and in the server's configuration"),
            };
            return refused(format!(
                "the binary log cannot be followed: {name}={value}, but {wanted} is needed ({how}; \
                 sessions that are open keep the old value)"
            ));
        }
    }
    Ok(())
}

async fn mariadb_facts(conn: &mut Conn, shard: &BinlogShard) -> Answer<Facts> {
    let names = [
        "log_bin",
        "binlog_format",
        "binlog_row_image",
        "binlog_row_metadata",
        "log_bin_compress",
        "lower_case_table_names",
        "gtid_domain_id",
        "gtid_binlog_state",
        "gtid_binlog_pos",
    ];
    let [log_bin, format, image, metadata, compress, case, domain, state, position] =
        variables(conn, names).await?;
    demand(&[
        ("log_bin", &log_bin, "ON"),
        ("binlog_format", &format, "ROW"),
        ("binlog_row_image", &image, "FULL"),
        ("binlog_row_metadata", &metadata, "FULL"),
        ("log_bin_compress", &compress, "OFF"),
    ])?;
    let (Some(state), Some(heads)) = (Gtid::list(&state), Gtid::list(&position)) else {
        return refused(format!("the server's GTID position {position:?} cannot be read"));
    };
    if let [one, other, ..] = heads[..] {
        return refused(several_domains(one.domain, other.domain));
    }
    let head = heads.first().copied();
    let domain = match head {
        Some(head) => head.domain,
        None => domain.parse().unwrap_or(0),
    };
    Ok(Facts {
        log: Log::MariaDb { domain, head, state },
        store_timeline: store_timeline(conn, shard).await?,
        ignores_case: case != "0",
    })
}

async fn mysql_facts(conn: &mut Conn, shard: &BinlogShard) -> Answer<Facts> {
    let names = [
        "log_bin",
        "binlog_format",
        "binlog_row_image",
        "binlog_row_metadata",
        "gtid_mode",
        "lower_case_table_names",
        "server_uuid",
        "gtid_executed",
    ];
    let [log_bin, format, image, metadata, mode, case, source, executed] =
        variables(conn, names).await?;
    demand(&[
        ("log_bin", &log_bin, "ON"),
        ("binlog_format", &format, "ROW"),
        ("binlog_row_image", &image, "FULL"),
        ("binlog_row_metadata", &metadata, "FULL"),
        ("gtid_mode", &mode, "ON"),
    ])?;
    // A group's transactions have its name, whichever member they come through.
    let group = conn.query_first("SELECT @@global.group_replication_group_name").await;
    let group = group.ok().and_then(text).as_deref().and_then(SourceId::parse);
    let (Some(source), Some(executed)) =
        (group.or_else(|| SourceId::parse(&source)), GtidSet::parse(&executed))
    else {
        return refused(format!(
            "the server's gtid_executed {executed:?} cannot be read (tagged GTIDs are not followed)"
        ));
    };
    Ok(Facts {
        log: Log::MySql { source, executed },
        store_timeline: store_timeline(conn, shard).await?,
        ignores_case: case != "0",
    })
}

/// The timeline that the store's own table tells; where there is none, the database's name stands in.
async fn store_timeline(conn: &mut Conn, shard: &BinlogShard) -> Answer<u64> {
    let sql = format!("SELECT timeline FROM {}.seen_store WHERE id = 1", shard.database);
    match conn.query_first::<Row, _>(sql).await {
        Ok(row) => Ok(number(row).unwrap_or_else(|| timeline_of_name(shard.database.as_str()))),
        Err(error) if is_missing(&error) => Ok(timeline_of_name(shard.database.as_str())),
        Err(error) => Err(error.into()),
    }
}
