//! From a record to its events: which format it is of is told from the record itself.

use crate::binary;
use crate::event::Event;
use crate::record::Record;
use crate::table::FollowedTable;
use crate::ticdc_avro::Schemas;
use crate::{json, json_record, message_key};

/// A format of change events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The project's own.
    Seen,
    /// Debezium's JSON, with or without schema.
    Debezium,
    /// Debezium's rows without their envelope (`ExtractNewRecordState`).
    DebeziumUnwrapped,
    /// TiCDC's canal-json.
    CanalJson,
    /// Maxwell.
    Maxwell,
    /// Canal's flat JSON.
    CanalFlat,
    /// TiCDC's open protocol.
    OpenProtocol,
    /// TiCDC's simple protocol, JSON or Avro.
    Simple,
    /// TiCDC's Debezium flavour.
    TicdcDebezium,
    /// TiCDC's Maxwell flavour.
    TicdcMaxwell,
    /// TiDB Binlog's protobuf, by the drainer.
    TidbBinlog,
    /// TiCDC's Avro.
    Avro,
}

/// Reads records. Keeps what earlier records said about the form of later ones (schemas), nothing else.
#[derive(Debug)]
pub struct Decoder {
    tables: Vec<FollowedTable>,
    forced: Option<Dialect>,
    schemas: Schemas,
    json: json_record::State,
}

impl Decoder {
    /// A decoder for these tables; `forced` takes every record for one of that format.
    pub fn new(tables: Vec<FollowedTable>, forced: Option<Dialect>) -> Self {
        let schemas = Schemas::new(&tables);
        Self { tables, forced, schemas, json: json_record::State::default() }
    }

    /// The tables, as events number them.
    pub fn tables(&self) -> &[FollowedTable] {
        &self.tables
    }

    /// The format that every record is taken for, if one was named.
    pub fn forced(&self) -> Option<Dialect> {
        self.forced
    }

    /// The schemas of [`Dialect::Avro`]: where to add those that a registry holds.
    pub fn schemas(&mut self) -> &mut Schemas {
        &mut self.schemas
    }

    /// Appends what a record says: at least one event, whatever it holds. Returns the format that it was
    /// taken for.
    pub fn decode(&mut self, record: &Record<'_>, out: &mut Vec<Event>) -> Option<Dialect> {
        if let Some(dialect) = self.forced.or_else(|| binary::told(record))
            && binary::decode(dialect, &self.tables, &mut self.schemas, record, out)
        {
            return Some(dialect);
        }
        let first = out.len();
        let told = match record.value {
            Some(value) if json::begins_object(value) => {
                json_record::decode(&self.tables, record, self.forced, &mut self.json, out)
            }
            Some(_) => None,
            None => {
                json_record::tombstone(&self.tables, record, self.forced, &self.json, out);
                None
            }
        };
        if out.len() == first {
            out.push(message_key::doubt(&self.tables, record, "format_unknown"));
        }
        told
    }
}
