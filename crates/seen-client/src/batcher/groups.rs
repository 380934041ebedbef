//! Marks that wait for others of the same session, so that they travel as one message.

use std::collections::HashMap;
use std::time::Duration;

use seen_proto::limits::MARK_ITEMS_MAX;
use seen_proto::status::ApiError;
use seen_proto::v1::MarkItem;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::session::Session;

/// Room in items and in bytes, given back when the mark is over.
pub(super) type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// One mark as it was handed over.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) session: Session,
    pub(super) namespace: String,
    pub(super) items: Vec<MarkItem>,
    pub(super) ticket: Ticket,
}

/// Who waits for one mark.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) deadline: Instant,
    pub(super) acknowledge: oneshot::Sender<Result<(), ApiError>>,
    pub(super) _room: Room,
}

/// Marks of one session and namespace that travel together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) session: Session,
    pub(super) namespace: String,
    pub(super) items: Vec<MarkItem>,
    pub(super) tickets: Vec<Ticket>,
    /// The earliest of its tickets.
    pub(super) deadline: Instant,
    /// How often it was sent.
    pub(super) attempts: u32,
}

impl Group {
    fn new(submission: Submission) -> Self {
        let Submission { session, namespace, items, ticket } = submission;
        let deadline = ticket.deadline;
        Self { session, namespace, items, tickets: vec![ticket], deadline, attempts: 0 }
    }

    fn join(&mut self, submission: Submission) {
        self.items.extend(submission.items);
        self.deadline = self.deadline.min(submission.ticket.deadline);
        self.tickets.push(submission.ticket);
    }

    /// Tells everyone who waits.
    pub(super) fn settle(self, outcome: &Result<(), ApiError>) {
        for ticket in self.tickets {
            // An error means that nobody waits any more.
            let _ = ticket.acknowledge.send(outcome.clone());
        }
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    groups: Vec<Group>,
    /// Where the group of a session and namespace is that has room.
    places: HashMap<(usize, String), usize>,
    items: usize,
    /// When the first of them was handed over.
    since: Option<Instant>,
}

impl Gathering {
    /// Takes a mark in.
    pub(super) fn add(&mut self, submission: Submission, now: Instant) {
        self.since.get_or_insert(now);
        self.items += submission.items.len();
        let key = (submission.session.address(), submission.namespace.clone());
        let place = self.places.get(&key).copied();
        match place.and_then(|place| self.groups.get_mut(place)) {
            Some(group)
                if group.items.len() + submission.items.len() <= MARK_ITEMS_MAX
                    && group.session.is(&submission.session) =>
            {
                group.join(submission);
            }
            _ => {
                self.places.insert(key, self.groups.len());
                self.groups.push(Group::new(submission));
            }
        }
    }

    /// When it must be sent at the latest; `None` if it is empty.
    pub(super) fn due(&self, items_max: usize, after: Duration) -> Option<Instant> {
        let since = self.since?;
        Some(if self.items >= items_max { since } else { since + after })
    }

    /// All groups, in the order in which they began.
    pub(super) fn take(&mut self) -> Vec<Group> {
        self.places.clear();
        self.items = 0;
        self.since = None;
        std::mem::take(&mut self.groups)
    }
}
