//! A look at some rows: what they hold that a history cannot, and how many a user has. Costs little
//! however large the table is.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng as _;
use sqlx::MySqlConnection;

use super::super::dialect::Priority;
use super::super::errors::Failure;
use super::super::finding::Finding;
use super::super::mapping::{KindColumn, TableMapping, TimeUnit};
use super::super::options::MySqlOptions;
use super::super::server::ServerAddress;
use super::tables::{Sound, schema_of};
use super::{Doctor, Lengths, ask, number, text};

/// Places in the range of users at which some in a row are counted.
const PLACES: u64 = 20;
/// Places at which rows are looked at; the first is where the table or its index begins.
const ROW_PLACES: u64 = 5;
/// Rows of a table that is small enough to count as many users as wanted in a row.
const SMALL_TABLE_ROWS: u64 = 1_000_000;

impl Doctor {
    /// Looks at some rows of a table that can be read.
    pub(super) async fn rows(
        &mut self,
        connection: &mut MySqlConnection,
        server: &ServerAddress,
        sound: &Sound,
    ) {
        let options = Arc::clone(&self.options);
        let subject = format!("rows of {}", sound.mapping.qualified());
        let indexed = is_indexed(connection, &options, &sound.mapping).await;
        let Some(indexed) = self.had(&subject, server, indexed) else { return };
        // Without an index each place would be a look at the whole table.
        let range = match indexed {
            false => None,
            true => {
                let range = range(connection, &options, sound).await;
                let Some(range) = self.had(&subject, server, range) else { return };
                range
            }
        };
        if sound.mapping.foreign {
            let most = self.how.rows_max;
            let odd = odd_rows(connection, &options, sound, range, most).await;
            let Some(odd) = self.had(&subject, server, odd) else { return };
            self.findings.extend(odd.findings(&subject));
        }
        let Some(range) = range else { return };
        let mut counted = BTreeMap::new();
        let most = self.how.users_max;
        let all = count(connection, &options, sound, (range, most), &mut counted).await;
        let are_all = match all {
            Ok(all) => all,
            Err(failure) => {
                let why = failure.into_store_error(&server.to_string()).message;
                let users = counted.len();
                let what = format!("counting histories ended after {users} users: {why}");
                self.find(Finding::note(subject, what));
                false
            }
        };
        if counted.is_empty() {
            return;
        }
        let none = Lengths { rows: Vec::new(), are_all: true };
        let lengths = self.lengths.entry(sound.settings.id).or_insert(none);
        lengths.rows.extend(counted.into_values());
        lengths.are_all &= are_all;
    }
}

/// The server's estimate of a table's rows.
async fn table_rows(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    mapping: &TableMapping,
) -> Result<u64, Failure> {
    let (schema, table) = (schema_of(mapping), mapping.table.as_str());
    let sql = format!(
        "SELECT table_rows FROM information_schema.tables \
         WHERE table_schema = {schema} AND table_name = '{table}'"
    );
    Ok(ask(connection, options, sql).await?.first().map_or(0, |row| number(row, 0)))
}

/// True if an index begins with the user.
async fn is_indexed(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    mapping: &TableMapping,
) -> Result<bool, Failure> {
    let (schema, table) = (schema_of(mapping), mapping.table.as_str());
    let user = mapping.user.as_str();
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = {schema} \
         AND table_name = '{table}' AND column_name = '{user}' AND seq_in_index = 1"
    );
    Ok(ask(connection, options, sql).await?.first().is_some_and(|row| number(row, 0) > 0))
}

/// The lowest and the highest user; `None` without rows. Of signed columns they may be negative.
pub(super) async fn range(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    sound: &Sound,
) -> Result<Option<(i128, i128)>, Failure> {
    let (table, user) = (sound.mapping.qualified(), &sound.mapping.user);
    let low = sound.dialect.priority(Priority::Low);
    let sql = format!("SELECT {low}MIN({user}), MAX({user}) FROM {table}");
    let rows = ask(connection, options, sql).await?;
    let read = |place| rows.first().and_then(|row| text(row, place).parse().ok());
    Ok(read(0).zip(read(1)))
}

/// Counts some users' rows, in the order of the key, from the first one and from random ones on. True
/// if these are all users.
async fn count(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    sound: &Sound,
    ((lowest, highest), users_max): ((i128, i128), u64),
    counted: &mut BTreeMap<i128, u64>,
) -> Result<bool, Failure> {
    let (table, user) = (sound.mapping.qualified(), &sound.mapping.user);
    let (visible, each) = (visible(sound), users_max.div_ceil(PLACES));
    let low = sound.dialect.priority(Priority::Low);
    let is_small = table_rows(connection, options, &sound.mapping).await? <= SMALL_TABLE_ROWS;
    for place in 0..PLACES {
        // At first it is found out whether these are all. If not, users of old must not prevail.
        let (from, most) = match place {
            0 if is_small => (lowest, users_max.max(each)),
            0 => (lowest, each),
            _ => (rand::rng().random_range(lowest..=highest), each),
        };
        let sql = format!(
            "SELECT {low}{user}, COUNT(*) FROM {table} WHERE {user} >= {from}{visible} \
             GROUP BY {user} ORDER BY {user} LIMIT {most}"
        );
        let rows = ask(connection, options, sql).await?;
        let are_all = place == 0 && (rows.len() as u64) < most;
        let kept = if are_all { most } else { each };
        for row in rows.iter().take(usize::try_from(kept).unwrap_or(usize::MAX)) {
            if let Ok(user) = text(row, 0).parse() {
                counted.insert(user, number(row, 1));
            }
        }
        if are_all {
            return Ok(true);
        }
    }
    Ok(false)
}

/// ` AND ...`: leaves out what counts as removed or has expired.
fn visible(sound: &Sound) -> String {
    let mut text = String::new();
    if let Some(deleted) = &sound.mapping.deleted {
        text += &match sound.types.deleted_is_time {
            true => format!(" AND {deleted} IS NULL"),
            false => format!(" AND ({deleted} IS NULL OR {deleted} = 0)"),
        };
    }
    if let (Some(bucket), Some(retention)) = (&sound.mapping.bucket, sound.settings.retention) {
        text += &format!(" AND {bucket} >= {}", retention.horizon_at(sound.now));
    }
    text
}

/// Rows that hold what a history cannot.
#[derive(Default)]
struct OddRows {
    seen: u64,
    no_user: u64,
    no_item: u64,
    no_kind: u64,
    no_time: u64,
    zero_time: u64,
}

impl OddRows {
    fn findings(&self, subject: &str) -> Vec<Finding> {
        let seen = self.seen;
        let all = [
            (self.no_user, "have no user (NULL): they are nobody's"),
            (self.no_item, "have no item (NULL): they say nothing"),
            (
                self.no_kind,
                "have a kind that is NULL or not from 0 to 255: they cannot be asked for",
            ),
            (self.no_time, "have no time (NULL): they count as marked at 1970-01-01"),
            (self.zero_time, "have the date 0000-00-00, which is no time"),
        ];
        let found = all.iter().filter(|(rows, _)| *rows > 0);
        let finding = |(rows, what): &(u64, &str)| {
            Finding::warning(subject, format!("{rows} of {seen} rows looked at {what}"))
        };
        found.map(finding).collect()
    }
}

async fn odd_rows(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    sound: &Sound,
    range: Option<(i128, i128)>,
    rows_max: u64,
) -> Result<OddRows, Failure> {
    let mapping = &sound.mapping;
    let low = sound.dialect.priority(Priority::Low);
    let TableMapping { user, item, .. } = mapping;
    let table = mapping.qualified();
    let kind = match &mapping.kind {
        KindColumn::Column(kind) => kind.to_string(),
        KindColumn::Constant(_) => "0".to_owned(),
    };
    let (time, is_date) = match &mapping.time {
        None => ("0".to_owned(), false),
        Some((time, unit)) => {
            let is_date = matches!(unit, TimeUnit::DateTime | TimeUnit::Timestamp);
            (time.to_string(), is_date)
        }
    };
    let zero = if is_date { "YEAR(t) = 0" } else { "FALSE" };
    // The first place takes half: the whole of a small table.
    let (first, each) = (rows_max.div_ceil(2), rows_max / 2 / (ROW_PLACES - 1));
    let mut odd = OddRows::default();
    for place in 0..ROW_PLACES {
        let (from, most) = match (place, range) {
            (0, _) => (String::new(), first),
            (_, None) => break,
            (_, Some((lowest, highest))) => {
                let from = rand::rng().random_range(lowest..=highest);
                (format!(" WHERE {user} >= {from} ORDER BY {user}"), each)
            }
        };
        let sql = format!(
            "SELECT {low}COUNT(*), SUM(u IS NULL), SUM(i IS NULL), \
             SUM(k IS NULL OR k < 0 OR k > 255), SUM(t IS NULL), SUM({zero}) \
             FROM (SELECT {user} AS u, {item} AS i, {kind} AS k, {time} AS t \
             FROM {table}{from} LIMIT {most}) AS looked_at"
        );
        let rows = ask(connection, options, sql).await?;
        let Some(row) = rows.first() else { break };
        let seen = number(row, 0);
        odd.seen += seen;
        odd.no_user += number(row, 1);
        odd.no_item += number(row, 2);
        odd.no_kind += number(row, 3);
        odd.no_time += number(row, 4);
        odd.zero_time += number(row, 5);
        if place == 0 && seen < most {
            break;
        }
    }
    Ok(odd)
}
