//! One TiDB behind the cluster, as `scripts/tidb` builds it, without a feed; and what is done to it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use seen_server::cli::drill::{Act, BigUser, Stage};
use seen_testbed::Tidb;

use super::servers::{BIG_FROM, BIG_ITEMS, Failed, PASSWORD, USER, migrated};
use super::toxiproxy::Toxiproxy;

/// Rows that one statement writes: a transaction of TiDB's has a largest size.
const ROWS_AT_ONCE: u64 = 50_000;

/// The server, and the cluster's way to it.
pub struct TidbAlone {
    tidb: Tidb,
    toxiproxy: Toxiproxy,
    big_users: AtomicU64,
}

impl TidbAlone {
    /// Starts it, with the tables of `seen` made. The configuration of the parts is written to `config`.
    pub fn start(seen: &Path, toxiproxy: &Path, config: &Path) -> Result<Self, Failed> {
        let tidb = Tidb::start()?;
        tidb.create_user(USER, PASSWORD)?;
        tidb.sql("CREATE DATABASE seen")?;
        let toxiproxy = Toxiproxy::start(toxiproxy, &[tidb.port()])?;
        let port = toxiproxy.ports.first().ok_or("no port leads to it")?;
        let configuration = format!(
            "[storage]\nkind = \"mysql\"\n\n[mysql]\nservers = \"127.0.0.1:{port}\"\nuser = \"{USER}\"\n\
             password = \"{PASSWORD}\"\n"
        );
        fs::write(config, configuration)?;
        migrated(seen, config)?;
        long_history(&tidb)?;
        Ok(Self { tidb, toxiproxy, big_users: AtomicU64::new(0) })
    }

    fn begun(&self, act: Act) -> Result<(), Failed> {
        match act {
            Act::StorageFrozen => self.tidb.freeze()?,
            Act::StorageKilled => self.tidb.kill_9()?,
            of_the_network => self.toxiproxy.begin(of_the_network)?,
        }
        Ok(())
    }

    fn healed(&self, act: Act) -> Result<(), Failed> {
        match act {
            Act::StorageFrozen => self.tidb.thaw()?,
            Act::StorageKilled => self.tidb.restart()?,
            of_the_network => self.toxiproxy.heal(of_the_network)?,
        }
        Ok(())
    }
}

impl Stage for TidbAlone {
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
        self.toxiproxy.lead_to_link(port).ok()
    }

    fn big_user(&self) -> Option<BigUser> {
        let is_first = self.big_users.fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then_some(BigUser { user: BIG_FROM, items: BIG_ITEMS })
    }

    fn tell(&self) -> String {
        let version = self.tidb.sql("SELECT VERSION()").unwrap_or_default();
        format!(
            "TiDB {}, one process with its own store, behind toxiproxy, and no feed",
            version.trim()
        )
    }
}

/// A user with a long history, of whom no replica has heard.
fn long_history(tidb: &Tidb) -> Result<(), Failed> {
    for before in (0..BIG_ITEMS).step_by(ROWS_AT_ONCE as usize) {
        tidb.sql(&format!(
            "SET cte_max_recursion_depth = {ROWS_AT_ONCE}; INSERT INTO seen.history_feed_read \
             WITH RECURSIVE seq AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM seq WHERE n < {ROWS_AT_ONCE}) \
             SELECT {BIG_FROM}, 1, n + {before}, 0 FROM seq"
        ))?;
    }
    Ok(())
}
