//! Who wrote a record, as far as it says.

use seen_dialect::Dialect;
use serde::Deserialize;

/// What a record says of its writer.
pub(super) struct Look {
    /// The producer, its version and format.
    pub name: String,
    /// True if it holds key columns only, as TiCDC sends rows that are too large.
    pub is_only_key: bool,
}

#[derive(Default, Deserialize)]
struct Members {
    payload: Option<Box<Members>>,
    source: Option<Source>,
    #[serde(rename = "_tidb")]
    extension: Option<Extension>,
}

#[derive(Deserialize)]
struct Source {
    version: Option<String>,
    connector: Option<String>,
}

#[derive(Deserialize)]
struct Extension {
    #[serde(default, rename = "onlyHandleKey")]
    only_handle_key: bool,
}

/// Looks at a record's value.
pub(super) fn look(dialect: Dialect, value: &[u8]) -> Look {
    // Other formats have no such members, and are no JSON.
    let members: Members = serde_json::from_slice(value).unwrap_or_default();
    let members = match members.payload {
        Some(payload) => *payload,
        None => members,
    };
    let version = members.source.as_ref().and_then(|source| source.version.as_deref());
    let connector = members.source.as_ref().and_then(|source| source.connector.as_deref());
    let said = |what: &str| match version {
        Some(version) => format!("{what} {version}"),
        None => format!("{what} of an unknown version"),
    };
    let name = match (dialect, connector) {
        (Dialect::Debezium, Some(connector)) => {
            format!("{}, connector {connector}", said("Debezium"))
        }
        (Dialect::Debezium, None) => "Debezium's heartbeats or transactions".to_owned(),
        (Dialect::DebeziumUnwrapped, _) => {
            "Debezium behind ExtractNewRecordState (its version is lost with the envelope)"
                .to_owned()
        }
        (Dialect::TicdcDebezium, _) => {
            format!("TiCDC, protocol debezium (it imitates {})", said("Debezium"))
        }
        (Dialect::CanalJson, _) if members.extension.is_some() => {
            "TiCDC, protocol canal-json with enable-tidb-extension".to_owned()
        }
        (Dialect::CanalJson, _) => "TiCDC, protocol canal-json".to_owned(),
        (Dialect::OpenProtocol, _) => "TiCDC, protocol open-protocol".to_owned(),
        (Dialect::Simple, _) => "TiCDC, protocol simple".to_owned(),
        (Dialect::TicdcMaxwell, _) => "TiCDC, protocol maxwell".to_owned(),
        (Dialect::Avro, _) => "TiCDC, protocol avro".to_owned(),
        (Dialect::CanalFlat, _) => "Canal, flat JSON (it says no version)".to_owned(),
        (Dialect::Maxwell, _) => "Maxwell (it says no version)".to_owned(),
        (Dialect::TidbBinlog, _) => "TiDB Binlog's drainer".to_owned(),
        (Dialect::Seen, _) => "seen relay, version 1 of the format".to_owned(),
    };
    let is_only_key = members.extension.is_some_and(|extension| extension.only_handle_key);
    Look { name, is_only_key }
}
