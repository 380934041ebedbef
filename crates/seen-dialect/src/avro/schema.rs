//! Avro's schemas, from their JSON: what a record's fields are, so that they can be read or passed over.

use serde_json::Value;
use thiserror::Error;

use super::Reader;
use crate::cell::Cell;
use crate::cell_text::{cell_of_bits, cell_of_bytes, cell_of_text};
use crate::protobuf::Malformed;

/// Deepest nesting that is read; TiCDC's have three.
const DEPTH_MAX: usize = 16;

/// A schema that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the Avro schema cannot be used: {0}")]
pub struct SchemaError(String);

fn refused<T>(why: impl Into<String>) -> Result<T, SchemaError> {
    Err(SchemaError(why.into()))
}

/// A record's fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordSchema {
    pub name: String,
    pub namespace: String,
    pub fields: Vec<(String, Form)>,
}

/// How a value is encoded, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    Null,
    Boolean,
    /// An `int`, a `long` or an enum's symbol.
    Long,
    Float,
    Double,
    Text,
    Bytes,
    /// Bytes of a BIT column.
    Bits,
    /// Bytes of a decimal number with so many digits behind the point.
    Decimal(u32),
    Fixed(usize),
    Enum,
    Array(Box<Form>),
    Map(Box<Form>),
    Union(Vec<Form>),
    Record(Vec<(String, Form)>),
}

impl RecordSchema {
    /// Reads a schema; it must be a record's.
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| SchemaError(error.to_string()))?;
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        let (name, namespace) = (text("name"), text("namespace"));
        let (namespace, name) = name.rsplit_once('.').unwrap_or((namespace, name));
        match form(&value, 0)? {
            Form::Record(fields) => {
                Ok(Self { name: name.to_owned(), namespace: namespace.to_owned(), fields })
            }
            _ => refused("it is not a record's"),
        }
    }
}

fn form(schema: &Value, depth: usize) -> Result<Form, SchemaError> {
    if depth > DEPTH_MAX {
        return refused("it is nested too deep");
    }
    let inner = |schema: &Value| form(schema, depth + 1).map(Box::new);
    match schema {
        Value::String(name) => primitive(name),
        Value::Array(branches) => branches
            .iter()
            .map(|one| form(one, depth + 1))
            .collect::<Result<_, _>>()
            .map(Form::Union),
        Value::Object(members) => match members.get("type") {
            Some(Value::String(kind)) => match kind.as_str() {
                "record" => fields(schema, depth).map(Form::Record),
                "array" => inner(&schema["items"]).map(Form::Array),
                "map" => inner(&schema["values"]).map(Form::Map),
                "enum" => Ok(Form::Enum),
                "fixed" => {
                    match schema["size"].as_u64().and_then(|size| usize::try_from(size).ok()) {
                        Some(size) => Ok(Form::Fixed(size)),
                        None => refused("a fixed has no size"),
                    }
                }
                "bytes" => Ok(bytes_form(schema)),
                name => primitive(name),
            },
            Some(nested) => form(nested, depth + 1),
            None => refused("a type is missing"),
        },
        _ => refused("a type is neither a name, an object nor a list"),
    }
}

fn primitive(name: &str) -> Result<Form, SchemaError> {
    Ok(match name {
        "null" => Form::Null,
        "boolean" => Form::Boolean,
        "int" | "long" => Form::Long,
        "float" => Form::Float,
        "double" => Form::Double,
        "string" => Form::Text,
        "bytes" => Form::Bytes,
        other => return refused(format!("the type {other:?} is not known")),
    })
}

fn bytes_form(schema: &Value) -> Form {
    if schema["logicalType"] == "decimal" {
        let scale = schema["scale"].as_u64().and_then(|scale| u32::try_from(scale).ok());
        return Form::Decimal(scale.unwrap_or(0));
    }
    if schema["connect.parameters"]["tidb_type"] == "BIT" { Form::Bits } else { Form::Bytes }
}

fn fields(schema: &Value, depth: usize) -> Result<Vec<(String, Form)>, SchemaError> {
    let Some(fields) = schema["fields"].as_array() else {
        return refused("a record has no fields");
    };
    let field = |field: &Value| match field["name"].as_str() {
        Some(name) => Ok((name.to_owned(), form(&field["type"], depth + 1)?)),
        None => refused("a field has no name"),
    };
    fields.iter().map(field).collect()
}

impl Form {
    /// Reads a value; those of many parts are passed over.
    pub fn read(&self, from: &mut Reader<'_>) -> Result<Cell, Malformed> {
        Ok(match self {
            Self::Null => Cell::Null,
            // A column with more than two values is sent as a number.
            Self::Boolean => Cell::Number(from.boolean()?.into()),
            Self::Long => Cell::Number(from.long()?.into()),
            Self::Float => from.skip(4).map(|()| Cell::Rounded)?,
            Self::Double => from.skip(8).map(|()| Cell::Rounded)?,
            Self::Text => cell_of_text(from.text()?),
            Self::Bytes => match from.bytes()? {
                [] => Cell::Empty,
                bytes => cell_of_bytes(bytes),
            },
            Self::Bits => cell_of_bits(from.bytes()?),
            Self::Decimal(scale) => decimal(from.bytes()?, *scale),
            Self::Fixed(size) => from.skip(*size).map(|()| Cell::Other)?,
            Self::Enum => from.long().map(|_| Cell::Text)?,
            Self::Array(inner) => {
                from.elements(|from| inner.read(from).map(drop))?;
                Cell::Other
            }
            Self::Map(inner) => {
                from.elements(|from| from.bytes().and_then(|_| inner.read(from)).map(drop))?;
                Cell::Other
            }
            Self::Union(branches) => {
                let place = from.place()?;
                branches.get(place).ok_or(Malformed)?.read(from)?
            }
            Self::Record(fields) => {
                for (_, form) in fields {
                    form.read(from)?;
                }
                Cell::Other
            }
        })
    }
}

/// A number's two's complement, most significant byte first.
fn decimal(bytes: &[u8], scale: u32) -> Cell {
    let Some(first) = bytes.first() else { return Cell::Other };
    if bytes.len() > 16 {
        return Cell::Other;
    }
    let sign = if first & 0x80 == 0 { 0 } else { -1 };
    let number = bytes.iter().fold(sign, |sum: i128, byte| sum << 8 | i128::from(*byte));
    match 10_i128.checked_pow(scale) {
        Some(unit) if number % unit == 0 => Cell::Number(number / unit),
        Some(_) => Cell::Rounded,
        None => Cell::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schema: &str, bytes: &[u8]) -> Result<Cell, Malformed> {
        let schema: Value = serde_json::from_str(schema).expect("JSON");
        let mut from = Reader(bytes);
        let cell = form(&schema, 0).expect("a schema").read(&mut from)?;
        if from.is_empty() { Ok(cell) } else { Err(Malformed) }
    }

    #[test]
    fn values_are_read_by_their_schema() {
        let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":22,"scale":2}"#;
        let bit = r#"{"type":"bytes","connect.parameters":{"tidb_type":"BIT"}}"#;
        for (schema, bytes, cell) in [
            (r#""null""#, &[][..], Cell::Null),
            (r#""boolean""#, &[1], Cell::Number(1)),
            (r#""long""#, &[0x01], Cell::Number(-1)),
            (r#"{"type":"int"}"#, &[0xfe, 0x03], Cell::Number(255)),
            (r#""string""#, &[0x04, b'4', b'2'], Cell::Number(42)),
            (r#""bytes""#, &[0x02, 0xff], Cell::Text),
            (r#""bytes""#, &[0x00], Cell::Empty),
            (r#""double""#, &[0; 8], Cell::Rounded),
            (r#""float""#, &[0; 4], Cell::Rounded),
            (r#"["null","long"]"#, &[0], Cell::Null),
            (r#"["long","null"]"#, &[0, 0x54], Cell::Number(42)),
            (r#"{"type":{"type":"long"}}"#, &[0x54], Cell::Number(42)),
            (decimal, &[0x04, 0x10, 0x68], Cell::Number(42)),
            (decimal, &[0x04, 0xef, 0x98], Cell::Number(-42)),
            (decimal, &[0x02, 0x01], Cell::Rounded),
            (decimal, &[0x00], Cell::Other),
            (bit, &[0x04, 0x01, 0x00], Cell::Number(256)),
            (r#"{"type":"fixed","size":3}"#, &[0; 3], Cell::Other),
            (r#"{"type":"enum","symbols":["A"]}"#, &[0], Cell::Text),
            (r#"{"type":"array","items":"long"}"#, &[0x04, 2, 4, 0], Cell::Other),
            (r#"{"type":"map","values":"long"}"#, &[0x01, 0x06, 2, b'k', 4, 0], Cell::Other),
            (r#"{"type":"record","fields":[{"name":"a","type":"long"}]}"#, &[2], Cell::Other),
        ] {
            assert_eq!(read(schema, bytes), Ok(cell), "{schema} {bytes:02x?}");
        }
    }

    #[test]
    fn values_that_claim_too_much_are_refused() {
        let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for (schema, bytes) in [
            (r#""bytes""#, &huge[..]),
            (r#""string""#, &[0x01]),
            (r#"{"type":"array","items":"null"}"#, &huge),
            (r#"["null","long"]"#, &[4]),
            (r#""boolean""#, &[2]),
            (r#""long""#, &[]),
            (r#""string""#, &[0x02, 0xff]),
        ] {
            assert_eq!(read(schema, bytes), Err(Malformed), "{schema}");
        }
    }

    #[test]
    fn schemas_that_cannot_be_used_are_refused() {
        let deep = format!("{}\"long\"{}", "[".repeat(40), "]".repeat(40));
        for (schema, why) in [
            ("", "EOF"),
            ("\"long\"", "not a record's"),
            (r#"{"type":"record"}"#, "no fields"),
            (r#"{"type":"record","fields":[{"type":"long"}]}"#, "no name"),
            (r#"{"type":"record","fields":[{"name":"a"}]}"#, "neither a name"),
            (r#"{"type":"record","fields":[{"name":"a","type":"app.Other"}]}"#, "app.Other"),
            (r#"{"type":"record","fields":[{"name":"a","type":{"type":"fixed"}}]}"#, "no size"),
            (&format!(r#"{{"type":"record","fields":[{{"name":"a","type":{deep}}}]}}"#), "deep"),
        ] {
            let error = RecordSchema::parse(schema).expect_err(schema).to_string();
            assert!(error.contains(why), "{schema}: {error}");
        }
    }
}
