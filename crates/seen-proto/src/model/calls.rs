//! Unmark, Forget and Explain.

use seen_filter::{Item, UserId};

use super::checks;
use crate::limits::UNMARK_ITEMS_MAX;
use crate::status::ApiError;
use crate::v1;

/// A validated `UnmarkRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmarkCall {
    /// Whose history.
    pub user: UserId,
    /// Which history.
    pub namespace: String,
    /// What is unread again, at most [`UNMARK_ITEMS_MAX`] items in request order.
    pub items: Vec<Item>,
    /// The raw session token; empty = none.
    pub token: Vec<u8>,
}

impl TryFrom<v1::UnmarkRequest> for UnmarkCall {
    type Error = ApiError;

    fn try_from(request: v1::UnmarkRequest) -> Result<Self, ApiError> {
        Ok(Self {
            user: UserId::new(request.user),
            namespace: checks::namespace(request.namespace)?,
            items: checks::items(&request.items, UNMARK_ITEMS_MAX)?,
            token: checks::token(request.token)?,
        })
    }
}

/// Where to forget a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgetScope {
    /// In one history.
    Namespace(String),
    /// In all of them.
    All,
}

/// A validated `ForgetRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetCall {
    /// Whom to forget.
    pub user: UserId,
    /// Where.
    pub scope: ForgetScope,
    /// The raw session token; empty = none.
    pub token: Vec<u8>,
}

impl TryFrom<v1::ForgetRequest> for ForgetCall {
    type Error = ApiError;

    fn try_from(request: v1::ForgetRequest) -> Result<Self, ApiError> {
        use v1::forget_request::Scope;
        let scope = match request.scope {
            Some(Scope::Namespace(name)) => ForgetScope::Namespace(checks::namespace(name)?),
            Some(Scope::AllNamespaces(true)) => ForgetScope::All,
            Some(Scope::AllNamespaces(false)) => {
                let what = "false; set it to true, or name one history in `namespace`";
                return Err(ApiError::invalid("all_namespaces", what));
            }
            // Forgetting everywhere must be said, not left out.
            None => {
                let what = "absent; name a history, or set `all_namespaces` to true";
                return Err(ApiError::invalid("namespace", what));
            }
        };
        Ok(Self { user: UserId::new(request.user), scope, token: checks::token(request.token)? })
    }
}

/// A validated `ExplainRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainCall {
    /// Whose history.
    pub user: UserId,
    /// Which history.
    pub namespace: String,
    /// What to explain.
    pub item: Item,
    /// The raw session token; empty = none.
    pub token: Vec<u8>,
}

impl TryFrom<v1::ExplainRequest> for ExplainCall {
    type Error = ApiError;

    fn try_from(request: v1::ExplainRequest) -> Result<Self, ApiError> {
        let kind = checks::kind(request.kind, "kind")?;
        Ok(Self {
            user: UserId::new(request.user),
            namespace: checks::namespace(request.namespace)?,
            item: Item::new(kind.get(), request.id),
            token: checks::token(request.token)?,
        })
    }
}
