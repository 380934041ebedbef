//! From what a sample holds to what is wrong with the pipeline, and the option that mends it.

mod advice;
mod keys;
mod rows;
mod settings;

use std::collections::BTreeMap;

use seen_dialect::{Dialect, FollowedTable};
use seen_kafka::Partitioner;
use seen_store::mysql::{Finding, Severity};

use super::census::Census;
use crate::config::PartitionedBy;

/// What is configured for one topic.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The topic.
    pub topic: String,
    /// The database whose changes it carries.
    pub database: String,
    /// Histories, and the control table.
    pub tables: Vec<FollowedTable>,
    /// How the producer is said to choose partitions.
    pub by: PartitionedBy,
    /// The same as a formula; `Unknown` for slots, which the records themselves tell.
    pub partitioner: Partitioner,
    /// How many partitions it is said to have; 0 is any number.
    pub partitions: u16,
    /// Where Kafka is, for commands.
    pub brokers: String,
}

/// What was found in one topic.
#[derive(Debug)]
pub struct Sampled {
    /// By partition: the oldest record kept, and the one that will come next.
    pub ends: Vec<(u64, u64)>,
    /// The topic's settings, or why they are not known.
    pub settings: Result<BTreeMap<String, String>, String>,
    /// Topics of the cluster that seem to carry the control table instead.
    pub control_topics: Vec<String>,
    /// How long a sign of life was waited for, in milliseconds.
    pub waited_ms: u64,
    /// True if a fence or a watermark came meanwhile.
    pub is_alive: bool,
    /// The records.
    pub census: Census,
}

/// What is wrong, or good to know; the worst first.
pub fn judge(sampled: &Sampled, wanted: &Wanted) -> Vec<Finding> {
    let mut judge = Judge { sampled, wanted, findings: Vec::new() };
    judge.producers();
    judge.count();
    judge.keys();
    judge.control();
    judge.life();
    judge.rows();
    judge.settings();
    judge.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    judge.findings
}

struct Judge<'a> {
    sampled: &'a Sampled,
    wanted: &'a Wanted,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn find(&mut self, severity: Severity, about: &str, what: String, mend: Option<String>) {
        let subject = format!("{about} of topic {}", self.wanted.topic);
        self.findings.push(Finding { severity, subject, what, mend });
    }

    fn error(&mut self, about: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.find(Severity::Error, about, what.into(), Some(mend.into()));
    }

    fn warning(&mut self, about: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.find(Severity::Warning, about, what.into(), Some(mend.into()));
    }

    fn note(&mut self, about: &str, what: impl Into<String>) {
        self.find(Severity::Note, about, what.into(), None);
    }

    fn census(&self) -> &Census {
        &self.sampled.census
    }

    fn dialect(&self) -> Option<Dialect> {
        self.census().main_dialect()
    }

    fn partitions(&self) -> u16 {
        u16::try_from(self.sampled.ends.len()).unwrap_or(u16::MAX)
    }

    /// Whoever wrote the sample.
    fn producers(&mut self) {
        let census = self.census();
        if census.records == 0 {
            let what = "nothing was ever written to it, or nothing is kept any more: neither key nor \
                        format can be looked at";
            let mend = "start the producer, write a row, and ask again";
            return self.warning("records", what, mend);
        }
        let each = |(name, count): (&String, &u64)| format!("{name}: {count} records");
        let producers: Vec<String> = census.producers.iter().map(each).collect();
        let formats: Vec<String> = census
            .dialects
            .iter()
            .map(|(dialect, count)| format!("{} {count}", dialect.map_or("unknown", Dialect::name)))
            .collect();
        let what = format!(
            "{} records looked at, of {} partitions; by their form they are of {}; formats: {}",
            census.records,
            census.parts.len(),
            if producers.is_empty() {
                "nobody that is known".to_owned()
            } else {
                producers.join("; ")
            },
            if formats.is_empty() { "none".to_owned() } else { formats.join(", ") },
        );
        self.note("producer", what);
    }

    /// How many partitions there are, and are said to be.
    fn count(&mut self) {
        let (has, said) = (self.partitions(), self.wanted.partitions);
        if said > 0 && said != has {
            let what = format!(
                "it has {has}, and kafka.partitions says {said}: users are looked for in other \
                 partitions than the producer's"
            );
            self.error(
                "partitions",
                what,
                format!("[kafka] partitions = {has}, or 0 to ask Kafka"),
            );
        }
        if has == 1 {
            let what = "there is one: every replica follows all of it";
            let mend = "fine up to some 100,000 rows/s; else more partitions, made before the first \
                        record, or seen relay";
            self.find(Severity::Note, "partitions", what.to_owned(), Some(mend.to_owned()));
        }
    }
}
