//! What an operator asks of one process.

use seen_filter::UserId;

use super::checks;
use crate::limits::TIMEOUT_MS_MAX;
use crate::status::ApiError;
use crate::v1;

/// A validated `EvictUserRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictCall {
    /// Whose entry to drop.
    pub user: UserId,
    /// In which history; `None` = in all.
    pub namespace: Option<String>,
}

impl TryFrom<v1::EvictUserRequest> for EvictCall {
    type Error = ApiError;

    fn try_from(request: v1::EvictUserRequest) -> Result<Self, ApiError> {
        let name = Some(request.namespace).filter(|name| !name.is_empty());
        Ok(Self {
            user: UserId::new(request.user),
            namespace: name.map(checks::namespace).transpose()?,
        })
    }
}

/// A validated `RebuildUserRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuildCall {
    /// Whose entry to build anew.
    pub user: UserId,
    /// In which history.
    pub namespace: String,
}

impl TryFrom<v1::RebuildUserRequest> for RebuildCall {
    type Error = ApiError;

    fn try_from(request: v1::RebuildUserRequest) -> Result<Self, ApiError> {
        Ok(Self {
            user: UserId::new(request.user),
            namespace: checks::namespace(request.namespace)?,
        })
    }
}

/// A validated `DrainRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainCall {
    /// How long running calls may take to end, in milliseconds, 1 to [`TIMEOUT_MS_MAX`]; `None` = as
    /// configured.
    pub timeout_ms: Option<u32>,
}

impl TryFrom<v1::DrainRequest> for DrainCall {
    type Error = ApiError;

    fn try_from(request: v1::DrainRequest) -> Result<Self, ApiError> {
        match request.timeout_ms {
            0 => Ok(Self { timeout_ms: None }),
            ms => checks::timeout_ms(ms, TIMEOUT_MS_MAX).map(|ms| Self { timeout_ms: Some(ms) }),
        }
    }
}
