//! Session tokens: what a caller has written, so that whoever answers it next knows what it must
//! have seen (rule R5).
//!
//! A token is a **set**, not a number: one session writes at several replicas, and a scalar would
//! forget all but the last of them (coherence row 28). The set is bounded; when it is full it
//! collapses to one [`Wildcard`] that stands for all of it, so that nothing is ever dropped.
//!
//! On the wire a token is opaque bytes; see [`Token::encode`] for their form. Empty bytes are the
//! empty token. Tokens may be joined by putting their bytes one after another.

mod codec;
mod element;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use seen_filter::Incarnation;
use smallvec::SmallVec;
use thiserror::Error;

pub use element::{AckSeq, ClusterId, Element, Wildcard, WriteClaim};

use crate::limits::{TOKEN_BYTES_MAX, TOKEN_ELEMENTS_MAX};

/// What a session has written.
///
/// Elements are kept sorted, so that equal sets are equal values. A set that was merged holds at
/// most [`TOKEN_ELEMENTS_MAX`] elements; one that was decoded from joined tokens may hold more, up to
/// what [`TOKEN_BYTES_MAX`] bytes can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    elements: SmallVec<[Element; TOKEN_ELEMENTS_MAX]>,
}

impl Token {
    /// The token of a session that has written nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The elements, sorted.
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Adds one element. `fresh` is called if the set was full and collapses: it must draw a number
    /// that its incarnation has never used, see [`Wildcard`].
    pub fn add(&mut self, element: Element, fresh: impl FnOnce() -> Wildcard) {
        self.insert(element);
        self.collapse(fresh);
    }

    /// Adds what another token of the same session stands for. `fresh` as in [`add`](Self::add).
    pub fn merge(&mut self, other: &Token, fresh: impl FnOnce() -> Wildcard) {
        for element in &other.elements {
            self.insert(*element);
        }
        self.collapse(fresh);
    }

    /// Keeps the set small by letting one wildcard stand for all of it.
    fn collapse(&mut self, fresh: impl FnOnce() -> Wildcard) {
        if self.elements.len() > TOKEN_ELEMENTS_MAX {
            self.elements.clear();
            self.elements.push(Element::Wildcard(fresh()));
        }
    }

    /// Adds an element and lets it join the one of the same writer, if there is one.
    fn insert(&mut self, element: Element) {
        match self.elements.binary_search_by_key(&element.key(), Element::key) {
            Ok(at) => {
                if let Some(known) = self.elements.get_mut(at) {
                    *known = known.join(element);
                }
            }
            Err(at) => self.elements.insert(at, element),
        }
    }
}

/// Numbers the wildcards that one process makes, from 1.
#[derive(Debug)]
pub struct WildcardSource {
    incarnation: Incarnation,
    next: AtomicU64,
}

impl WildcardSource {
    /// A source for one life of a process. A replica hands in its own incarnation; a client draws one
    /// at random at its start. It must never have been used before (coherence row 58).
    pub const fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, next: AtomicU64::new(1) }
    }

    /// A wildcard that has never been made before. Call it once everything that it is to stand for
    /// is in hand: a fence that covers a later number then covers all of that too (rule R9).
    pub fn fresh(&self) -> Wildcard {
        // Relaxed is enough: only the numbers' being different and rising matters, and whatever the
        // wildcard stands for was acknowledged before, in the same thread or handed to it.
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        Wildcard { incarnation: self.incarnation, seq: AckSeq::new(seq) }
    }
}

/// Why token bytes are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Longer than any token.
    #[error("token: {bytes} bytes; at most {TOKEN_BYTES_MAX}; send the newest token only")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Cut off.
    #[error("token: cut off after {bytes} bytes; send it whole, as it was received")]
    Truncated {
        /// Its length.
        bytes: usize,
    },
    /// Damaged, or never a token.
    #[error("token: {what}; send it as it was received, or none")]
    Garbage {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Of a format that this program does not know.
    #[error(
        "token: format {version} is not known here (known: {}); upgrade, or send none",
        codec::VERSION
    )]
    Version {
        /// Its format.
        version: u8,
    },
    /// Made by another cluster, about whose writes nothing can be known here.
    #[error("token: made by cluster {found}, this is {expected}; send it there, or none")]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
}
