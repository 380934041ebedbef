//! What a server says about the servers around it: its Galera cluster, its group, its semi-synchronous
//! replicas.

use std::collections::BTreeMap;

use sqlx::{Executor as _, MySqlConnection, Row as _};

use super::dialect::Dialect;
use super::errors::{Failure, Stage};

/// A node that takes writes for a Galera cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Galera {
    /// The cluster's own id, the same at all of its nodes.
    pub cluster: String,
}

/// What a server's variables and counters come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// It is a node of a Galera cluster, or `Err`: why it must not take writes for it.
    pub galera: Option<Result<Galera, String>>,
    /// Why it must not take writes for its replication group, if it is a member of one.
    pub outside_group: Option<String>,
    /// Semi-synchronous replication is switched on there, and no replica answers: commits wait for
    /// nobody.
    pub waits_for_nobody: bool,
}

/// Names with values, as `SHOW` gives them, in small letters.
pub(crate) type Settings = BTreeMap<String, String>;

/// A node's state in which it has everything: `Synced`.
const SYNCED: &str = "4";
/// What is asked for, of variables and of counters alike.
const ASKED: &str = "WHERE Variable_name IN ('wsrep_on', 'wsrep_provider', 'wsrep_ready', \
     'wsrep_cluster_status', 'wsrep_local_state', 'wsrep_local_state_comment', \
     'wsrep_cluster_state_uuid', 'rpl_semi_sync_master_enabled', 'rpl_semi_sync_source_enabled', \
     'rpl_semi_sync_master_status', 'rpl_semi_sync_source_status')";

/// What a session at a Galera node is told. Each node applies what others wrote a little later: a
/// read, and the beginning of a transaction that writes, waits until everything committed before it is
/// there, whichever node that went through. Without the wait an unmark might find nothing to remove.
/// A node outside of the primary component answers nothing.
pub(crate) const SEES_WHAT_WAS_WRITTEN: &str =
    "; SET SESSION wsrep_sync_wait = 1; SET SESSION wsrep_dirty_reads = OFF";

/// Asks a server whether it is a node of a Galera cluster.
pub(crate) async fn is_node(
    connection: &mut MySqlConnection,
    dialect: Dialect,
) -> Result<bool, Failure> {
    if dialect == Dialect::TiDb {
        return Ok(false);
    }
    Ok(is_galera(&settings(connection, &["VARIABLES"]).await?))
}

/// What a server tells of those kinds.
async fn settings(connection: &mut MySqlConnection, kinds: &[&str]) -> Result<Settings, Failure> {
    let mut settings = Settings::new();
    for kind in kinds {
        let sql = super::sql::safe(format!("SHOW GLOBAL {kind} {ASKED}"));
        let rows = connection.fetch_all(sqlx::raw_sql(sql)).await.map_err(failed)?;
        for row in rows {
            let (name, value): (String, String) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            settings.insert(name.to_ascii_lowercase(), value);
        }
    }
    Ok(settings)
}

impl Surroundings {
    /// Asks a server that takes writes.
    pub(crate) async fn of(
        connection: &mut MySqlConnection,
        dialect: Dialect,
    ) -> Result<Self, Failure> {
        if dialect == Dialect::TiDb {
            return Ok(Self::default());
        }
        let mut found = Self::read(&settings(connection, &["VARIABLES", "STATUS"]).await?);
        if dialect == Dialect::MySql {
            found.outside_group = outside_group(connection).await?;
        }
        Ok(found)
    }

    /// What the values mean.
    pub(crate) fn read(settings: &Settings) -> Self {
        let is_on = |name: &str| {
            settings
                .get(name)
                .is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "ON" | "1"))
        };
        let semi_sync = |name: &str| {
            is_on(&format!("rpl_semi_sync_{name}_enabled"))
                && !is_on(&format!("rpl_semi_sync_{name}_status"))
        };
        Self {
            galera: is_galera(settings).then(|| node(settings)),
            outside_group: None,
            waits_for_nobody: semi_sync("master") || semi_sync("source"),
        }
    }
}

/// True if the server is a node of a Galera cluster, in whatever state.
pub(crate) fn is_galera(settings: &Settings) -> bool {
    let provider = settings.get("wsrep_provider").map_or("none", String::as_str);
    let on = settings.get("wsrep_on").map_or("OFF", String::as_str);
    matches!(on.to_ascii_uppercase().as_str(), "ON" | "1") && !matches!(provider, "" | "none")
}

fn node(settings: &Settings) -> Result<Galera, String> {
    let value = |name: &str| settings.get(name).map_or("", String::as_str);
    let status = value("wsrep_cluster_status");
    if !status.eq_ignore_ascii_case("primary") {
        return Err(format!(
            "is not in its cluster's primary component (wsrep_cluster_status={status})"
        ));
    }
    if !value("wsrep_ready").eq_ignore_ascii_case("on") {
        return Err("is not ready for its cluster's work (wsrep_ready=OFF)".to_owned());
    }
    if value("wsrep_local_state") != SYNCED {
        let state = value("wsrep_local_state_comment");
        return Err(format!("is not in step with its cluster ({state}, not Synced)"));
    }
    match value("wsrep_cluster_state_uuid") {
        "" => Err("does not tell which cluster it belongs to".to_owned()),
        cluster => Ok(Galera { cluster: cluster.to_owned() }),
    }
}

fn failed(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Open, error)
}

/// What a member of a replication group says of itself. Whoever is not told, for want of a privilege or
/// of the table, goes by `read_only` alone, which such a group keeps at all members but its primary.
async fn outside_group(connection: &mut MySqlConnection) -> Result<Option<String>, Failure> {
    let sql = "SELECT CAST(MEMBER_STATE AS CHAR), CAST(MEMBER_ROLE AS CHAR) FROM \
               performance_schema.replication_group_members WHERE MEMBER_ID = @@global.server_uuid";
    match connection.fetch_optional(sqlx::raw_sql(sql)).await {
        Ok(None) => Ok(None),
        Ok(Some(row)) => {
            let state: String = row.try_get(0).map_err(failed)?;
            let role: String = row.try_get(1).map_err(failed)?;
            Ok(member_outside(&state, &role))
        }
        Err(error) if error.as_database_error().is_some() => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Why a member must not take writes. One that has not joined yet, or was told to leave, is `OFFLINE`
/// and stands alone.
fn member_outside(state: &str, role: &str) -> Option<String> {
    match (state, role) {
        ("OFFLINE" | "", _) | ("ONLINE", "PRIMARY" | "") => None,
        ("ONLINE", role) => Some(format!("is a member of its group in the role {role}")),
        (state, _) => Some(format!("is a member of its group in the state {state}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node in order, with some values changed.
    fn node_with(changed: &[(&str, &str)]) -> Surroundings {
        let mut settings: Settings = [
            ("wsrep_on", "ON"),
            ("wsrep_provider", "/usr/lib/galera/libgalera_smm.so"),
            ("wsrep_ready", "ON"),
            ("wsrep_cluster_status", "Primary"),
            ("wsrep_local_state", "4"),
            ("wsrep_local_state_comment", "Synced"),
            ("wsrep_cluster_state_uuid", "c1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in changed {
            settings.insert((*name).to_owned(), (*value).to_owned());
        }
        Surroundings::read(&settings)
    }

    #[test]
    fn a_synced_node_of_the_primary_component_takes_writes() {
        let cluster = Galera { cluster: "c1".to_owned() };
        assert_eq!(node_with(&[]).galera, Some(Ok(cluster)));
        for (name, value, named) in [
            ("wsrep_cluster_status", "non-Primary", "wsrep_cluster_status=non-Primary"),
            ("wsrep_cluster_status", "Disconnected", "primary component"),
            ("wsrep_ready", "OFF", "wsrep_ready"),
            ("wsrep_local_state", "2", "not Synced"),
            ("wsrep_cluster_state_uuid", "", "which cluster"),
        ] {
            let said = node_with(&[(name, value)]).galera.expect("a node").expect_err(named);
            assert!(said.contains(named), "{said}");
        }
    }

    #[test]
    fn a_server_without_a_cluster_is_no_node() {
        for (name, value) in
            [("wsrep_on", "OFF"), ("wsrep_provider", "none"), ("wsrep_provider", "")]
        {
            assert_eq!(node_with(&[(name, value)]).galera, None);
        }
        assert_eq!(Surroundings::read(&Settings::new()), Surroundings::default());
    }

    #[test]
    fn semi_synchronous_replication_that_waits_for_nobody_is_told() {
        let read = |pairs: &[(&str, &str)]| {
            let all = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            Surroundings::read(&all.collect()).waits_for_nobody
        };
        for name in ["master", "source"] {
            let (enabled, status) =
                (format!("rpl_semi_sync_{name}_enabled"), format!("rpl_semi_sync_{name}_status"));
            assert!(read(&[(&enabled, "ON"), (&status, "OFF")]));
            assert!(!read(&[(&enabled, "ON"), (&status, "ON")]));
            assert!(!read(&[(&enabled, "OFF"), (&status, "OFF")]));
        }
    }

    #[test]
    fn only_a_groups_primary_takes_writes_for_it() {
        assert_eq!(member_outside("ONLINE", "PRIMARY"), None);
        assert_eq!(member_outside("OFFLINE", ""), None);
        for (state, role) in [
            ("ONLINE", "SECONDARY"),
            ("RECOVERING", "SECONDARY"),
            ("ERROR", ""),
            ("UNREACHABLE", "PRIMARY"),
        ] {
            assert!(member_outside(state, role).is_some(), "{state} {role}");
        }
    }
}
