//! Key and partition: whether rows lie where they are looked for, and fences among them.

use seen_dialect::Dialect;
use seen_store::mysql::Severity;

use super::super::census::Row;
use super::super::placement::{self, Fit};
use super::{Judge, advice};
use crate::config::PartitionedBy;

impl Judge<'_> {
    /// Whether the configured partitioner says where each row lies.
    pub(super) fn keys(&mut self) {
        let sampled = self.sampled;
        let partitions = self.partitions();
        let rows: Vec<&Row> = sampled.census.rows.iter().filter(|row| !row.is_control).collect();
        if sampled.census.records > 0 && rows.is_empty() {
            return self.no_rows();
        }
        if rows.is_empty() || partitions < 2 {
            return;
        }
        if self.dialect() == Some(Dialect::Seen) {
            return self.slots();
        }
        let users = placement::users(&rows);
        let lie = placement::predicted(&self.wanted.partitioner, &rows, partitions);
        let is_said = !matches!(self.wanted.by, PartitionedBy::Slots | PartitionedBy::Unknown);
        if is_said && lie == rows.len() {
            let what = format!(
                "all {} rows of {users} users lie where [kafka] partitioner says, in {partitions} \
                 partitions",
                rows.len()
            );
            return self.note("key", what);
        }
        let fit = placement::fit(&rows, partitions, &self.wanted.database);
        match fit {
            Some(fit) if self.wanted.by == PartitionedBy::Unknown => {
                let what = "partitioner = \"unknown\": all partitions are followed for every user and \
                            fences prove nothing, though another one says where every row lies";
                self.warning("key", what, fit.lines);
            }
            Some(fit) => self.misplaced(lie, &rows, fit),
            None => self.unpredicted(lie, users, &rows),
        }
    }

    fn no_rows(&mut self) {
        let tables: Vec<String> = self
            .wanted
            .tables
            .iter()
            .map(|table| format!("{}.{}", table.database, table.table))
            .collect();
        let others = self.census().ignored.get("other_table").map_or(0, |trouble| trouble.count);
        let what = format!(
            "none of the sample's records is a row of {} ({others} are of other tables)",
            tables.join(", ")
        );
        let mend = "kafka.topic, mysql.database, namespace.table and the producer's list of tables must \
                    fit together; or write a row and ask again";
        self.warning("rows", what, mend);
    }

    /// Own records say themselves where they belong.
    fn slots(&mut self) {
        let has = self.partitions();
        match self.census().misplaced {
            Some((partition, partitions)) => {
                let what = format!(
                    "a record of seen relay says that it is of partition {partition} of {partitions}, \
                     and lies in a topic of {has}: partitions were added, or it was copied"
                );
                let mend = "write to a new topic with another seen relay, and follow that one";
                self.error("key", what, mend);
            }
            None if self.wanted.by == PartitionedBy::Slots => {
                self.note("key", "every record lies in the partition that seen relay says");
            }
            None => {
                let what = "the records are seen relay's, which places users by ranges of slots";
                self.error("key", what, "[kafka] partitioner = \"slots\"");
            }
        }
    }

    fn misplaced(&mut self, lie: usize, rows: &[&Row], fit: Fit) {
        let what = format!(
            "{} of {} rows lie in another partition than [kafka] partitioner says: their users would \
             be looked for elsewhere; another partitioner says where all of them lie",
            rows.len() - lie,
            rows.len()
        );
        self.error("key", what, fit.lines);
    }

    fn unpredicted(&mut self, lie: usize, users: usize, rows: &[&Row]) {
        let (dialect, partitions) = (self.dialect(), self.partitions());
        let mend = advice::key(self.wanted, dialect, partitions);
        let only = rows.iter().map(|row| row.partition).max();
        let is_one = rows.iter().all(|row| Some(row.partition) == only) && users >= 8;
        let what = match (is_one, only) {
            (true, Some(only)) => format!(
                "all {} rows of {users} users lie in partition {only} of {partitions}: rows are not \
                 placed by their user",
                rows.len()
            ),
            _ => {
                let key = rows.iter().find_map(|row| row.key.as_deref());
                let key = key.map(|key| String::from_utf8_lossy(key).chars().take(120).collect());
                let key: String = key.unwrap_or_else(|| "none".to_owned());
                let why = match key.contains("==") || key.contains("////") {
                    true => {
                        "; a base64 key (bigint.unsigned.handling.mode=precise) is not computed here, \
                         long is"
                    }
                    false => "",
                };
                format!(
                    "{lie} of {} rows of {users} users lie where [kafka] partitioner says, and no other \
                     partitioner says where all of them lie; the first key is {key}{why}",
                    rows.len()
                )
            }
        };
        // All partitions are followed then, and each answer is checked in storage.
        if self.wanted.by == PartitionedBy::Unknown {
            return self.warning("key", what, mend);
        }
        self.error("key", what, mend);
    }

    /// Whether the control table's rows come among the histories' (rule R9).
    pub(super) fn control(&mut self) {
        let sampled = self.sampled;
        if sampled.census.records == 0 {
            return;
        }
        let dialect = self.dialect();
        if dialect.is_some_and(|dialect| !dialect.orders_tables()) {
            let what = "TiCDC sends each table by itself: a fence in seen_control proves nothing about \
                        the history, only watermarks do";
            return self.note("fences", what);
        }
        let control: Vec<&Row> = sampled.census.rows.iter().filter(|row| row.is_control).collect();
        if control.is_empty() {
            return self.no_control();
        }
        let partitions = self.partitions();
        let rows: Vec<&Row> = sampled.census.rows.iter().filter(|row| !row.is_control).collect();
        let own = &self.wanted.partitioner;
        let is_own = partitions < 2
            || dialect == Some(Dialect::Seen)
            || placement::predicted(own, &control, partitions) == control.len();
        let is_fit = || {
            let fit = placement::fit(&rows, partitions, &self.wanted.database);
            let there = |fit: Fit| {
                placement::predicted(&fit.partitioner, &control, partitions) == control.len()
            };
            fit.is_some_and(there)
        };
        if is_own || is_fit() {
            let what = format!(
                "{} rows of seen_control come in the same topic, each where its user's history does",
                control.len()
            );
            return self.note("fences", what);
        }
        let mend = match dialect {
            Some(Dialect::Debezium | Dialect::DebeziumUnwrapped)
                if control.iter().any(|row| has_schema(row)) =>
            {
                "the schema in the key names the table, and so its bytes differ: \
                 key.converter.schemas.enable=false, or transforms=route,key, \
                 transforms.key.type=org.apache.kafka.connect.transforms.SetSchemaMetadata$Key, \
                 transforms.key.schema.name=seen.Key"
                    .to_owned()
            }
            _ => advice::key(self.wanted, dialect, partitions),
        };
        let what = "rows of seen_control do not lie in the partition of their user's history: a fence \
                    that comes back proves nothing, and every answer is checked in storage";
        self.error("fences", what, mend);
    }

    fn no_control(&mut self) {
        let mend = advice::one_topic(self.wanted, self.dialect());
        match self.sampled.control_topics.first() {
            Some(topic) => {
                let what = format!(
                    "the rows of seen_control go to topic {topic}: a fence there proves nothing about \
                     this one, and every answer is checked in storage"
                );
                self.error("fences", what, mend);
            }
            None => {
                let what = "the sample has no row of seen_control: either no seen has written a fence \
                            lately, or the table is not captured; without fences every answer is checked \
                            in storage";
                self.warning("fences", what, mend);
            }
        }
    }

    /// Whether anything shows that the producer lives.
    pub(super) fn life(&mut self) {
        let (sampled, dialect) = (self.sampled, self.dialect());
        let waited = sampled.waited_ms;
        if sampled.is_alive {
            return self.note("heartbeat", "a fence or watermark came while it was waited for");
        }
        let census = &sampled.census;
        if census.records == 0 {
            return;
        }
        if let Some(dialect) = dialect.filter(|dialect| advice::is_ticdc(*dialect)) {
            if census.watermarks == 0 {
                let what = "there are no watermarks: nothing proves that the feed is complete, and every \
                            answer is checked in storage";
                let mend = match dialect {
                    Dialect::CanalJson => "TiCDC: enable-tidb-extension=true in the sink's URI",
                    _ => {
                        "TiCDC: protocol=canal-json with enable-tidb-extension=true, or protocol=simple"
                    }
                };
                return self.warning("heartbeat", what, mend);
            }
            let what =
                format!("no watermark came within {waited} ms, though there were some before");
            return self.warning(
                "heartbeat",
                what,
                "look whether the changefeed runs: cdc cli query",
            );
        }
        let what = format!(
            "no fence came within {waited} ms ({} in the sample): no seen serve runs on this topic, or \
             the producer stands still; heartbeats of the producer's own lie in another topic and prove \
             nothing here",
            census.fences
        );
        let mend = "start seen serve with this configuration and ask again; if it runs, look at the \
                    producer's state and log";
        self.find(Severity::Warning, "heartbeat", what, Some(mend.to_owned()));
    }
}

fn has_schema(row: &Row) -> bool {
    let key = row.key.as_deref().unwrap_or_default();
    key.starts_with(b"{\"schema\":{")
}
