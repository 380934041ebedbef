//! Whether statements are prepared once and used again, as the servers count it.

use sqlx::MySqlConnection;

use super::super::dialect::{Dialect, ServerFacts};
use super::super::finding::Finding;
use super::super::server::ServerAddress;
use super::{Doctor, ask, number, text};

impl Doctor {
    /// How often a server's prepared statements are used. Nothing where it does not say.
    pub(super) async fn statements(
        &mut self,
        connection: &mut MySqlConnection,
        address: &ServerAddress,
        facts: &ServerFacts,
    ) {
        let sql = match facts.dialect {
            Dialect::TiDb => {
                "SELECT SUM(exec_count), SUM(exec_count) - SUM(plan_cache_hits) \
                 FROM information_schema.statements_summary WHERE prepared = 1"
            }
            Dialect::MariaDb | Dialect::MySql => {
                "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_stmt_execute', 'Com_stmt_prepare')"
            }
        };
        // That it may not be asked is no fault: no work depends on it.
        let Ok(rows) = ask(connection, &self.options, sql.to_owned()).await else { return };
        let (executed, made) = match facts.dialect {
            Dialect::TiDb => {
                let row = rows.first();
                (row.map_or(0, |row| number(row, 0)), row.map_or(0, |row| number(row, 1)))
            }
            Dialect::MariaDb | Dialect::MySql => {
                let of = |name: &str| {
                    let mut named = rows.iter().filter(|row| text(row, 0) == name);
                    named.next().map_or(0, |row| number(row, 1))
                };
                (of("Com_stmt_execute"), of("Com_stmt_prepare"))
            }
        };
        if executed == 0 {
            return;
        }
        let share = 100.0 * (1.0 - made.min(executed) as f64 / executed as f64);
        let what = match facts.dialect {
            Dialect::TiDb => format!(
                "plans were made for {made} of {executed} executions lately, of all its clients: \
                 {share:.1} % came from its cache"
            ),
            Dialect::MariaDb | Dialect::MySql => format!(
                "{made} were prepared for {executed} executions since its start, of all its clients: \
                 {share:.1} % used one again"
            ),
        };
        self.find(Finding::note(format!("prepared statements at {address}"), what));
    }
}
