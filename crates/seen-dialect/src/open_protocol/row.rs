//! The rows of one event: `u` as it is now, `p` as it was, `d` as it was when it was removed; each a
//! map from column to `{"t": MySQL's type, "h": part of the key, "f": flags, "v": value}`.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::cell::{Cell, Image};
use crate::cell_text::{cell_of_bytes, cell_of_text};
use crate::protobuf::Malformed;
use crate::table::FollowedTable;

/// MySQL's types whose values are base64: TINYBLOB, MEDIUMBLOB, LONGBLOB and BLOB, and so the texts.
const BASE64_TYPES: std::ops::RangeInclusive<u64> = 249..=252;

/// The images of one event.
#[derive(Default)]
pub(super) struct Images {
    pub after: Option<Image>,
    pub before: Option<Image>,
    pub removed: Option<Image>,
}

/// Reads the images, as far as their columns mean anything.
pub(super) fn read(table: &FollowedTable, value: &[u8]) -> Result<Images, Malformed> {
    let mut json = serde_json::Deserializer::from_slice(value);
    let images = json.deserialize_map(ImagesVisitor(table)).map_err(|_| Malformed)?;
    json.end().map_err(|_| Malformed)?;
    Ok(images)
}

struct ImagesVisitor<'t>(&'t FollowedTable);

impl<'de> Visitor<'de> for ImagesVisitor<'_> {
    type Value = Images;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rows of an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Images, A::Error> {
        let mut images = Images::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let image = match &*name {
                "u" => &mut images.after,
                "p" => &mut images.before,
                "d" => &mut images.removed,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *image = map.next_value_seed(ImageSeed(self.0))?;
        }
        Ok(images)
    }
}

struct ImageSeed<'t>(&'t FollowedTable);

impl<'de> DeserializeSeed<'de> for ImageSeed<'_> {
    type Value = Option<Image>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Image>, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for ImageSeed<'_> {
    type Value = Option<Image>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_unit<E>(self) -> Result<Option<Image>, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Option<Image>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Option<Image>, D::Error> {
        json.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Image>, A::Error> {
        let mut image = Image::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.0.role_of(&name) {
                Some(role) => {
                    let cell = map.next_value::<Column<'de>>()?.cell();
                    // A column that comes twice is none that can be read.
                    let first = image.cell(role) == Cell::Missing;
                    image.set(role, if first { cell } else { Cell::Other });
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(image))
    }
}

#[derive(serde::Deserialize)]
struct Column<'a> {
    #[serde(default)]
    t: u64,
    #[serde(borrow, default)]
    v: Raw<'a>,
}

impl Column<'_> {
    fn cell(self) -> Cell {
        match self.v {
            Raw::Cell(cell) => cell,
            Raw::Text(text) if BASE64_TYPES.contains(&self.t) => {
                STANDARD.decode(text.as_bytes()).map_or(Cell::Other, |bytes| {
                    if bytes.is_empty() { Cell::Empty } else { cell_of_bytes(&bytes) }
                })
            }
            Raw::Text(text) => cell_of_text(&text),
        }
    }
}

/// A value before its column's type is known.
enum Raw<'a> {
    Cell(Cell),
    Text(Cow<'a, str>),
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Self::Cell(Cell::Missing)
    }
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Raw::Cell(Cell::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Raw::Cell(Cell::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Raw::Cell(Cell::Number(value.into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Raw::Cell(Cell::Number(value.into())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Raw::Cell(Cell::Rounded))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Raw::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Raw::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Raw::Cell(Cell::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Raw::Cell(Cell::Other))
    }
}
