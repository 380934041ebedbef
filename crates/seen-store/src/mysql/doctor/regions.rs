//! Into how many regions a TiDB table is split, and which users would divide its rows into equal
//! shares. Few regions are few servers that do all the work, however many the cluster has.

use std::sync::Arc;

use sqlx::MySqlConnection;

use super::super::dialect::{Dialect, Priority};
use super::super::errors::Failure;
use super::super::finding::Finding;
use super::super::mapping::{KindColumn, Name};
use super::super::options::MySqlOptions;
use super::super::server::ServerAddress;
use super::tables::{Sound, schema_of};
use super::{Doctor, ask, number, text};

/// A table of fewer regions may be split: enough for the work to spread, few enough to cost nothing.
const REGIONS_WANTED: usize = 16;
/// Fewer rows say nothing about the users to come.
const ROWS_MIN: f64 = 10_000.0;
/// Places at which some rows are looked at: so many at equal distances, and as many that lie the denser
/// the lower, since most ids are given out from the lowest on.
const PLACES: u32 = 32;
/// Rows that are looked at in each place.
const ROWS_PER_PLACE: usize = 200;

/// What was seen at one place: the users of the rows that follow it, ascending.
struct Sample {
    from: u64,
    users: Vec<u64>,
}

/// What there is to split.
struct Splittable {
    /// The partitions that are written to; none if the table has none.
    partitions: Vec<Name>,
    regions: usize,
}

impl Doctor {
    /// Looks at the regions of a table of the store's own on TiDB.
    pub(super) async fn regions(
        &mut self,
        connection: &mut MySqlConnection,
        server: &ServerAddress,
        sound: &Sound,
    ) {
        if sound.dialect != Dialect::TiDb || sound.mapping.foreign {
            return;
        }
        let options = Arc::clone(&self.options);
        let subject = format!("regions of {}", sound.mapping.qualified());
        match look(connection, &options, sound).await {
            Ok(None) => {}
            Ok(Some((what, mend))) => self.find(Finding::note(subject, what).mended_by(mend)),
            Err(failure) => {
                let why = failure.into_store_error(&server.to_string()).message;
                self.find(Finding::note(subject, format!("cannot be looked at: {why}")));
            }
        }
    }
}

/// What is so and the statement that splits; `None` where nothing is to be split.
async fn look(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    sound: &Sound,
) -> Result<Option<(String, String)>, Failure> {
    let Splittable { partitions, regions } = splittable(connection, options, sound).await?;
    if regions >= REGIONS_WANTED * partitions.len().max(1) {
        return Ok(None);
    }
    let Some((lowest, highest)) = super::sample::range(connection, options, sound).await? else {
        return Ok(None);
    };
    let bounds = u64::try_from(lowest).ok().zip(u64::try_from(highest).ok());
    let Some((lowest, highest)) = bounds else { return Ok(None) };
    let mut samples = Vec::new();
    for from in places(lowest, highest) {
        let users = users_from(connection, options, sound, from).await?;
        samples.push(Sample { from, users });
    }
    let Some((rows, users)) = equal_shares(&samples, highest) else { return Ok(None) };
    let of = match partitions.as_slice() {
        [] => String::new(),
        [_] => " of the partition that is written to".to_owned(),
        many => format!(" of the {} partitions from the present one on", many.len()),
    };
    let what = format!(
        "there are {regions}{of}, so that few servers do the work of all users until TiDB splits them, \
         which it does when they are large or read much; before an import or a launch they can be \
         split by hand, here at equal shares of some {rows:.0} rows (small ones are joined again after \
         an hour, unless the table's attribute merge_option is deny)"
    );
    Ok(Some((what, statement(sound, &partitions, &users))))
}

async fn splittable(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    sound: &Sound,
) -> Result<Splittable, Failure> {
    let (schema, table) = (schema_of(&sound.mapping), sound.mapping.table.as_str());
    let mut partitions = Vec::new();
    if let Some(retention) = sound.settings.retention {
        let sql = format!(
            "SELECT CAST(partition_name AS CHAR), CAST(partition_description AS CHAR) \
             FROM information_schema.partitions WHERE table_schema = {schema} \
             AND table_name = '{table}' ORDER BY partition_ordinal_position"
        );
        let present = u64::from(retention.bucket_at(sound.now));
        let rows = ask(connection, options, sql).await?;
        // The one without an end is empty as long as the worker comes by.
        let written = rows.iter().filter(|row| number(row, 1) > present);
        partitions = written.filter_map(|row| Name::new("partition", text(row, 0)).ok()).collect();
    }
    let of = listed(&partitions);
    let sql = format!("SHOW TABLE {}{of} REGIONS", sound.mapping.qualified());
    let regions = ask(connection, options, sql).await?.len();
    Ok(Splittable { partitions, regions })
}

/// ` PARTITION (...)`, or nothing.
fn listed(partitions: &[Name]) -> String {
    if partitions.is_empty() {
        return String::new();
    }
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    format!(" PARTITION ({})", names.join(", "))
}

/// Splits before the first row of each of these users.
fn statement(sound: &Sound, partitions: &[Name], users: &[u64]) -> String {
    let kind = if matches!(sound.mapping.kind, KindColumn::Column(_)) { ", 0" } else { "" };
    let bucket = if sound.mapping.bucket.is_some() { ", 0" } else { "" };
    let keys: Vec<String> = users.iter().map(|user| format!("({user}{kind}, 0{bucket})")).collect();
    let (table, of) = (sound.mapping.qualified(), listed(partitions));
    format!("SPLIT TABLE {table}{of} BY {}", keys.join(", "))
}

async fn users_from(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    sound: &Sound,
    from: u64,
) -> Result<Vec<u64>, Failure> {
    let (table, user) = (sound.mapping.qualified(), &sound.mapping.user);
    let low = sound.dialect.priority(Priority::Low);
    let sql = format!(
        "SELECT {low}{user} FROM {table} WHERE {user} >= {from} ORDER BY {user} \
         LIMIT {ROWS_PER_PLACE}"
    );
    let rows = ask(connection, options, sql).await?;
    Ok(rows.iter().map(|row| number(row, 0)).collect())
}

/// The places to look at, ascending.
fn places(lowest: u64, highest: u64) -> Vec<u64> {
    let span = highest.saturating_sub(lowest);
    let even = (0..PLACES).map(|n| u128::from(span) * u128::from(n) / u128::from(PLACES));
    let even = even.map(|offset| u64::try_from(offset).unwrap_or(span));
    let dense = (0..PLACES).map(|n| (span as f64).powf(f64::from(n) / f64::from(PLACES)) as u64);
    let mut places: Vec<u64> =
        even.chain(dense).map(|offset| lowest.saturating_add(offset.min(span))).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// An estimate of all rows, and the users before whom to split so that each region has the same share
/// of them. `None` where there are too few rows to say.
fn equal_shares(samples: &[Sample], highest: u64) -> Option<(f64, Vec<u64>)> {
    let end = u128::from(highest) + 1;
    let nexts = samples.iter().skip(1).map(|next| u128::from(next.from)).chain([end]);
    let mut stretches: Vec<(f64, f64, f64)> = Vec::with_capacity(samples.len());
    for (Sample { from, users }, next) in samples.iter().zip(nexts) {
        let (from, last) = (u128::from(*from), u128::from(users.last().copied().unwrap_or(0)));
        let rows = match users.len() < ROWS_PER_PLACE || last >= next {
            // All rows up to the next place were seen.
            true => users.iter().filter(|user| u128::from(**user) < next).count() as f64,
            // They go on as densely as they began.
            false => users.len() as f64 * (next - from) as f64 / (last - from + 1) as f64,
        };
        stretches.push((from as f64, next as f64, rows));
    }
    let all: f64 = stretches.iter().map(|(.., rows)| rows).sum();
    if all < ROWS_MIN {
        return None;
    }
    let mut users = Vec::with_capacity(REGIONS_WANTED);
    let (mut before, mut share) = (0.0, 1);
    for (from, next, rows) in stretches {
        while share < REGIONS_WANTED {
            let wanted = all * share as f64 / REGIONS_WANTED as f64;
            if wanted > before + rows {
                break;
            }
            let within = if rows > 0.0 { (wanted - before) / rows } else { 0.0 };
            users.push((from + (next - from) * within) as u64);
            share += 1;
        }
        before += rows;
    }
    users.dedup();
    Some((all, users))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shares of the rows that the regions get, the largest first. `all`: the rows' users,
    /// ascending.
    fn largest_share(all: &[u64]) -> f64 {
        let (lowest, highest) = (all[0], all[all.len() - 1]);
        let sample = |from: u64| {
            let at = all.partition_point(|user| *user < from);
            Sample { from, users: all[at..].iter().take(ROWS_PER_PLACE).copied().collect() }
        };
        let samples: Vec<Sample> = places(lowest, highest).into_iter().map(sample).collect();
        let (_, users) = equal_shares(&samples, highest).expect("enough rows");
        assert!(users.is_sorted_by(|a, b| a < b) && users.len() < REGIONS_WANTED, "{users:?}");
        let mut bounds: Vec<usize> =
            users.iter().map(|bound| all.partition_point(|user| user < bound)).collect();
        bounds.push(all.len());
        let firsts = [0].into_iter().chain(bounds.iter().copied());
        let widest = bounds.iter().zip(firsts).map(|(bound, first)| bound - first).max();
        widest.unwrap_or(0) as f64 / all.len() as f64
    }

    #[test]
    fn regions_get_like_shares_of_whatever_ids_there_are() {
        let counted: Vec<u64> = (0..200_000).map(|row| 1_000 + row / 10).collect();
        let mut scattered: Vec<u64> =
            (1..200_000_u64).map(|row| row.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        scattered.sort_unstable();
        // Old users with long histories, young ones with short ones.
        let mut aging: Vec<u64> = (0..200_000_u64).map(|row| row * row / 4_000_000).collect();
        aging.sort_unstable();
        // And a few ids of another kind far away.
        let mut outlying = counted.clone();
        outlying.extend((0..50).map(|n| u64::MAX - 50 + n));
        for (what, all) in [
            ("counted", counted),
            ("scattered", scattered),
            ("aging", aging),
            ("outlying", outlying),
        ] {
            let share = largest_share(&all);
            assert!(share < 0.25, "{what}: the largest region has {share} of all rows");
        }
    }

    #[test]
    fn a_few_rows_are_left_as_they_are() {
        let samples = [Sample { from: 3, users: vec![3, 4, 9] }];
        assert!(equal_shares(&samples, 9).is_none());
        assert!(equal_shares(&[], 0).is_none());
        assert_eq!(places(7, 7), [7]);
        assert_eq!((places(0, u64::MAX).first(), places(1, 0)), (Some(&0), vec![1]));
    }
}
