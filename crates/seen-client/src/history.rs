//! History and Explain: what a history holds, and why an answer is what it is.

use std::time::Duration;

use seen_proto::model::HistoryOrder;
use seen_proto::status::ApiError;
use seen_proto::v1;

use crate::client::Client;
use crate::failure::Effect;
use crate::session::Session;

/// Which rows of a history to list.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryCall {
    request: v1::HistoryRequest,
    timeout: Option<Duration>,
}

impl HistoryCall {
    /// All rows of this history, by storage's key.
    pub fn new(namespace: impl Into<String>) -> Self {
        let request = v1::HistoryRequest { namespace: namespace.into(), ..Default::default() };
        Self { request, timeout: None }
    }

    /// In which order.
    pub fn order(mut self, order: HistoryOrder) -> Self {
        self.request.order = match order {
            HistoryOrder::Key => v1::HistoryOrder::Key.into(),
            HistoryOrder::NewestFirst => v1::HistoryOrder::NewestFirst.into(),
        };
        self
    }

    /// Only items marked at or after this time, in milliseconds since 1970-01-01 UTC.
    pub fn from_ms(mut self, from_ms: u64) -> Self {
        self.request.from_ms = from_ms;
        self
    }

    /// Only items marked before this time, in milliseconds since 1970-01-01 UTC.
    pub fn until_ms(mut self, until_ms: u64) -> Self {
        self.request.until_ms = Some(until_ms);
        self
    }

    /// Only items of this kind.
    pub fn kind(mut self, kind: u8) -> Self {
        self.request.kind = Some(kind.into());
        self
    }

    /// Most rows of one page, at most [`crate::limits::PAGE_ROWS_MAX`].
    pub fn page_rows(mut self, rows: u32) -> Self {
        self.request.page_size = rows;
        self
    }

    /// Goes on after the page that this token came with.
    pub fn after(mut self, page_token: Vec<u8>) -> Self {
        self.request.page_token = page_token;
        self
    }

    /// How long one page may take, repeats included; default [`crate::Timeouts::look`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// A page of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryPage {
    /// The rows; a page may be empty and yet not be the last.
    pub rows: Vec<v1::HistoryRow>,
    /// For [`HistoryCall::after`]; empty = this was the last page.
    pub next_page_token: Vec<u8>,
    /// Rows that storage read for it.
    pub rows_read: u32,
}

/// Page after page of a history.
#[derive(Debug)]
pub struct HistoryPages {
    client: Client,
    user: u64,
    call: HistoryCall,
    done: bool,
}

impl HistoryPages {
    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// As for [`Client::history`]; it may be called again.
    pub async fn next(&mut self) -> Result<Option<HistoryPage>, ApiError> {
        if self.done {
            return Ok(None);
        }
        let page = self.client.history(self.user, self.call.clone()).await?;
        self.call.request.page_token.clone_from(&page.next_page_token);
        self.done = page.next_page_token.is_empty();
        Ok(Some(page))
    }
}

/// One item to explain.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainCall {
    /// In which history.
    pub namespace: String,
    /// The class of the item.
    pub kind: u8,
    /// The id within the kind.
    pub id: u64,
}

impl Client {
    /// One page of what a user has read, from storage.
    ///
    /// # Errors
    /// What the service refused, or why it did not answer.
    pub async fn history(&self, user: u64, call: HistoryCall) -> Result<HistoryPage, ApiError> {
        let mut request = call.request;
        request.user = user;
        let timeout = call.timeout.unwrap_or(self.shared.options.timeouts.look);
        let answer = self
            .shared
            .call(Effect::Read, timeout, request, |mut service, request| async move {
                service.history(request).await
            })
            .await?;
        let v1::HistoryResponse { rows, next_page_token, rows_read } = answer;
        Ok(HistoryPage { rows, next_page_token, rows_read })
    }

    /// All pages of what a user has read.
    pub fn history_pages(&self, user: u64, call: HistoryCall) -> HistoryPages {
        HistoryPages { client: self.clone(), user, call, done: false }
    }

    /// Why is this item filtered for the session's user, or not?
    ///
    /// # Errors
    /// What the service refused, or why it did not answer.
    pub async fn explain(
        &self,
        session: &Session,
        call: ExplainCall,
    ) -> Result<v1::ExplainResponse, ApiError> {
        let request = v1::ExplainRequest {
            user: session.user(),
            namespace: call.namespace,
            kind: call.kind.into(),
            id: call.id,
            token: session.token(),
        };
        let timeout = self.shared.options.timeouts.look;
        self.shared
            .call(Effect::Read, timeout, request, |mut service, request| async move {
                service.explain(request).await
            })
            .await
    }
}
