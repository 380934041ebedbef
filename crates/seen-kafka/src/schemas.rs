//! Schemas that records name and do not hold (TiCDC's Avro): given with the options, or looked up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seen_dialect::{Decoder, Dialect, Event, FollowedTable, Record, SchemaError};

/// Looks a schema up by its number in the registry. `None`: the registry does not have it. Blocks.
pub type SchemaLookup = Arc<dyn Fn(u32) -> Result<Option<String>, String> + Send + Sync>;

/// What was not found is asked for again after this time. Meanwhile its records are in doubt.
const AGAIN: Duration = Duration::from_secs(5);
/// Most numbers that are remembered as not found; damaged records could name as many as there are.
const REFUSED_MAX: usize = 1_024;

/// Where the schemas of records are.
#[derive(Clone, Default)]
pub struct SchemaOptions {
    /// Some, by their numbers.
    pub known: Vec<(u32, String)>,
    /// What finds others.
    pub lookup: Option<SchemaLookup>,
}

impl fmt::Debug for SchemaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<u32> = self.known.iter().map(|(id, _)| *id).collect();
        write!(f, "SchemaOptions({numbers:?}, lookup: {})", self.lookup.is_some())
    }
}

impl SchemaOptions {
    /// Gives a decoder those that are known.
    ///
    /// # Errors
    /// One that is none, with its number.
    pub(crate) fn add_known(&self, decoder: &mut Decoder) -> Result<(), (u32, SchemaError)> {
        self.known
            .iter()
            .try_for_each(|(id, json)| decoder.schemas().add(*id, json).map_err(|e| (*id, e)))
    }
}

/// A decoder that finds the schemas which records name.
pub struct RecordDecoder {
    decoder: Decoder,
    lookup: Option<SchemaLookup>,
    /// Until when they are not asked for again.
    refused: BTreeMap<u32, Instant>,
    /// Until when the registry is not asked at all.
    away_until: Option<Instant>,
}

impl fmt::Debug for RecordDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordDecoder").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

impl RecordDecoder {
    /// Schemas that are known must have been looked at before: a bad one is left out.
    pub fn new(
        tables: Vec<FollowedTable>,
        forced: Option<Dialect>,
        schemas: &SchemaOptions,
    ) -> Self {
        let mut decoder = Decoder::new(tables, forced);
        if let Err((schema, error)) = schemas.add_known(&mut decoder) {
            tracing::error!(schema, %error, "a schema is left out");
        }
        Self { decoder, lookup: schemas.lookup.clone(), refused: BTreeMap::new(), away_until: None }
    }

    /// As [`Decoder::decode`]. Blocks where a schema has to be looked up.
    pub fn decode(&mut self, record: &Record<'_>, out: &mut Vec<Event>) -> Option<Dialect> {
        let first = out.len();
        let dialect = self.decoder.decode(record, out);
        if self.add_wanted(Instant::now) {
            out.truncate(first);
            return self.decoder.decode(record, out);
        }
        dialect
    }

    /// Looks up the schemas that are wanted; true if there is a new one, so that the record which named
    /// it can be read again. Blocks as long as the lookup does.
    fn add_wanted(&mut self, now: impl Fn() -> Instant) -> bool {
        let Some(lookup) = &self.lookup else { return false };
        let wanted: Vec<u32> = self.decoder.schemas().wanted().collect();
        if wanted.is_empty() || self.away_until.is_some_and(|until| now() < until) {
            return false;
        }
        let at = now();
        self.refused.retain(|_, until| at < *until);
        let mut is_new = false;
        for id in wanted {
            if self.refused.contains_key(&id) {
                continue;
            }
            let why = match lookup(id) {
                Ok(Some(json)) => match self.decoder.schemas().add(id, &json) {
                    Ok(()) => {
                        is_new = true;
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Ok(None) => "the registry does not have it".to_owned(),
                Err(why) => {
                    // The others would wait as long for nothing.
                    self.away_until = Some(now() + AGAIN);
                    tracing::warn!(schema = id, why, "the schema registry cannot be asked now");
                    return is_new;
                }
            };
            tracing::warn!(schema = id, why, "a schema cannot be had: its records are in doubt");
            // A record that names it wants it again.
            self.decoder.schemas().give_up(id);
            if self.refused.len() < REFUSED_MAX {
                self.refused.insert(id, now() + AGAIN);
            }
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use seen_dialect::What;

    use super::*;

    const SCHEMA: &str = r#"{"type":"record","name":"reads","namespace":"default.db","fields":[
        {"name":"user_id","type":"long"},{"name":"kind","type":"int"},{"name":"item_id","type":"long"},
        {"name":"marked_at_ms","type":"long"}]}"#;

    /// A row of schema 7: user 1, kind 1, item 2, time 3, in Avro's zigzag.
    const ROW: &[u8] = &[0, 0, 0, 0, 7, 2, 2, 4, 6];

    fn decoder(schemas: &SchemaOptions) -> RecordDecoder {
        RecordDecoder::new(vec![FollowedTable::own("db", "reads")], None, schemas)
    }

    fn is_row(decoder: &mut RecordDecoder) -> bool {
        let mut events = Vec::new();
        decoder.decode(&Record { value: Some(ROW), ..Record::default() }, &mut events);
        matches!(events.as_slice(), [event] if matches!(event.what, What::Upsert { .. }))
    }

    #[test]
    fn known_schemas_are_given_and_bad_ones_named() {
        let good = SchemaOptions { known: vec![(7, SCHEMA.to_owned())], lookup: None };
        assert!(is_row(&mut decoder(&good)));
        assert!(!is_row(&mut decoder(&SchemaOptions::default())));
        let bad = SchemaOptions { known: vec![(8, "{}".to_owned())], lookup: None };
        let mut plain = Decoder::new(Vec::new(), None);
        assert_eq!(bad.add_known(&mut plain).expect_err("no schema").0, 8);
    }

    #[test]
    fn what_is_not_found_is_asked_for_again_after_a_while() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let lookup: SchemaLookup =
            Arc::new(move |id| match count.fetch_add(1, Ordering::Relaxed) {
                0 => Err("away".to_owned()),
                1 => Ok(None),
                _ => Ok((id == 7).then(|| SCHEMA.to_owned())),
            });
        let mut decoder = decoder(&SchemaOptions { known: Vec::new(), lookup: Some(lookup) });
        assert!(!decoder.add_wanted(Instant::now), "nothing is wanted");
        assert!(!is_row(&mut decoder) && !is_row(&mut decoder));
        assert_eq!(asked.load(Ordering::Relaxed), 1, "a registry that is away is left alone");
        let back = decoder.away_until.expect("it was away");
        assert!(!decoder.add_wanted(|| back) && !is_row(&mut decoder));
        assert_eq!(asked.load(Ordering::Relaxed), 2, "nor what it does not have asked for so soon");
        let again = *decoder.refused.values().next().expect("refused");
        assert!(decoder.add_wanted(|| again) && is_row(&mut decoder));
        assert_eq!(asked.load(Ordering::Relaxed), 3, "it has all");
    }

    #[test]
    fn numbers_that_nobody_has_do_not_keep_a_new_one_out() {
        let lookup: SchemaLookup = Arc::new(|id| Ok((id == 7).then(|| SCHEMA.to_owned())));
        let mut decoder = decoder(&SchemaOptions { known: Vec::new(), lookup: Some(lookup) });
        for id in 100..300_u32 {
            let value = [&[0][..], &id.to_be_bytes(), &[2, 2, 4, 6]].concat();
            let record = Record { value: Some(&value), ..Record::default() };
            decoder.decode(&record, &mut Vec::new());
        }
        assert!(is_row(&mut decoder));
    }
}
