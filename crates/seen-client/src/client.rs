//! The client and how it is made.

use std::sync::Arc;

use seen_filter::Incarnation;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::token::WildcardSource;
use thiserror::Error;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::budget::RetryBudget;
use crate::call::Shared;
use crate::channels::{Channels, endpoint};
use crate::options::{ClientOptions, OptionsError};

/// A client of one service. Clones share its connections and its retry budget.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// An option is out of range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The service cannot be reached.
    #[error(transparent)]
    Unreachable(ApiError),
}

impl Client {
    /// A client whose connections are opened when they are first needed. Call it within a tokio
    /// runtime, on which the connections then live.
    ///
    /// # Errors
    /// The first option out of range.
    pub fn new(options: ClientOptions) -> Result<Self, OptionsError> {
        let endpoint = endpoint(&options)?;
        let channels: Vec<Channel> =
            (0..options.connections).map(|_| endpoint.connect_lazy()).collect();
        Ok(Self::over(channels, options))
    }

    /// A client whose connections are open.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(options: ClientOptions) -> Result<Self, ConnectError> {
        let endpoint = endpoint(&options)?;
        let mut channels = Vec::with_capacity(options.connections);
        for _ in 0..options.connections {
            // The endpoint's own bound is about the connection alone: looking up a name has none.
            let connecting = timeout(options.connect_timeout, endpoint.connect());
            let why = match connecting.await {
                Ok(Ok(channel)) => {
                    channels.push(channel);
                    continue;
                }
                Ok(Err(error)) => match std::error::Error::source(&error) {
                    Some(cause) => cause.to_string(),
                    None => error.to_string(),
                },
                Err(_) => format!("no answer within {:?}", options.connect_timeout),
            };
            let message =
                format!("cannot connect to {}: {why}; is the service running?", options.url);
            let error = ApiError::new(ErrorKind::Unavailable, message);
            return Err(ConnectError::Unreachable(error));
        }
        Ok(Self::over(channels, options))
    }

    /// A client over channels that the caller made, for example over a connector of its own. Of the
    /// options, `url`, `connections` and those about connections are then without effect.
    ///
    /// # Errors
    /// An option out of range, or no channel.
    pub fn with_channels(
        channels: Vec<Channel>,
        options: ClientOptions,
    ) -> Result<Self, OptionsError> {
        options.validate()?;
        if channels.is_empty() {
            return Err(OptionsError::new("channels", "none", "at least one"));
        }
        Ok(Self::over(channels, options))
    }

    fn over(channels: Vec<Channel>, options: ClientOptions) -> Self {
        // Drawn at random: a wildcard's number must never have been used before, not even by an
        // earlier life of this process (coherence row 58).
        let incarnation = Incarnation::new(rand::random());
        let shared = Shared {
            channels: Channels::new(channels),
            budget: RetryBudget::new(options.retry_percent_max),
            wildcards: WildcardSource::new(incarnation),
            options,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What it was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }
}
