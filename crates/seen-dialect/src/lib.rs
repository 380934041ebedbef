//! Change events as their producers really send them: Debezium, TiCDC, Canal, Maxwell, TiDB Binlog and
//! the project's own format, from the bytes of one record to what it says about the followed tables.
//!
//! Nothing here reads a network or a file. The format is told from each record itself, so that several
//! may be mixed in a topic while a pipeline is being changed. Two layers: a dialect finds table, images
//! and position ([`RowChange`]), and `meaning` says what such a change means, in one place for all
//! dialects. Whatever cannot be read is an event too, [`What::Dirty`], about as little as possible: a
//! record is never passed over in silence (coherence rows 21 to 23).

mod avro;
mod binary;
mod canal;
mod cell;
mod cell_text;
mod debezium;
mod debezium_row;
mod decoder;
mod event;
mod followed;
mod json;
mod json_record;
mod maxwell;
mod meaning;
mod message_key;
mod names;
mod open_protocol;
mod position;
mod protobuf;
mod reading;
mod record;
pub mod seen_event;
mod simple;
mod simple_avro;
mod statement;
mod table;
mod ticdc_avro;
mod tidb_binlog;
mod value;

pub use avro::schema::SchemaError;
pub use cell::{Cell, Image, Role};
pub use decoder::{Decoder, Dialect};
pub use event::{ControlRow, Event, Position, Scope, What};
pub use meaning::{Before, RowChange, RowKind};
pub use record::Record;
pub use table::{FollowedTable, KindOf, TableRole, TimeUnit};
pub use ticdc_avro::Schemas;
