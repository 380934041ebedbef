//! History: listing what a user has read.

use seen_filter::{Kind, UnixMillis, UserId};

use super::checks;
use super::page_token::{self, PageCursor};
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use crate::status::ApiError;
use crate::v1;

/// The order in which a history is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HistoryOrder {
    /// By storage's own key.
    #[default]
    Key,
    /// Newest first.
    NewestFirst,
}

/// A validated `HistoryRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryCall {
    /// Whose history.
    pub user: UserId,
    /// Which history.
    pub namespace: String,
    /// In which order.
    pub order: HistoryOrder,
    /// Only items marked at or after this time.
    pub from: UnixMillis,
    /// Only items marked before this time; `None` = no bound. Not before `from`.
    pub until: Option<UnixMillis>,
    /// Only items of this kind; `None` = all.
    pub kind: Option<Kind>,
    /// Most rows to return, 1 to [`PAGE_ROWS_MAX`].
    pub rows_max: usize,
    /// Where the page before ended; `None` for the first page. Of the form that `order` needs.
    pub after: Option<PageCursor>,
}

impl HistoryCall {
    /// The token with which the caller gets the page after `cursor`. It fits this listing only:
    /// another user, namespace, order, range or kind refuses it.
    pub fn next_page_token(&self, cursor: PageCursor) -> Vec<u8> {
        page_token::encode(self, cursor)
    }
}

impl TryFrom<v1::HistoryRequest> for HistoryCall {
    type Error = ApiError;

    fn try_from(request: v1::HistoryRequest) -> Result<Self, ApiError> {
        let order = match v1::HistoryOrder::try_from(request.order) {
            Ok(v1::HistoryOrder::Unspecified | v1::HistoryOrder::Key) => HistoryOrder::Key,
            Ok(v1::HistoryOrder::NewestFirst) => HistoryOrder::NewestFirst,
            Err(_) => {
                let what = format!(
                    "{}; HISTORY_ORDER_KEY (1) or HISTORY_ORDER_NEWEST_FIRST (2)",
                    request.order
                );
                return Err(ApiError::invalid("order", what));
            }
        };
        if let Some(until_ms) = request.until_ms
            && until_ms < request.from_ms
        {
            let what = format!("{until_ms}; not before from_ms, which is {}", request.from_ms);
            return Err(ApiError::invalid("until_ms", what));
        }
        let rows_max = match request.page_size as usize {
            0 => PAGE_ROWS_DEFAULT,
            rows if rows <= PAGE_ROWS_MAX => rows,
            rows => {
                let what = format!("{rows}; at most {PAGE_ROWS_MAX}; ask for more pages");
                return Err(ApiError::invalid("page_size", what));
            }
        };
        let mut call = Self {
            user: UserId::new(request.user),
            namespace: checks::namespace(request.namespace)?,
            order,
            from: UnixMillis::new(request.from_ms),
            until: request.until_ms.map(UnixMillis::new),
            kind: request.kind.map(|kind| checks::kind(kind, "kind")).transpose()?,
            rows_max,
            after: None,
        };
        call.after = page_token::decode(&call, &request.page_token)?;
        Ok(call)
    }
}
