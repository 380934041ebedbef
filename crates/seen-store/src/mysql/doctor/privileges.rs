//! What the configured user may do, and what it needs.

use sqlx::{Connection as _, MySqlConnection};

use super::super::connection::{Role, connect};
use super::super::dialect::{Dialect, ServerFacts};
use super::super::errors::Failure;
use super::super::finding::Finding;
use super::super::mapping::{Name, TableMapping};
use super::super::options::MySqlOptions;
use super::super::server::ServerAddress;
use super::super::tables::mapping_of;
use super::grants::Grants;
use super::{Doctor, ask, text};

/// What serving needs.
const DATA: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];
/// What `seen migrate` and the changes of partitions need.
const TABLES: [&str; 4] = ["CREATE", "ALTER", "INDEX", "DROP"];

/// What one user may do at one server.
struct Rights {
    /// Who one is there, as SQL.
    account: String,
    grants: Grants,
    /// True if a schema is named by a pattern in a grant.
    by_pattern: bool,
}

async fn rights(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    dialect: Dialect,
) -> Result<Rights, Failure> {
    let who = ask(connection, options, "SELECT CURRENT_USER(), CURRENT_ROLE()".to_owned()).await?;
    let (user, role) = who.first().map_or(("", ""), |row| (text(row, 0), text(row, 1)));
    // MariaDB shows what the role gives by itself; elsewhere the server's own list of roles is asked.
    let show = match role {
        "" | "NONE" => "SHOW GRANTS".to_owned(),
        _ if dialect == Dialect::MariaDb => "SHOW GRANTS".to_owned(),
        roles => format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"),
    };
    let lines = ask(connection, options, show).await?;
    let by_pattern = match dialect {
        Dialect::MariaDb => true,
        Dialect::TiDb => false,
        // Where parts of global grants can be revoked, names are taken as they are.
        Dialect::MySql => {
            let asked = ask(connection, options, "SELECT @@global.partial_revokes".to_owned());
            asked.await?.first().is_some_and(|row| text(row, 0) != "1")
        }
    };
    Ok(Rights {
        account: account(user),
        grants: Grants::parse(lines.iter().map(|row| text(row, 0))),
        by_pattern,
    })
}

/// `user@host` as the server says it, as SQL.
fn account(user: &str) -> String {
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "''");
    format!("'{}'@'{}'", quoted(name), quoted(host))
}

impl Rights {
    fn missing(
        &self,
        wanted: &[&'static str],
        is_held: impl Fn(&Grants, &str) -> bool,
    ) -> Vec<&'static str> {
        wanted.iter().copied().filter(|one| !is_held(&self.grants, one)).collect()
    }

    /// A schema as a grant names it.
    fn database(&self, name: &Name) -> String {
        let name = name.as_str();
        let name = if self.by_pattern { name.replace('_', "\\_") } else { name.to_owned() };
        format!("`{name}`.*")
    }

    fn finding(
        &self,
        missing: &[&str],
        on: &str,
        why: &str,
        kind: fn(String, String) -> Finding,
    ) -> Option<Finding> {
        if missing.is_empty() {
            return None;
        }
        let list = missing.join(", ");
        let subject = format!("privileges of {}", self.account);
        let mend = format!("GRANT {list} ON {on} TO {}", self.account);
        Some(kind(subject, format!("{list} on {on} is missing: {why}")).mended_by(mend))
    }
}

impl Doctor {
    /// Looks at the user's privileges for one shard's schema. True if its tables may be read, or if
    /// that could not be found out.
    pub(super) async fn privileges(&mut self, server: &ServerAddress, database: &Name) -> bool {
        let subject = format!("privileges at {server}");
        let options = std::sync::Arc::clone(&self.options);
        let opened = connect(&options, server, None, Role::Page).await;
        let Some((mut connection, facts)) = self.had(&subject, server, opened) else {
            return true;
        };
        let asked = rights(&mut connection, &options, facts.dialect).await;
        let Some(rights) = self.had(&subject, server, asked) else { return true };
        let _ = connection.close().await;
        let here = database.as_str();
        let mappings = self.mappings();
        let own = own_tables(&mappings);
        let on_data = |grants: &Grants, one: &str| {
            grants.on_database(one, here) || own.iter().all(|t| grants.on_table(one, here, t))
        };
        let data = rights.missing(&DATA, on_data);
        let on = rights.database(database);
        let why = "nothing can be served";
        self.findings.extend(rights.finding(&data, &on, why, Finding::error));
        let tables = rights.missing(&TABLES, |grants, one| grants.on_database(one, here));
        let why = "`seen migrate` and the change of partitions need it; without it, run `seen migrate` \
                   as another user, and expired rows stay";
        self.findings.extend(rights.finding(&tables, &on, why, Finding::warning));
        self.feed_privileges(&rights, &facts);
        for mapping in mappings.iter().filter(|mapping| mapping.foreign) {
            let (schema, table) = (mapping.database.as_ref(), mapping.table.as_str());
            let schema = schema.unwrap_or(database).clone();
            let wanted = if mapping.read_only { &DATA[..1] } else { &DATA[..] };
            let name = schema.as_str();
            let missing = rights.missing(wanted, |grants, one| grants.on_table(one, name, table));
            let on = format!("{schema}.{}", mapping.table);
            let why = "the namespace of this table cannot be served";
            self.findings.extend(rights.finding(&missing, &on, why, Finding::error));
        }
        !data.contains(&"SELECT")
    }

    fn feed_privileges(&mut self, rights: &Rights, facts: &ServerFacts) {
        if !self.how.feed.follows(facts.dialect) {
            return;
        }
        let wanted = match facts.dialect {
            Dialect::MariaDb => ["REPLICATION SLAVE", "BINLOG MONITOR"],
            _ => ["REPLICATION SLAVE", "REPLICATION CLIENT"],
        };
        let missing = rights.missing(&wanted, |grants, one| grants.everywhere(one));
        let why = "the change feed cannot be followed";
        self.findings.extend(rights.finding(&missing, "*.*", why, Finding::error));
    }

    /// Every namespace's table, as far as the configuration makes sense.
    pub(super) fn mappings(&self) -> Vec<TableMapping> {
        let of = |settings| mapping_of(settings, &self.options.mappings).ok();
        self.namespaces.iter().filter_map(of).collect()
    }
}

/// The names of all tables that are the store's own.
fn own_tables(mappings: &[TableMapping]) -> Vec<String> {
    let fixed = ["seen_store", "seen_namespaces", "seen_control", "seen_leases", "seen_upkeep_log"];
    let own = mappings.iter().filter(|mapping| !mapping.foreign);
    let histories = own.map(|mapping| mapping.table.as_str().to_owned());
    fixed.map(str::to_owned).into_iter().chain(histories).collect()
}

#[cfg(test)]
mod tests {
    use super::account;

    #[test]
    fn an_account_is_quoted() {
        assert_eq!(account("seen@10.0.0.%"), "'seen'@'10.0.0.%'");
        assert_eq!(account("a@b@localhost"), "'a@b'@'localhost'");
        assert_eq!(account("o'x@%"), "'o''x'@'%'");
    }
}
