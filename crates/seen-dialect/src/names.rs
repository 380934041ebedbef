//! What the formats are called, and what is known of those who write them.

use crate::decoder::Dialect;

impl Dialect {
    /// Every format, in the order in which they are looked for.
    pub const ALL: [Self; 12] = [
        Self::Seen,
        Self::Debezium,
        Self::DebeziumUnwrapped,
        Self::CanalJson,
        Self::Maxwell,
        Self::CanalFlat,
        Self::OpenProtocol,
        Self::Simple,
        Self::TicdcDebezium,
        Self::TicdcMaxwell,
        Self::TidbBinlog,
        Self::Avro,
    ];

    /// A short stable name: what `--dialect` takes, and a metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Debezium => "debezium",
            Self::DebeziumUnwrapped => "debezium-unwrapped",
            Self::CanalJson => "canal-json",
            Self::Maxwell => "maxwell",
            Self::CanalFlat => "canal",
            Self::OpenProtocol => "open-protocol",
            Self::Simple => "simple",
            Self::TicdcDebezium => "ticdc-debezium",
            Self::TicdcMaxwell => "ticdc-maxwell",
            Self::TidbBinlog => "tidb-binlog",
            Self::Avro => "avro",
        }
    }

    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// True if rows of two tables that one commit after the other wrote come in this order where they are
    /// in one partition. TiCDC sorts each table by itself: there a fence in a table of its own proves
    /// nothing about the history, and only watermarks do (rule R9).
    pub const fn orders_tables(self) -> bool {
        match self {
            Self::Seen
            | Self::Debezium
            | Self::DebeziumUnwrapped
            | Self::Maxwell
            | Self::CanalFlat
            | Self::TidbBinlog => true,
            Self::CanalJson
            | Self::OpenProtocol
            | Self::Simple
            | Self::TicdcDebezium
            | Self::TicdcMaxwell
            | Self::Avro => false,
        }
    }
}
