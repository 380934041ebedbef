//! `FilterRequest`, read where it lies.

use seen_filter::packed::PackedIds;
use seen_filter::{Kind, UserId};

use super::WireError;
use super::cursor::{Cursor, DEPTH_MAX, WireType};
use super::fields::{Once, Region, kind, namespace, token};
use crate::limits::{CANDIDATES_MAX, GROUPS_MAX, NAMESPACES_MAX};
use crate::model::OnUnknown;

/// The namespaces of a request, inline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    list: [&'a str; NAMESPACES_MAX],
    len: usize,
}

impl<'a> Names<'a> {
    /// The names in the order of the request, 1 to [`NAMESPACES_MAX`].
    pub fn as_slice(&self) -> &[&'a str] {
        self.list.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, name: &'a str) -> Result<(), WireError> {
        let Some(slot) = self.list.get_mut(self.len) else {
            let what = format!("more than {NAMESPACES_MAX} names; send at most {NAMESPACES_MAX}");
            return Err(WireError::invalid("namespaces", what));
        };
        *slot = name;
        self.len += 1;
        Ok(())
    }
}

/// A validated `FilterRequest` that borrows the raw message.
#[derive(Clone, Copy, Debug)]
pub struct FilterCall<'a> {
    /// Whose history is asked about.
    pub user: UserId,
    /// The histories.
    pub namespaces: Names<'a>,
    /// How many ids all segments hold together, at most [`CANDIDATES_MAX`].
    pub candidates: usize,
    /// The raw session token; empty = none. At most [`crate::limits::TOKEN_BYTES_MAX`] bytes.
    pub token: &'a [u8],
    /// What to answer about candidates of which nothing certain is known in time.
    pub on_unknown: OnUnknown,
    /// True to have every "seen" looked up in storage.
    pub confirm: bool,
    /// From the first to the last candidates field.
    region: &'a [u8],
    depth: u32,
}

impl<'a> FilterCall<'a> {
    /// Reads and validates a whole message.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn parse(raw: &'a [u8]) -> Result<Self, WireError> {
        Self::parse_at(raw, DEPTH_MAX)
    }

    /// [`parse`](Self::parse) of a message that lies in another: `depth` levels of nesting are left.
    pub(super) fn parse_at(raw: &'a [u8], depth: u32) -> Result<Self, WireError> {
        let mut call = Self::empty(depth);
        let mut once = Once::default();
        let mut region = Region::default();
        let mut cursor = Cursor::new(raw);
        let mut key_at = 0;
        while let Some((tag, wire_type)) = cursor.key()? {
            match tag {
                1 => {
                    once.claim(tag, "user")?;
                    call.user = UserId::new(cursor.fixed64(wire_type)?);
                }
                2 => call.namespaces.push(namespace(cursor.text(wire_type)?, "namespaces")?)?,
                3 => {
                    call.candidates += group_ids(cursor.bytes(wire_type)?, depth)?;
                    region.add(key_at, raw.len() - cursor.left());
                    call.check_sizes(region.fields)?;
                }
                4 => {
                    once.claim(tag, "token")?;
                    call.token = token(cursor.bytes(wire_type)?)?;
                }
                5 => {
                    once.claim(tag, "on_unknown")?;
                    call.on_unknown = on_unknown(cursor.uint(wire_type)?)?;
                }
                6 => {
                    once.claim(tag, "confirm")?;
                    call.confirm = cursor.uint(wire_type)? != 0;
                }
                _ => cursor.skip(tag, wire_type, depth)?,
            }
            key_at = raw.len() - cursor.left();
        }
        if call.namespaces.len == 0 {
            let what = format!("none; name 1 to {NAMESPACES_MAX} histories");
            return Err(WireError::invalid("namespaces", what));
        }
        call.region = region.of(raw);
        Ok(call)
    }

    const fn empty(depth: u32) -> Self {
        Self {
            user: UserId::new(0),
            namespaces: Names { list: [""; NAMESPACES_MAX], len: 0 },
            candidates: 0,
            token: &[],
            on_unknown: OnUnknown::Show,
            confirm: false,
            region: &[],
            depth,
        }
    }

    /// Stops a walk early, so that a hostile message costs no more than an honest one.
    fn check_sizes(&self, groups: usize) -> Result<(), WireError> {
        if self.candidates > CANDIDATES_MAX {
            let what = format!("more than {CANDIDATES_MAX} ids in all; split the request");
            return Err(WireError::invalid("candidates", what));
        }
        if groups > GROUPS_MAX {
            let what = format!("more than {GROUPS_MAX} groups; join those of one kind");
            return Err(WireError::invalid("candidates", what));
        }
        Ok(())
    }

    /// The candidates in request order, as runs of one kind. Positions of the answer count through
    /// all of them, from 0.
    pub fn segments(&self) -> Segments<'a> {
        Segments::new(self.region, self.depth)
    }
}

/// Ids of one kind that lie next to each other in the message.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The kind of all of them.
    pub kind: Kind,
    /// The ids where they lie; never empty.
    pub ids: PackedIds<'a>,
}

/// Iterates over the candidates of a [`FilterCall`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    message: Cursor<'a>,
    group: Cursor<'a>,
    kind: Kind,
    depth: u32,
}

impl<'a> Segments<'a> {
    const fn new(region: &'a [u8], depth: u32) -> Self {
        Self { message: Cursor::new(region), group: Cursor::new(&[]), kind: Kind::new(0), depth }
    }

    /// The next run of ids, `None` at the end. Errors cannot occur: [`FilterCall::parse`] has walked
    /// the same bytes.
    fn advance(&mut self) -> Result<Option<Segment<'a>>, WireError> {
        loop {
            while let Some((tag, wire_type)) = self.group.key()? {
                if tag != 2 {
                    self.group.skip(tag, wire_type, self.depth)?;
                    continue;
                }
                let ids = run(&mut self.group, wire_type)?;
                if !ids.is_empty() {
                    return Ok(Some(Segment { kind: self.kind, ids }));
                }
            }
            match self.message.key()? {
                None => return Ok(None),
                Some((3, wire_type)) => {
                    let group = self.message.bytes(wire_type)?;
                    self.kind = group_kind(group, self.depth)?;
                    self.group = Cursor::new(group);
                }
                Some((tag, wire_type)) => self.message.skip(tag, wire_type, self.depth)?,
            }
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        self.advance().ok().flatten()
    }
}

/// Validates an `ItemGroup` and counts its ids.
fn group_ids(group: &[u8], depth: u32) -> Result<usize, WireError> {
    let mut once = Once::default();
    let mut cursor = Cursor::new(group);
    let mut ids = 0;
    // Prost counts a message as one level of nesting.
    let depth = depth - 1;
    while let Some((tag, wire_type)) = cursor.key()? {
        match tag {
            1 => {
                once.claim(tag, "candidates.kind")?;
                kind(cursor.uint(wire_type)?, "candidates.kind")?;
            }
            2 => ids += run(&mut cursor, wire_type)?.len(),
            _ => cursor.skip(tag, wire_type, depth)?,
        }
    }
    Ok(ids)
}

/// The next occurrence of ids in a group: many packed ones, or a single one.
fn run<'a>(group: &mut Cursor<'a>, wire_type: WireType) -> Result<PackedIds<'a>, WireError> {
    let bytes = match wire_type {
        WireType::Bytes => group.bytes(wire_type)?,
        _ => group.fixed64_bytes(wire_type)?,
    };
    let odd = |_| WireError::Malformed("packed ids are not a multiple of 8 bytes");
    PackedIds::new(bytes).map_err(odd)
}

/// The kind of a validated `ItemGroup`, which may follow its ids.
fn group_kind(group: &[u8], depth: u32) -> Result<Kind, WireError> {
    let mut cursor = Cursor::new(group);
    while let Some((tag, wire_type)) = cursor.key()? {
        if tag == 1 {
            return kind(cursor.uint(wire_type)?, "candidates.kind");
        }
        cursor.skip(tag, wire_type, depth)?;
    }
    Ok(Kind::new(0))
}

fn on_unknown(raw: u64) -> Result<OnUnknown, WireError> {
    OnUnknown::from_wire(raw as i32)
        .map_err(|description| WireError::invalid("on_unknown", description))
}
