//! A look at everything that a store on database servers depends on: the servers, their settings, the
//! user's privileges, the tables, and how long histories really are. Changes nothing, and goes on
//! where one thing cannot be looked at: what is missing is a finding.

mod grants;
mod lengths;
mod privileges;
mod regions;
mod sample;
mod servers;
mod settings;
mod statements;
mod tables;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use seen_filter::{NamespaceId, NamespaceSettings, Shard, StoreError};
use sqlx::{MySqlConnection, Row as _};

use super::MySqlStore;
use super::connection::{Role, connect};
use super::dialect::{Dialect, ServerFacts};
use super::errors::{self, Failure, Stage};
use super::finding::Finding;
use super::mapping::Name;
use super::options::MySqlOptions;
use super::server::ServerAddress;
use super::sql::safe;
use crate::request;

pub use lengths::{ACTIVE_USERS, LengthEstimate};

/// Where changes are to come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedFeed {
    /// From the servers' binary log, where they have one.
    #[default]
    Auto,
    /// From the servers' binary log.
    Binlog,
    /// From nowhere.
    None,
}

impl WantedFeed {
    /// True if the binary log of such a server is to be followed.
    fn follows(self, dialect: Dialect) -> bool {
        self != Self::None && dialect != Dialect::TiDb
    }
}

/// How far an examination goes.
#[derive(Clone, Copy, Debug)]
pub struct ExamineOptions {
    /// Where changes are to come from.
    pub feed: WantedFeed,
    /// S of rule R2, in milliseconds: the longest time after which a commit that the binary log has shown
    /// is seen by a fresh read.
    pub snapshot_lag_ms: u64,
    /// Most users of a namespace whose histories are counted, in each shard.
    pub users_max: u64,
    /// Most rows of a table of somebody else's that are looked at.
    pub rows_max: u64,
}

impl Default for ExamineOptions {
    fn default() -> Self {
        Self { feed: WantedFeed::Auto, snapshot_lag_ms: 2_000, users_max: 2_000, rows_max: 100_000 }
    }
}

/// What an examination found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// What is wrong, or good to know; the worst first.
    pub findings: Vec<Finding>,
    /// How long histories are and what memory they take, namespace by namespace; without those that
    /// have no rows.
    pub lengths: Vec<LengthEstimate>,
}

/// What is examined, and what was found so far.
struct Doctor {
    options: Arc<MySqlOptions>,
    namespaces: Vec<NamespaceSettings>,
    how: ExamineOptions,
    findings: Vec<Finding>,
    /// Lengths of single histories, by namespace, and whether these are all there are.
    lengths: BTreeMap<NamespaceId, Lengths>,
    /// The time zone of each server's sessions that set none.
    zones: BTreeMap<ServerAddress, String>,
}

/// Lengths of single histories.
struct Lengths {
    rows: Vec<u64>,
    are_all: bool,
}

impl MySqlStore {
    /// Looks at the servers, settings, privileges and tables of a store, whether or not it could be
    /// opened. Changes nothing, and costs little however large the tables are.
    ///
    /// # Errors
    /// `InvalidRequest` for options or namespaces out of range; `Unavailable` if no server answers,
    /// with the reason of each. Everything else is a finding.
    pub async fn examine(
        options: MySqlOptions,
        namespaces: Vec<NamespaceSettings>,
        how: ExamineOptions,
    ) -> Result<Examination, StoreError> {
        options.validate()?;
        request::namespaces(&namespaces)?;
        let mut doctor = Doctor {
            options: Arc::new(options),
            namespaces,
            how,
            findings: Vec::new(),
            lengths: BTreeMap::new(),
            zones: BTreeMap::new(),
        };
        let servers = doctor.visit_servers().await?;
        for number in 0..doctor.options.shards.len() {
            let shard = Shard::new(u16::try_from(number).unwrap_or(u16::MAX));
            if let Some(chosen) = doctor.standing(shard, &servers).await {
                doctor.visit_shard(shard, &chosen).await;
            }
        }
        Ok(doctor.end())
    }
}

impl Doctor {
    fn end(mut self) -> Examination {
        // Stable: what belongs together stays together. The same is said of several shards once.
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let mut findings: Vec<Finding> = Vec::with_capacity(self.findings.len());
        for finding in self.findings {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        let estimate = |settings: &NamespaceSettings| {
            let lengths = self.lengths.remove(&settings.id)?;
            LengthEstimate::of(settings, lengths.rows, lengths.are_all)
        };
        Examination { findings, lengths: self.namespaces.iter().filter_map(estimate).collect() }
    }

    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Opens a connection for one part of the examination: one that fails or hangs leaves the others
    /// theirs. `None`, with a finding, where it cannot be had.
    async fn enter(
        &mut self,
        server: &ServerAddress,
        database: &Name,
    ) -> Option<(MySqlConnection, ServerFacts)> {
        match connect(&self.options, server, Some(database), Role::Page).await {
            Ok(entered) => Some(entered),
            Err(Failure::Sql(_, error)) if errors::number(&error) == Some(NO_DATABASE) => {
                let what = format!("is not there at {server}");
                let mend = format!("CREATE DATABASE {database}");
                self.find(Finding::error(format!("schema {database}"), what).mended_by(mend));
                None
            }
            Err(failure) => {
                self.find(unlooked(&format!("schema {database}"), failure, server));
                None
            }
        }
    }

    /// What a part of the examination came to; `None`, with a finding, where it failed.
    fn had<T>(
        &mut self,
        subject: &str,
        server: &ServerAddress,
        done: Result<T, Failure>,
    ) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(failure) => {
                self.find(unlooked(subject, failure, server));
                None
            }
        }
    }
}

/// No such schema.
const NO_DATABASE: u16 = 1049;

/// Something that could not be looked at.
fn unlooked(subject: &str, failure: Failure, server: &ServerAddress) -> Finding {
    let why = failure.into_store_error(&server.to_string()).message;
    Finding::error(subject, format!("cannot be looked at: {why}"))
}

/// Bounds a question: the servers' own limit comes first.
async fn within<T>(
    options: &MySqlOptions,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let limit_ms = Role::Page.patience_ms(options);
    let done = tokio::time::timeout(Duration::from_millis(limit_ms), work).await;
    done.unwrap_or(Err(Failure::Silent(Stage::Open, limit_ms)))
}

/// A row of texts, as a server sends them.
type Texts = Vec<Option<String>>;

/// Asks one question, by text, whatever the answer's types are.
async fn ask(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    sql: String,
) -> Result<Vec<Texts>, Failure> {
    let asked = async {
        let rows = sqlx::raw_sql(safe(sql)).fetch_all(connection).await;
        rows.map_err(|error| Failure::Sql(Stage::Open, error))
    };
    let rows = within(options, asked).await?;
    let texts = |row: &sqlx::mysql::MySqlRow| -> Result<Texts, sqlx::Error> {
        let text = |n| {
            let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(n)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        (0..row.len()).map(text).collect()
    };
    let read: Result<_, sqlx::Error> = rows.iter().map(texts).collect();
    read.map_err(|error| Failure::Sql(Stage::Open, error))
}

/// The text at a place of a row; none for NULL.
fn text(row: &Texts, place: usize) -> &str {
    row.get(place).and_then(Option::as_deref).unwrap_or_default()
}

/// The number at a place of a row; 0 for NULL.
fn number(row: &Texts, place: usize) -> u64 {
    text(row, place).parse().unwrap_or(0)
}
