//! What is printed: one JSON line for each record, and a table at the end.

use std::collections::BTreeMap;

use seen_dialect::{ControlRow, Dialect, Event, Position, Scope, What};
use serde::Serialize;

use super::super::super::CliError;
use super::super::super::calls::table::{Table, grouped};

/// What one record says.
pub(in crate::cli::feed) struct Said<'a> {
    pub line: u64,
    pub events: &'a [Event],
    pub shows_control: bool,
}

#[derive(Serialize)]
struct Printed {
    line: u64,
    events: Vec<PrintedEvent>,
}

/// Members that do not apply are left out; the two that may be unknown are null then.
#[derive(Default, Serialize)]
struct PrintedEvent {
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marked_at_ms: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Option<PrintedPosition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PrintedPosition {
    Number(u64),
    Text(String),
}

impl Said<'_> {
    pub fn json(&self) -> Result<String, CliError> {
        let events = self.events.iter().map(|event| self.event(event)).collect();
        Ok(serde_json::to_string(&Printed { line: self.line, events })?)
    }

    /// The list of the events alone.
    pub fn events_json(&self) -> Result<String, CliError> {
        let events: Vec<_> = self.events.iter().map(|event| self.event(event)).collect();
        Ok(serde_json::to_string(&events)?)
    }

    fn event(&self, event: &Event) -> PrintedEvent {
        let position = event.position.as_ref().map(|position| match position {
            Position::CommitTs(ts) => PrintedPosition::Number(*ts),
            other => PrintedPosition::Text(other.to_string()),
        });
        let op = event.what.name();
        let reason = event.reason;
        // Known or not, a row's position is of interest.
        let row = matches!(event.what, What::Upsert { .. } | What::Delete { .. });
        let position = (row || position.is_some()).then_some(position);
        let base = PrintedEvent { op, position, reason, ..PrintedEvent::default() };
        if !self.shows_control && is_of_control(event) {
            return PrintedEvent { op: What::Ignore.name(), reason: Some("control"), ..base };
        }
        match event.what {
            What::Upsert { user, item, marked_at_ms } => PrintedEvent {
                user: Some(user.get()),
                kind: Some(item.kind.get()),
                item: Some(item.id.get()),
                marked_at_ms: Some(marked_at_ms),
                ..base
            },
            What::Delete { user, item } => PrintedEvent {
                user: Some(user.get()),
                kind: Some(item.kind.get()),
                item: Some(item.id.get()),
                ..base
            },
            What::Control(ControlRow { user, namespace, writer, seq }) => PrintedEvent {
                user: Some(user.get()),
                namespace: Some(namespace),
                writer: Some(writer),
                seq: Some(seq),
                ..base
            },
            What::Dirty(Scope::User(user)) => PrintedEvent { user: Some(user.get()), ..base },
            What::Dirty(Scope::Partition) => PrintedEvent { scope: Some("partition"), ..base },
            What::Dirty(Scope::Table) => PrintedEvent { scope: Some("table"), ..base },
            What::Truncate | What::Ddl | What::Heartbeat | What::Watermark | What::Ignore => base,
        }
    }
}

/// True for what is said about the control table alone; what may be missing is shown all the same.
fn is_of_control(event: &Event) -> bool {
    match event.what {
        What::Control(_) => true,
        What::Dirty(_) => false,
        _ => event.table == Some(1),
    }
}

/// How much there was of what.
#[derive(Default)]
pub(super) struct Summary {
    records: u64,
    dialects: BTreeMap<&'static str, u64>,
    ops: BTreeMap<String, u64>,
}

impl Summary {
    pub fn count(&mut self, dialect: Option<Dialect>, has_value: bool, events: &[Event]) {
        self.records += 1;
        let name = match (dialect, has_value) {
            (Some(dialect), _) => dialect.name(),
            (None, true) => "unknown",
            (None, false) => "without a value",
        };
        *self.dialects.entry(name).or_default() += 1;
        for event in events {
            let name = match event.reason {
                Some(reason) => format!("{} ({reason})", event.what.name()),
                None => event.what.name().to_owned(),
            };
            *self.ops.entry(name).or_default() += 1;
        }
    }

    pub fn text(&self) -> String {
        let mut table = Table::new(["", "COUNT"]);
        table.row(["records".to_owned(), grouped(self.records)]);
        for (dialect, count) in &self.dialects {
            table.row([format!("  {dialect}"), grouped(*count)]);
        }
        table.row(["events".to_owned(), grouped(self.ops.values().sum())]);
        for (op, count) in &self.ops {
            table.row([format!("  {op}"), grouped(*count)]);
        }
        table.render()
    }
}
