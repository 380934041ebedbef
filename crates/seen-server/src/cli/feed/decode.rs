//! `seen feed decode`: what the consumer makes of captured records, so that a pipeline can be looked at
//! before it is switched on.

mod input;
pub(super) mod output;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use seen_dialect::{Decoder, Dialect, Event};

use super::super::{CliError, print};
use super::table::{TableName, Wanted};
use crate::schema_registry;

use input::Line;
use output::{Said, Summary};

/// Output is handed on when it is this long, in bytes.
const OUTPUT_BYTES_MAX: usize = 64 * 1_024;

/// Arguments of `seen feed decode`.
#[derive(Debug, Clone, Args)]
pub struct DecodeArgs {
    /// Captured records, one JSON object a line: topic, partition, offset, key, value, headers; - is
    /// stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The table whose changes are wanted
    #[arg(long, value_name = "DB.TABLE", value_parser = TableName::parse)]
    table: TableName,
    /// The format of all records [default: told from each record]
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = Wanted::parse,
        hide_default_value = true)]
    dialect: Wanted,
    /// The table's columns, as in user=member_id,item=article_id,kind=1,time=read_at:s,deleted=gone
    /// [default: those of the store's own tables]
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<String>,
    /// Keys, values and headers are base64
    #[arg(long)]
    base64: bool,
    /// An Avro schema: its number in the registry, and a file that holds it
    #[arg(long, value_name = "ID=FILE", value_parser = parse_schema)]
    schema: Vec<(u32, PathBuf)>,
    /// Where Avro schemas are looked up, as in http://127.0.0.1:8081
    #[arg(long, value_name = "URL")]
    schema_registry: Option<String>,
    /// Print on stderr how many records of each format and events of each kind there were
    #[arg(long)]
    summary: bool,
}

fn parse_schema(text: &str) -> Result<(u32, PathBuf), String> {
    let (id, file) = text.split_once('=').ok_or("expected ID=FILE")?;
    let id = id.parse().map_err(|_| format!("{id:?} is no number of a schema"))?;
    Ok((id, PathBuf::from(file)))
}

/// Prints a line for each record.
///
/// # Errors
/// A file that cannot be read, or a line that is no record; what stood before it has been printed.
pub fn run(args: &DecodeArgs) -> Result<ExitCode, CliError> {
    let shows_control = args.table.is_control();
    let mut decoder = Decoder::new(args.table.followed(args.columns.as_deref())?, args.dialect.0);
    for (id, file) in &args.schema {
        let named = |error: &dyn std::fmt::Display| format!("--schema {}: {error}", file.display());
        let json = std::fs::read_to_string(file).map_err(|error| named(&error))?;
        decoder.schemas().add(*id, &json).map_err(|error| named(&error))?;
    }
    let mut session = Session {
        args,
        decoder,
        shows_control,
        summary: Summary::default(),
        out: String::new(),
        refused: Vec::new(),
    };
    let read = if args.file == Path::new("-") {
        session.read(&mut io::stdin().lock())
    } else {
        let file = File::open(&args.file)
            .map_err(|error| format!("cannot open {}: {error}", args.file.display()))?;
        session.read(&mut BufReader::with_capacity(1 << 18, file))
    };
    // What could be read comes first, whatever came after it.
    print(&session.out)?;
    if args.summary {
        eprint!("{}", session.summary.text());
    }
    read.map(|()| ExitCode::SUCCESS)
}

/// One run.
struct Session<'a> {
    args: &'a DecodeArgs,
    decoder: Decoder,
    shows_control: bool,
    summary: Summary,
    out: String,
    /// Schemas that the registry does not have: asked for once.
    refused: Vec<u32>,
}

impl Session<'_> {
    fn read(&mut self, from: &mut dyn BufRead) -> Result<(), CliError> {
        let mut line = Vec::new();
        let mut events = Vec::new();
        for number in 1_u64.. {
            if !input::next_line(from, number, &mut line)? {
                break;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let record = Line::parse(&line, self.args.base64)
                .map_err(|error| format!("line {number}: {error}"))?;
            events.clear();
            let dialect = self.decode(&record, &mut events)?;
            self.summary.count(dialect, record.has_value(), &events);
            let said = Said { line: number, events: &events, shows_control: self.shows_control };
            self.out += &said.json()?;
            self.out.push('\n');
            if self.out.len() >= OUTPUT_BYTES_MAX {
                print(&self.out)?;
                self.out.clear();
            }
        }
        Ok(())
    }

    fn decode(
        &mut self,
        line: &Line,
        events: &mut Vec<Event>,
    ) -> Result<Option<Dialect>, CliError> {
        let headers = line.headers();
        let record = line.record(&headers);
        let dialect = self.decoder.decode(&record, events);
        if self.fetch_wanted()? {
            events.clear();
            return Ok(self.decoder.decode(&record, events));
        }
        Ok(dialect)
    }

    /// Looks up the schemas that are wanted; true if there is a new one.
    fn fetch_wanted(&mut self) -> Result<bool, CliError> {
        let Some(registry) = &self.args.schema_registry else { return Ok(false) };
        let wanted: Vec<_> = self.decoder.schemas().wanted().collect();
        let mut found = false;
        for id in wanted {
            if self.refused.contains(&id) {
                continue;
            }
            let answer = schema_registry::schema(registry, id);
            match answer.map_err(|error| format!("--schema-registry {error}"))? {
                Some(json) => {
                    let added = self.decoder.schemas().add(id, &json);
                    added.map_err(|error| format!("--schema-registry: schema {id}: {error}"))?;
                    found = true;
                }
                None => self.refused.push(id),
            }
        }
        Ok(found)
    }
}
