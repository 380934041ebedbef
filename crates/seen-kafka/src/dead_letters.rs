//! Records that could not be read, kept for people: a file of lines as `seen feed decode --base64` takes
//! them (coherence row 21). Bounded; what comes when it is full is counted only.

use std::fs::{File, OpenOptions};
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seen_dialect::Record;

use crate::options::DeadLetterOptions;

/// The open file.
pub(crate) struct DeadLetters {
    options: DeadLetterOptions,
    file: File,
    bytes: u64,
    /// What was said once: that it is full, or that it cannot be written.
    complaint: Option<String>,
}

impl DeadLetters {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(options: DeadLetterOptions) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&options.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { options, file, bytes, complaint: None })
    }

    /// Keeps a record, if there is room.
    pub fn keep(&mut self, record: &Record<'_>, reason: &str) {
        let line = line(record, reason);
        let is_room = self.bytes + line.len() as u64 <= self.options.bytes_max;
        let path = self.options.path.display();
        if !is_room {
            let option = self.options.bytes_option;
            self.complain(&format!("{path} has reached its bound ({option})"));
        } else if let Err(error) = self.file.write_all(line.as_bytes()) {
            self.complain(&format!("{path} cannot be written: {error}"));
        } else {
            self.bytes += line.len() as u64;
        }
    }

    fn complain(&mut self, why: &str) {
        if self.complaint.is_none() {
            tracing::error!(why, "records that cannot be read are not kept any more");
            self.complaint = Some(why.to_owned());
        }
    }
}

fn line(record: &Record<'_>, reason: &str) -> String {
    let bytes = |bytes: Option<&[u8]>| {
        bytes.map_or("null".to_owned(), |bytes| format!("\"{}\"", STANDARD.encode(bytes)))
    };
    // Topics' names hold no character that would have to be escaped.
    format!(
        "{{\"topic\":\"{}\",\"partition\":{},\"offset\":{},\"key\":{},\"value\":{},\"reason\":\"{reason}\"}}\n",
        record.topic,
        record.partition,
        record.offset,
        bytes(record.key),
        bytes(record.value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_up_to_a_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dead.jsonl");
        let record =
            Record { topic: "t", partition: 3, offset: 9, value: Some(b"x"), ..Record::default() };
        let options = DeadLetterOptions { path: path.clone(), bytes_max: 200, bytes_option: "a.b" };
        let mut letters = DeadLetters::open(options.clone()).expect("a file");
        (0..3).for_each(|_| letters.keep(&record, "format_unknown"));
        let text = std::fs::read_to_string(&path).expect("the file");
        let expected = "{\"topic\":\"t\",\"partition\":3,\"offset\":9,\"key\":null,\"value\":\"eA==\",\
                        \"reason\":\"format_unknown\"}\n";
        assert_eq!(text, expected.repeat(2));
        let complaint = letters.complaint.as_deref().unwrap_or_default();
        assert!(complaint.contains("(a.b)"), "{complaint}");
        let mut again = DeadLetters::open(options).expect("the file");
        again.keep(&record, "format_unknown");
        assert_eq!(std::fs::read_to_string(&path).expect("the file").len(), text.len());
    }
}
