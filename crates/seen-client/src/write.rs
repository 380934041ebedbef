//! Mark, Unmark and Forget: what changes a history.

use std::time::Duration;

use seen_filter::Item;
use seen_proto::status::ApiError;
use seen_proto::v1;
use seen_proto::v1::forget_request::Scope;

use crate::client::Client;
use crate::failure::Effect;
use crate::session::Session;

/// What a user has read. The service checks it; see the limits in [`crate::limits`].
#[derive(Clone, Debug, PartialEq)]
pub struct MarkCall {
    pub(crate) request: v1::MarkRequest,
    pub(crate) timeout: Option<Duration>,
}

impl MarkCall {
    /// Nothing yet, in this history.
    pub fn new(namespace: impl Into<String>) -> Self {
        let request = v1::MarkRequest { namespace: namespace.into(), ..Default::default() };
        Self { request, timeout: None }
    }

    /// Adds an item that is read now, by storage's clock.
    pub fn item(self, kind: u8, id: u64) -> Self {
        self.push(kind, id, None)
    }

    /// Adds an item that was read at this time, in milliseconds since 1970-01-01 UTC.
    pub fn item_at(self, kind: u8, id: u64, marked_at_ms: u64) -> Self {
        self.push(kind, id, Some(marked_at_ms))
    }

    fn push(mut self, kind: u8, id: u64, marked_at_ms: Option<u64>) -> Self {
        self.request.items.push(v1::MarkItem { kind: kind.into(), id, marked_at_ms });
        self
    }

    /// How long the call may take, repeats included; default [`crate::Timeouts::write`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// What a user has not read after all.
#[derive(Clone, Debug, PartialEq)]
pub struct UnmarkCall {
    request: v1::UnmarkRequest,
    timeout: Option<Duration>,
}

impl UnmarkCall {
    /// Nothing yet, in this history.
    pub fn new(namespace: impl Into<String>) -> Self {
        let request = v1::UnmarkRequest { namespace: namespace.into(), ..Default::default() };
        Self { request, timeout: None }
    }

    /// Adds items of one kind.
    pub fn items(mut self, kind: u8, ids: impl IntoIterator<Item = u64>) -> Self {
        let ids = ids.into_iter().collect();
        self.request.items.push(v1::ItemGroup { kind: kind.into(), ids });
        self
    }

    /// Adds one item.
    pub fn item(self, item: Item) -> Self {
        self.items(item.kind.get(), [item.id.get()])
    }

    /// How long the call may take, repeats included; default [`crate::Timeouts::write`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Where to forget a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgetScope {
    /// In this history.
    Namespace(String),
    /// In all of them.
    AllNamespaces,
}

impl Client {
    /// Says that the user has read these items. When it returns, that is durable, and calls of this
    /// session know it.
    ///
    /// # Errors
    /// What the service refused. On [`seen_proto::status::ErrorKind::OutcomeUnknown`] it may be
    /// written or not; repeating it is safe.
    pub async fn mark(&self, session: &Session, call: MarkCall) -> Result<(), ApiError> {
        let carried = session.carry();
        let mut request = call.request;
        request.user = session.user();
        request.token.clone_from(&carried.token);
        let timeout = call.timeout.unwrap_or(self.shared.options.timeouts.write);
        let answer = self
            .shared
            .call(Effect::Write, timeout, request, |mut service, request| async move {
                service.mark(request).await
            })
            .await?;
        session.absorb(&carried, answer.token, &self.shared.wildcards);
        Ok(())
    }

    /// Says that the user has not read these items after all. Afterwards calls of this session say
    /// "unread", or flag their answer.
    ///
    /// # Errors
    /// As for [`Client::mark`].
    pub async fn unmark(&self, session: &Session, call: UnmarkCall) -> Result<(), ApiError> {
        let carried = session.carry();
        let mut request = call.request;
        request.user = session.user();
        request.token.clone_from(&carried.token);
        let timeout = call.timeout.unwrap_or(self.shared.options.timeouts.write);
        let answer = self
            .shared
            .call(Effect::Write, timeout, request, |mut service, request| async move {
                service.unmark(request).await
            })
            .await?;
        session.absorb(&carried, answer.token, &self.shared.wildcards);
        Ok(())
    }

    /// Removes everything that is known about the session's user, durably. One entry a namespace; one
    /// with an error could not be forgotten while another was: repeat the call.
    ///
    /// # Errors
    /// As for [`Client::mark`], where nothing was achieved.
    pub async fn forget(
        &self,
        session: &Session,
        scope: ForgetScope,
    ) -> Result<Vec<v1::ForgottenNamespace>, ApiError> {
        let carried = session.carry();
        let scope = match scope {
            ForgetScope::Namespace(name) => Scope::Namespace(name),
            ForgetScope::AllNamespaces => Scope::AllNamespaces(true),
        };
        let request = v1::ForgetRequest {
            user: session.user(),
            scope: Some(scope),
            token: carried.token.clone(),
        };
        let timeout = self.shared.options.timeouts.forget;
        let answer = self
            .shared
            .call(Effect::Write, timeout, request, |mut service, request| async move {
                service.forget(request).await
            })
            .await?;
        session.absorb(&carried, answer.token, &self.shared.wildcards);
        Ok(answer.namespaces)
    }
}
