//! The values of one row, as far as they mean anything here.

/// What a column means. The control table's columns share places with the history's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whose row.
    User,
    /// The item's id.
    Item,
    /// The item's kind.
    Kind,
    /// When it was read.
    Time,
    /// Whether the row counts as removed.
    Deleted,
    /// Control table: the namespace's number in its database.
    Namespace,
    /// Control table: one life of one process, or 0 for a forget.
    Writer,
    /// Control table: the fence's number, or the user's epoch.
    Seq,
}

impl Role {
    const fn place(self) -> usize {
        match self {
            Self::User => 0,
            Self::Item | Self::Writer => 1,
            Self::Kind | Self::Namespace => 2,
            Self::Time | Self::Seq => 3,
            Self::Deleted => 4,
        }
    }
}

/// One value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    /// The record does not say.
    #[default]
    Missing,
    /// SQL's null.
    Null,
    /// A whole number, exact. Producers that know no unsigned numbers send those from 2^63 on as
    /// negative ones; `meaning` takes them for the unsigned number with the same bits.
    Number(i128),
    /// A point in time, in milliseconds since 1970.
    Millis(i64),
    /// A text or bytes that is no number, but not empty either (a soft-delete column may be one).
    Text,
    /// An empty text.
    Empty,
    /// A number that the producer has rounded: what it was is lost.
    Rounded,
    /// Something that no column of this meaning should hold.
    Other,
}

/// The values of one row. Columns that mean nothing here are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image([Cell; 5]);

impl Image {
    /// The value of a role.
    pub fn cell(&self, role: Role) -> Cell {
        self.0[role.place()]
    }

    /// Sets the value of a role.
    pub fn set(&mut self, role: Role, cell: Cell) {
        self.0[role.place()] = cell;
    }

    /// This image, with what it does not say taken from another one.
    #[must_use]
    pub fn or(mut self, other: &Image) -> Image {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            if *own == Cell::Missing {
                *own = other;
            }
        }
        self
    }
}
