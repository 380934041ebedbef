//! The settings of a server that keep the store's promises, or break them.

use std::collections::BTreeMap;

use sqlx::MySqlConnection;

use super::super::connection::Role;
use super::super::ddl::ROCKSDB_CF_OPTIONS;
use super::super::dialect::{Dialect, ServerFacts};
use super::super::errors::Failure;
use super::super::finding::Finding;
use super::super::options::{Engine, MySqlOptions};
use super::super::schema::no_rocksdb;
use super::super::server::ServerAddress;
use super::{WantedFeed, ask, text};

/// The shortest time after which a server may close an idle connection.
const WAIT_TIMEOUT_S_MIN: u64 = 60;
/// How long a log should be kept at least: what a replica that was away has to catch up by.
const LOG_KEPT_S_MIN: u64 = 3_600;
/// Connections of one process and shard beside those of its pools: the feed, and the look for the
/// primary.
const OTHER_CONNECTIONS: u64 = 2;

/// Stands among the variables for the option with which MyRocks is loaded.
const ROCKSDB_LOADED: &str = "rocksdb load option";

/// What a server is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Duties {
    /// It is no mere witness.
    pub may_be_primary: bool,
    /// Another one may take over from it.
    pub has_peers: bool,
    /// How many shards it may be the primary of.
    pub shards: u64,
}

/// One server, as far as settings go.
pub(super) struct Server<'a> {
    pub address: &'a ServerAddress,
    pub facts: &'a ServerFacts,
    pub variables: &'a Variables,
    pub duties: &'a Duties,
    pub options: &'a MySqlOptions,
    pub feed: WantedFeed,
    /// S of rule R2, in milliseconds.
    pub snapshot_lag_ms: u64,
}

/// A server's global variables. One that is not there belongs to another kind of server.
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Asks for all of them.
    pub(super) async fn of(
        connection: &mut MySqlConnection,
        options: &MySqlOptions,
    ) -> Result<Self, Failure> {
        let mut rows = ask(connection, options, "SHOW GLOBAL VARIABLES".to_owned()).await?;
        // What replicas and clusters do is told by counters, of other names.
        let counters = "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'rpl_semi_sync%' OR Variable_name \
                        IN ('wsrep_cluster_status', 'wsrep_ready', 'wsrep_local_state')";
        rows.extend(ask(connection, options, counters.to_owned()).await?);
        if rows.iter().any(|row| text(row, 0).starts_with("rocksdb_")) {
            // How a plugin is loaded is no variable.
            let loaded = format!(
                "SELECT '{ROCKSDB_LOADED}', load_option FROM information_schema.plugins WHERE \
                 plugin_name = 'ROCKSDB'"
            );
            rows.extend(ask(connection, options, loaded).await?);
        }
        let one = |row| (text(row, 0).to_ascii_lowercase(), text(row, 1).to_owned());
        Ok(Self(rows.iter().map(one).collect()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn is_on(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| matches!(value.to_ascii_uppercase().as_str(), "ON" | "1"))
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.parse().ok()
    }

    /// The zone of sessions that set none.
    pub(super) fn zone(&self) -> String {
        let zone = self.get("time_zone").unwrap_or_default();
        let zone = if zone == "SYSTEM" { self.get("system_time_zone") } else { Some(zone) };
        zone.unwrap_or_default().to_owned()
    }
}

/// The statement that sets a variable: for good, where the server can do that.
pub(super) fn set(dialect: Dialect, name: &str, value: &str) -> String {
    let how = if dialect == Dialect::MySql { "PERSIST" } else { "GLOBAL" };
    format!("SET {how} {name} = {value}")
}

/// Everything about one server's settings.
pub(super) fn examine(server: &Server<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.facts.dialect != Dialect::TiDb {
        server.durability(&mut findings);
        server.rocksdb(&mut findings);
        server.semi_sync(&mut findings);
        server.galera(&mut findings);
    }
    if server.feed.follows(server.facts.dialect) {
        server.binlog(&mut findings);
    }
    server.sessions(&mut findings);
    server.capacity(&mut findings);
    findings
}

impl Server<'_> {
    fn subject(&self, name: &str) -> String {
        format!("{name} at {}", self.address)
    }

    /// What `SET` alone does not say.
    fn lasting(&self) -> &'static str {
        match self.facts.dialect {
            Dialect::MariaDb => {
                "; put it into the server's configuration as well, for its next start"
            }
            Dialect::MySql | Dialect::TiDb => "",
        }
    }

    fn mended(&self, finding: Finding, name: &str, value: &str) -> Finding {
        finding.mended_by(set(self.facts.dialect, name, value))
    }

    /// A finding unless a setting has this value.
    fn want(
        &self,
        name: &str,
        wanted: &str,
        why: &str,
        kind: fn(String, String) -> Finding,
    ) -> Option<Finding> {
        let value = self.variables.get(name)?;
        let same = match wanted {
            "ON" => self.variables.is_on(name) == Some(true),
            "OFF" => self.variables.is_on(name) == Some(false),
            wanted => value.eq_ignore_ascii_case(wanted),
        };
        if same {
            return None;
        }
        let lasting = self.lasting();
        let finding = kind(self.subject(name), format!("is {value}: {why}{lasting}"));
        Some(self.mended(finding, name, wanted))
    }

    fn durability(&self, findings: &mut Vec<Finding>) {
        // MariaDB's 3 is 1 and one sync more.
        let flush = "innodb_flush_log_at_trx_commit";
        if self.variables.get(flush) != Some("3") {
            let why = "acknowledged marks can be lost when the server's machine crashes";
            findings.extend(self.want(flush, "1", why, error));
        }
        if self.variables.is_on("log_bin") == Some(true) {
            let why = "acknowledged marks can be lost, or never be told to followers, when the \
                       server's machine crashes";
            findings.extend(self.want("sync_binlog", "1", why, error));
        }
    }

    /// MyRocks, where the server has it or should have it.
    fn rocksdb(&self, findings: &mut Vec<Finding>) {
        let is_wanted = self.options.engine == Engine::RocksDb;
        let flush = "rocksdb_flush_log_at_trx_commit";
        if self.variables.get(flush).is_none() {
            if is_wanted && self.duties.may_be_primary {
                let (what, mend) = no_rocksdb(self.facts.dialect);
                let finding = Finding::error(self.subject("mysql.engine"), what);
                findings.push(mend.into_iter().fold(finding, Finding::mended_by));
            }
            return;
        }
        if !is_wanted {
            return;
        }
        let why = "acknowledged marks can be lost when the server's machine crashes";
        findings.extend(self.want(flush, "1", why, error));
        let why = "after a crash the tables and the binary log may differ";
        findings.extend(self.want("rocksdb_enable_2pc", "ON", why, error));
        let recovery = "rocksdb_wal_recovery_mode";
        if self.variables.get(recovery) == Some("1") {
            let what = format!(
                "is 1, by which a crash amid a write keeps the engine from beginning again: the \
                 last record is there in part, and nobody was told that it is; start the server \
                 with {recovery}=0"
            );
            findings.push(Finding::warning(self.subject(recovery), what));
        }
        if self.variables.get(ROCKSDB_LOADED).is_some_and(|loaded| !loaded.starts_with("FORCE")) {
            let what = "is not loaded by FORCE: where the engine cannot begin, for example after a \
                        crash, the server starts all the same, without the histories, and decides \
                        alone about transactions that were half-done; start it with rocksdb=FORCE";
            findings.push(Finding::warning(self.subject("rocksdb"), what));
        }
        let cf = "rocksdb_default_cf_options";
        if !self.variables.get(cf).unwrap_or_default().contains("ZSTD") {
            let what = format!(
                "does not ask for Zstandard: rows take more of the disk than they have to; start the \
                 server with {cf}=\"{ROCKSDB_CF_OPTIONS}\""
            );
            findings.push(Finding::note(self.subject(cf), what));
        }
    }

    fn binlog(&self, findings: &mut Vec<Finding>) {
        if self.variables.is_on("log_bin") == Some(false) {
            let what = "is OFF, so that nobody tells of changes: start the server with --log-bin, or \
                        set mysql.feed = \"none\" and have every answer asked of the servers";
            findings.push(Finding::error(self.subject("log_bin"), what));
            return;
        }
        let sessions =
            "the change feed cannot be followed; sessions that are open keep their value";
        for (name, wanted) in [
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("log_bin_compress", "OFF"),
        ] {
            findings.extend(self.want(name, wanted, sessions, error));
        }
        let why = "compressed transactions are not read: after each one all that is cached is doubted, \
                   and asked of the servers again";
        findings.extend(self.want("binlog_transaction_compression", "OFF", why, warning));
        if self.variables.is_on("performance_schema") == Some(false)
            && self.facts.dialect == Dialect::MySql
        {
            let what = "is OFF, so that the server does not tell the numbers of commits: every mark is \
                        kept for a fence, a second or so, before the log is known to have it; start \
                        the server with it ON";
            findings.push(Finding::note(self.subject("performance_schema"), what));
        }
        self.gtids(findings);
        self.log_kept(findings);
        if self.duties.has_peers {
            for name in ["log_slave_updates", "log_replica_updates"] {
                // MySQL has both names, for one variable.
                let is_alias = name == "log_slave_updates" && self.facts.dialect == Dialect::MySql;
                if self.variables.is_on(name) == Some(false) && !is_alias {
                    let what = "is OFF: followers find no history of changes at this server when it \
                                becomes the primary; start it with this setting ON";
                    findings.push(Finding::warning(self.subject(name), what));
                }
            }
        }
    }

    fn gtids(&self, findings: &mut Vec<Finding>) {
        let why = "a replica may take on writes of its own, and positions then mean different rows at \
                   different servers";
        findings.extend(self.want("gtid_strict_mode", "ON", why, warning));
        let position = self.variables.get("gtid_binlog_pos").unwrap_or_default();
        if position.contains(',') {
            let what = format!(
                "is {position:?}, which has several domains: their order is unknown, and the change \
                 feed cannot be followed; write with one gtid_domain_id"
            );
            findings.push(Finding::error(self.subject("gtid_binlog_pos"), what));
        }
        let Some(mode) = self.variables.get("gtid_mode") else { return };
        if self.facts.dialect != Dialect::MySql {
            return;
        }
        let consistency = self.variables.is_on("enforce_gtid_consistency") == Some(true);
        if mode == "ON" && consistency {
            return;
        }
        let mut steps = Vec::new();
        if !consistency {
            steps.push(set(self.facts.dialect, "enforce_gtid_consistency", "ON"));
        }
        // One step at a time is all that the server takes.
        let modes = ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];
        let at = modes.iter().position(|one| one.eq_ignore_ascii_case(mode)).unwrap_or(0);
        steps.extend(modes[at + 1..].iter().map(|m| set(self.facts.dialect, "gtid_mode", m)));
        let what = format!(
            "is {mode}, with enforce_gtid_consistency {}: the change feed follows GTIDs alone",
            if consistency { "ON" } else { "not ON" }
        );
        let finding = Finding::error(self.subject("gtid_mode"), what);
        findings.push(finding.mended_by(steps.join("; ")));
    }

    /// How long the log is kept.
    fn log_kept(&self, findings: &mut Vec<Finding>) {
        let seconds = self.variables.number("binlog_expire_logs_seconds").unwrap_or(0.0);
        let days = self.variables.number("expire_logs_days").unwrap_or(0.0);
        let purged = self.variables.is_on("binlog_expire_logs_auto_purge") != Some(false);
        let kept_s = if seconds > 0.0 { seconds } else { days * 86_400.0 };
        let name = "binlog_expire_logs_seconds";
        if kept_s <= 0.0 || !purged {
            let what = "the binary log is kept for ever, and fills the disk in the end";
            findings.push(Finding::note(self.subject(name), what));
            return;
        }
        let hours = kept_s / 3_600.0;
        let what = format!(
            "the binary log is kept for {hours:.1} hours: a replica that was away for longer begins \
             with nothing cached"
        );
        let subject = self.subject(name);
        findings.push(match kept_s < LOG_KEPT_S_MIN as f64 {
            true => self.mended(Finding::warning(subject, what), name, "86400"),
            false => Finding::note(subject, what),
        });
    }

    fn sessions(&self, findings: &mut Vec<Finding>) {
        let mode = self.variables.get("sql_mode").unwrap_or_default();
        if !mode.contains("STRICT_ALL_TABLES") && !mode.contains("STRICT_TRANS_TABLES") {
            let what = "is not strict: other writers may store ids that were cut to what a column \
                        holds; the store's own sessions are strict";
            findings.push(Finding::note(self.subject("sql_mode"), what));
        }
        let wait_s = self.variables.number("wait_timeout").unwrap_or(f64::MAX);
        if wait_s < WAIT_TIMEOUT_S_MIN as f64 {
            let what = format!(
                "is {wait_s} s: idle connections are closed so soon that calls after a pause wait for \
                 new ones{}",
                self.lasting()
            );
            let finding = Finding::warning(self.subject("wait_timeout"), what);
            findings.push(self.mended(finding, "wait_timeout", "28800"));
        }
        let limit_s = self.variables.number("max_statement_time").unwrap_or(0.0);
        let ours_s = Role::Page.limit_ms(self.options) as f64 / 1_000.0;
        if limit_s > 0.0 && limit_s < ours_s {
            let what = format!(
                "is {limit_s} s, less than mysql.page_timeout ({ours_s} s); the store's own sessions \
                 set theirs, so that it counts for other programs only"
            );
            findings.push(Finding::note(self.subject("max_statement_time"), what));
        }
    }

    fn capacity(&self, findings: &mut Vec<Finding>) {
        let options = self.options;
        let pools = options.check_connections_max
            + options.write_connections_max
            + options.page_connections_max;
        let needed = (pools as u64 + OTHER_CONNECTIONS) * self.duties.shards;
        for name in ["max_connections", "max_user_connections"] {
            let most = self.variables.number(name).unwrap_or(0.0);
            // 0 is no limit.
            if most <= 0.0 || most >= needed as f64 {
                continue;
            }
            let what = format!(
                "is {most}, and one process opens up to {needed} (for checks, writes, pages, the feed \
                 and the look for the primary); several processes as many each{}",
                self.lasting()
            );
            let finding = Finding::warning(self.subject(name), what);
            findings.push(self.mended(finding, name, &(needed * 4).to_string()));
        }
    }

    fn semi_sync(&self, findings: &mut Vec<Finding>) {
        if !self.duties.has_peers {
            return;
        }
        let (on, point, plugin) = match self.facts.dialect {
            Dialect::MariaDb => {
                ("rpl_semi_sync_master_enabled", "rpl_semi_sync_master_wait_point", "")
            }
            _ => (
                "rpl_semi_sync_source_enabled",
                "rpl_semi_sync_source_wait_point",
                "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'; ",
            ),
        };
        let is_on = self.variables.is_on(on);
        // MySQL's plugin of the older name has the variables of that name.
        let is_on_by_old_name = self.variables.is_on("rpl_semi_sync_master_enabled");
        if is_on != Some(true) && is_on_by_old_name != Some(true) {
            let what = "is not ON: a failover may lose marks that were acknowledged just before; \
                        switch it on at the replicas first, or commits wait for nobody";
            let install = if is_on.is_none() { plugin } else { "" };
            let mend = format!("{install}{}", set(self.facts.dialect, on, "ON"));
            findings.push(Finding::note(self.subject(on), what).mended_by(mend));
        }
        let why =
            "a commit is shown before a replica has it, so that a failover may lose what was read";
        findings.extend(self.want(point, "AFTER_SYNC", why, note));
        self.semi_sync_works(findings);
    }

    /// Where semi-synchronous replication is switched on: does a replica answer, and how long is waited
    /// for it? While a commit waits, followers of the log have been told of it and reads do not show it.
    fn semi_sync_works(&self, findings: &mut Vec<Finding>) {
        for name in ["master", "source"] {
            let on = format!("rpl_semi_sync_{name}_enabled");
            if self.variables.is_on(&on) != Some(true) {
                continue;
            }
            let status = format!("rpl_semi_sync_{name}_status");
            if !self.facts.read_only && self.variables.is_on(&status) == Some(false) {
                let what = "is OFF though it is switched on: no replica answered in time, commits wait \
                            for nobody, and a failover may lose acknowledged marks; mend the replicas";
                findings.push(Finding::warning(self.subject(&status), what));
            }
            let timeout = format!("rpl_semi_sync_{name}_timeout");
            let waits_ms = self.variables.number(&timeout).unwrap_or(0.0);
            let lag_ms = self.snapshot_lag_ms;
            if self.feed.follows(self.facts.dialect) && waits_ms >= lag_ms as f64 {
                let what = format!(
                    "is {waits_ms} ms, and mysql.snapshot_lag is {lag_ms} ms: for so long a commit may be \
                     told to followers and not be seen by reads, and what is built from such a read misses \
                     it; make it shorter, or mysql.snapshot_lag longer{}",
                    self.lasting()
                );
                let finding = Finding::error(self.subject(&timeout), what);
                findings.push(self.mended(finding, &timeout, &(lag_ms / 2).to_string()));
            }
        }
    }

    /// A node of a Galera cluster: every node takes writes, and numbers of its own.
    fn galera(&self, findings: &mut Vec<Finding>) {
        let provider = self.variables.get("wsrep_provider").unwrap_or("none");
        if self.variables.is_on("wsrep_on") != Some(true) || matches!(provider, "" | "none") {
            return;
        }
        let status = self.variables.get("wsrep_cluster_status").unwrap_or_default();
        if !status.eq_ignore_ascii_case("primary") {
            let what = format!("is {status}: the node has lost its cluster, and takes no work");
            findings.push(Finding::error(self.subject("wsrep_cluster_status"), what));
        }
        if self.feed.follows(self.facts.dialect) {
            let why = "each node numbers its log in its own way: after a move to another node the \
                       change feed cannot tell where it was (give all nodes one server_id and one \
                       wsrep_gtid_domain_id, too)";
            findings.extend(self.want("wsrep_gtid_mode", "ON", why, error));
            if self.variables.is_on("log_slave_updates") == Some(false) {
                let what = "is OFF: the node's log lacks what was written through others; start it with \
                            this setting ON";
                findings.push(Finding::error(self.subject("log_slave_updates"), what));
            }
        }
    }
}

fn error(subject: String, what: String) -> Finding {
    Finding::error(subject, what)
}

fn warning(subject: String, what: String) -> Finding {
    Finding::warning(subject, what)
}

fn note(subject: String, what: String) -> Finding {
    Finding::note(subject, what)
}
