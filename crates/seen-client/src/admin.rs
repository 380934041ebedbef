//! The admin service: how one process fares, and steering it.

use std::time::Duration;

use seen_proto::status::ApiError;
use seen_proto::v1;
use seen_proto::v1::admin_service_client::AdminServiceClient;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::channels::endpoint;
use crate::failure::{Effect, Failure};
use crate::options::{ClientOptions, OptionsError};

/// Time for a rebuild beyond what it is given, as it reads a whole history.
const REBUILD_TIMEOUT: Duration = Duration::from_secs(30);

/// The admin service of one process. Nothing is repeated: its callers are people and scripts.
#[derive(Clone, Debug)]
pub struct Admin {
    service: AdminServiceClient<Channel>,
    timeout: Duration,
    url: String,
}

impl Admin {
    /// The admin service at `options.url`; its connection is opened when it is first needed.
    ///
    /// # Errors
    /// The first option out of range.
    pub fn new(options: &ClientOptions) -> Result<Self, OptionsError> {
        let channel = endpoint(options)?.connect_lazy();
        Ok(Self {
            service: AdminServiceClient::new(channel),
            timeout: options.timeouts.look,
            url: options.url.clone(),
        })
    }

    /// How the process fares.
    ///
    /// # Errors
    /// Why it did not answer.
    pub async fn status(&self) -> Result<v1::StatusResponse, ApiError> {
        let mut service = self.service.clone();
        let request = v1::StatusRequest {};
        ask(&self.url, Effect::Read, self.timeout, request, |request| async move {
            service.status(request).await
        })
        .await
    }

    /// Drops a user's entry from memory; in all namespaces if `namespace` is empty.
    ///
    /// # Errors
    /// What the service refused, or why it did not answer.
    pub async fn evict(
        &self,
        user: u64,
        namespace: impl Into<String>,
    ) -> Result<v1::EvictUserResponse, ApiError> {
        let mut service = self.service.clone();
        let request = v1::EvictUserRequest { user, namespace: namespace.into() };
        ask(&self.url, Effect::Write, self.timeout, request, |request| async move {
            service.evict_user(request).await
        })
        .await
    }

    /// Builds a user's entry anew from storage.
    ///
    /// # Errors
    /// What the service refused, or why it did not answer; the build goes on behind a deadline.
    pub async fn rebuild(
        &self,
        user: u64,
        namespace: impl Into<String>,
    ) -> Result<v1::RebuildUserResponse, ApiError> {
        let mut service = self.service.clone();
        let request = v1::RebuildUserRequest { user, namespace: namespace.into() };
        ask(&self.url, Effect::Write, REBUILD_TIMEOUT, request, |request| async move {
            service.rebuild_user(request).await
        })
        .await
    }

    /// Begins the process's end; `within` is how long running calls may take, `None` = as configured.
    ///
    /// # Errors
    /// What the service refused, or why it did not answer.
    pub async fn drain(&self, within: Option<Duration>) -> Result<v1::DrainResponse, ApiError> {
        let mut service = self.service.clone();
        let timeout_ms = within.map_or(0, |span| span.as_millis().clamp(1, u32::MAX.into()) as u32);
        let request = v1::DrainRequest { timeout_ms };
        ask(&self.url, Effect::Write, self.timeout, request, |request| async move {
            service.drain(request).await
        })
        .await
    }
}

async fn ask<M, T, F>(
    url: &str,
    effect: Effect,
    timeout: Duration,
    message: M,
    send: impl FnOnce(Request<M>) -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    match timeout_at(Instant::now() + timeout, send(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Failure::of(&status, effect, url).error),
        Err(_) => Err(Failure::timed_out(effect, timeout.as_millis()).error),
    }
}
