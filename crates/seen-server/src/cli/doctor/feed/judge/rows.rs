//! What the rows say and leave out: images, numbers, order, truncates, records that cannot be read.

use seen_dialect::Dialect;
use seen_store::mysql::Severity;

use super::super::census::Trouble;
use super::{Judge, advice};

impl Judge<'_> {
    /// Everything about the rows themselves.
    pub(super) fn rows(&mut self) {
        self.doubts();
        self.numbers();
        self.positions();
        self.truncates();
        self.tombstones();
    }

    fn doubts(&mut self) {
        let sampled = self.sampled;
        for (reason, trouble) in &sampled.census.doubts {
            self.doubt(reason, trouble);
        }
        let only_keys = sampled.census.only_keys;
        if only_keys > 0 {
            let what = format!(
                "{only_keys} rows hold key columns only (onlyHandleKey): the time of reading is lost"
            );
            let mend = "TiCDC: a larger max-message-bytes in the sink's URI, and of the topic";
            self.warning("row image", what, mend);
        }
    }

    fn doubt(&mut self, reason: &str, trouble: &Trouble) {
        let Trouble { count, partition, offset, dialect } = *trouble;
        let at = format!("the first is record {offset} of partition {partition}");
        match reason {
            "before_unknown" => {
                let what = format!(
                    "{count} updates do not say what the row was before: the user is rebuilt each time; \
                     {at}"
                );
                self.warning("row image", what, before(dialect));
            }
            "before_missing" => {
                let what = format!(
                    "{count} updates or deletes do not say what the row was: all users of the partition \
                     are in doubt each time; {at}"
                );
                self.error("row image", what, before(dialect));
            }
            "value_missing" => {
                let what = format!(
                    "{count} rows lack columns of the key: everybody is in doubt each time; {at}"
                );
                let mend = "SET GLOBAL binlog_row_image = FULL; and no column.include.list, \
                            column.exclude.list or namespace.columns that leaves one out";
                self.error("row image", what, mend);
            }
            "value_rounded" => {
                let what = format!(
                    "{count} rows hold ids that were rounded: what they were is lost; {at}"
                );
                self.error("unsigned numbers", what, advice::exact_numbers(dialect));
            }
            "oversize_row" => {
                let what = format!(
                    "{count} rows lie elsewhere (claimCheckLocation), where nobody looks: their users \
                     are rebuilt each time; {at}"
                );
                let mend =
                    "TiCDC: large-message-handle-option=none, and a larger max-message-bytes";
                self.warning("row image", what, mend);
            }
            "tombstone_of_row" => {
                let what = format!(
                    "{count} deletes come as tombstones alone, which say whose row it was at most; {at}"
                );
                let mend = "Debezium: transforms.unwrap.delete.tombstone.handling.mode=rewrite, or no \
                            ExtractNewRecordState";
                self.warning("row image", what, mend);
            }
            // What a producer does in the course of its work.
            "snapshot" | "remove_all" | "relayed_gap" => {
                self.note("doubts", format!("{count} events say {reason}; {at}"));
            }
            "format_unknown" | "json_unreadable" | "schema_unknown" => {
                let share = count as f64 * 100.0 / self.census().records.max(1) as f64;
                let what = format!(
                    "{count} records ({share:.1} %) cannot be read ({reason}): their users, or all of the \
                     partition, are in doubt each time; {at}"
                );
                self.error("format", what, advice::look_at(self.wanted, partition, offset));
            }
            _ => {
                let what = format!("{count} events are a doubt ({reason}); {at}");
                let mend = advice::look_at(self.wanted, partition, offset);
                self.find(Severity::Warning, "rows", what, Some(mend));
            }
        }
    }

    fn numbers(&mut self) {
        let wide = self.census().wide_ids;
        if wide > 0 {
            let what = format!("{wide} rows with ids from 2^63 on are read exactly");
            self.note("unsigned numbers", what);
        }
    }

    fn positions(&mut self) {
        let census = self.census();
        let ((with, without), backwards) = (census.positions, census.backwards);
        let (dialect, rows) = (self.dialect(), with + without);
        if backwards > 0 {
            let what = format!(
                "{backwards} events lie before an earlier one in the source: duplicates after a restart \
                 of the producer are normal and harmless, a steady stream of them is not"
            );
            self.note("order", what);
        }
        if dialect == Some(Dialect::CanalJson) && without > 0 {
            let what = format!("{without} of {rows} rows have no commit timestamp");
            let mend = "TiCDC: enable-tidb-extension=true in the sink's URI";
            self.warning("positions", what, mend);
        } else if rows > 0 && with == 0 {
            let what = "rows do not say where in the source they lie: only fences tell how far the feed \
                        has come";
            self.note("positions", what);
        }
    }

    fn truncates(&mut self) {
        if self.census().truncates > 0 {
            return;
        }
        let (severity, what, mend) = match self.dialect() {
            Some(Dialect::Debezium) => (
                Severity::Note,
                "whether truncates are sent cannot be seen from the records; Debezium leaves them out \
                 unless told otherwise",
                "Debezium: skipped.operations=none",
            ),
            Some(Dialect::DebeziumUnwrapped) => (
                Severity::Note,
                "ExtractNewRecordState drops truncates",
                "after a TRUNCATE restart every seen, or do without ExtractNewRecordState",
            ),
            Some(Dialect::Maxwell) => (
                Severity::Note,
                "Maxwell says nothing of a truncate",
                "after a TRUNCATE restart every seen",
            ),
            _ => return,
        };
        self.find(severity, "truncates", what.to_owned(), Some(mend.to_owned()));
    }

    fn tombstones(&mut self) {
        let (tombstones, dialect) = (self.census().tombstones, self.dialect());
        if tombstones > 0 && dialect == Some(Dialect::Debezium) {
            let what = format!("{tombstones} records are tombstones, which say nothing here");
            let mend = "Debezium: tombstones.on.delete=false saves them".to_owned();
            self.find(Severity::Note, "tombstones", what, Some(mend));
        }
    }
}

/// What makes a producer say what a row was before.
fn before(dialect: Option<Dialect>) -> &'static str {
    match dialect {
        Some(Dialect::DebeziumUnwrapped) => {
            "Debezium: no ExtractNewRecordState; or message.key.columns with the whole primary key, which \
             spreads a user over partitions"
        }
        Some(dialect) if advice::is_ticdc(dialect) => {
            "TiCDC: no only-output-updated-columns, and no delete-only-output-handle-key-columns"
        }
        _ => "SET GLOBAL binlog_row_image = FULL; and a restart of the producer",
    }
}
