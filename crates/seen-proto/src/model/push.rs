//! FilterUsers: a few items against many users.

use seen_filter::{Item, UserId};

use super::{OnUnknown, Quality, checks};
use crate::limits::{PUSH_ITEMS_MAX, PUSH_TIMEOUT_MS_DEFAULT, PUSH_USERS_MAX};
use crate::status::{ApiError, ErrorKind};
use crate::v1;
use crate::v1::UserAnswer;

/// A validated `FilterUsersRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCall {
    /// The caller's id of the question.
    pub request_id: u64,
    /// The histories, 1 to [`crate::limits::NAMESPACES_MAX`].
    pub namespaces: Vec<String>,
    /// The items, at most [`PUSH_ITEMS_MAX`], in request order.
    pub items: Vec<Item>,
    /// The users, at most [`PUSH_USERS_MAX`], in request order.
    pub users: Vec<UserId>,
    /// The raw session token; empty = none.
    pub token: Vec<u8>,
    /// What to answer about users of whom nothing certain is known in time.
    pub on_unknown: OnUnknown,
    /// Time until the answer must be sent, in milliseconds, 1 to
    /// [`crate::limits::TIMEOUT_MS_MAX`].
    pub timeout_ms: u32,
}

impl TryFrom<v1::FilterUsersRequest> for PushCall {
    type Error = ApiError;

    fn try_from(request: v1::FilterUsersRequest) -> Result<Self, ApiError> {
        let users = request.users.len();
        if users > PUSH_USERS_MAX {
            let what = format!("{users} users; at most {PUSH_USERS_MAX}; send several messages");
            return Err(ApiError::invalid("users", what));
        }
        Ok(Self {
            request_id: request.request_id,
            namespaces: checks::namespaces(request.namespaces)?,
            items: checks::items(&request.items, PUSH_ITEMS_MAX)?,
            users: request.users.into_iter().map(UserId::new).collect(),
            token: checks::token(request.token)?,
            on_unknown: checks::on_unknown(request.on_unknown)?,
            timeout_ms: checks::timeout_ms(request.timeout_ms, PUSH_TIMEOUT_MS_DEFAULT)?,
        })
    }
}

/// The answer to a [`PushCall`] while it is put together: a row of bits a user. Every row begins as
/// `Unknown`, filled as the call wishes, so that whatever is not answered in time is named as such.
#[derive(Clone, Debug)]
pub struct PushRows {
    items: usize,
    row_bytes: usize,
    bits: Vec<u8>,
    answers: Vec<UserAnswer>,
}

impl PushRows {
    /// Rows for all users of the call.
    pub fn new(call: &PushCall) -> Self {
        let (items, users) = (call.items.len(), call.users.len());
        let row_bytes = items.div_ceil(8);
        let mut row = vec![0_u8; row_bytes];
        if call.on_unknown == OnUnknown::Show {
            (0..items).for_each(|item| row[item / 8] |= 1 << (item % 8));
        }
        let answers = vec![UserAnswer::Unknown; users];
        Self { items, row_bytes, bits: row.repeat(users), answers }
    }

    /// Answers for the user at this position of the request: the positions of the unread items. A
    /// position that the request does not have is left out.
    pub fn set(
        &mut self,
        user: usize,
        answer: UserAnswer,
        unseen: impl IntoIterator<Item = usize>,
    ) {
        let from = user.saturating_mul(self.row_bytes);
        let row = self.bits.get_mut(from..from.saturating_add(self.row_bytes));
        let (Some(row), Some(slot)) = (row, self.answers.get_mut(user)) else { return };
        row.fill(0);
        for item in unseen.into_iter().filter(|item| *item < self.items) {
            row[item / 8] |= 1 << (item % 8);
        }
        *slot = answer;
    }

    /// How many users are not answered yet.
    pub fn unknown(&self) -> usize {
        self.answers.iter().filter(|answer| **answer == UserAnswer::Unknown).count()
    }

    /// The message; `quality` is the weakest of all rows.
    pub fn finish(self, quality: Quality) -> v1::FilterUsersResult {
        v1::FilterUsersResult {
            unseen: self.bits,
            answers: self.answers.into_iter().map(i32::from).collect(),
            quality: Some(quality.into()),
        }
    }
}

/// A received `FilterUsersResult`, checked to fit its question.
#[derive(Clone, Debug)]
pub struct PushAnswers {
    items: usize,
    row_bytes: usize,
    result: v1::FilterUsersResult,
}

impl PushAnswers {
    /// Checks a result against the numbers of items and users that were asked about.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the sizes do not fit.
    pub fn new(
        result: v1::FilterUsersResult,
        items: usize,
        users: usize,
    ) -> Result<Self, ApiError> {
        let row_bytes = items.div_ceil(8);
        if result.answers.len() != users || result.unseen.len() != row_bytes * users {
            let what = format!(
                "the answer has {} users and {} bytes of bits, asked were {users} users and {items} \
                 items; report this to whoever runs the service",
                result.answers.len(),
                result.unseen.len()
            );
            return Err(ApiError::new(ErrorKind::Internal, what));
        }
        Ok(Self { items, row_bytes, result })
    }

    /// How far the row of the user at this position can be trusted; `Unknown` past the end and for
    /// an answer of a later version.
    pub fn answer(&self, user: usize) -> UserAnswer {
        let raw = self.result.answers.get(user).copied();
        raw.and_then(|raw| UserAnswer::try_from(raw).ok()).unwrap_or(UserAnswer::Unknown)
    }

    /// The positions of the items that the user at this position has not read.
    pub fn unseen(&self, user: usize) -> impl Iterator<Item = usize> + '_ {
        let from = user.saturating_mul(self.row_bytes);
        let row = self.result.unseen.get(from..from.saturating_add(self.row_bytes));
        let row = row.unwrap_or_default();
        (0..self.items)
            .filter(move |item| row.get(item / 8).is_some_and(|byte| byte >> (item % 8) & 1 == 1))
    }

    /// The weakest quality of all rows; degraded if the answer names none.
    pub fn quality(&self) -> Quality {
        Quality::from(&self.result.quality.unwrap_or_default())
    }
}
