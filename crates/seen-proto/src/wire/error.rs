//! Why a raw request is refused.

use std::borrow::Cow;

use thiserror::Error;

use crate::status::ApiError;

/// Why a raw request is refused. Nothing of it has been executed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The bytes are not a protobuf message of this type; prost would refuse them too.
    #[error("the message cannot be read: {0}; encode it with seen/v1/*.proto")]
    Malformed(&'static str),
    /// A singular field was sent twice.
    #[error("{0}: sent twice, and it is singular; send it once")]
    Repeated(&'static str),
    /// A value is out of its range.
    #[error("{field}: {description}")]
    Invalid {
        /// The field's name.
        field: Cow<'static, str>,
        /// Its value, the limit, and what to do.
        description: String,
    },
}

impl WireError {
    /// A value out of its range.
    pub(super) fn invalid(
        field: impl Into<Cow<'static, str>>,
        description: impl Into<String>,
    ) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Malformed(_) => {
                Self::new(crate::status::ErrorKind::InvalidArgument, error.to_string())
            }
            WireError::Repeated(field) => Self::invalid(field, "sent twice; send it once"),
            WireError::Invalid { field, description } => Self::invalid(field, description),
        }
    }
}
