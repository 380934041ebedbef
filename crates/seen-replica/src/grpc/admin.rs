//! The operator's service, for a port of its own.

use std::sync::Arc;

use seen_api::timeout_us;
use seen_proto::limits::TIMEOUT_MS_MAX;
use seen_proto::model::{DrainCall, EvictCall, RebuildCall};
use seen_proto::v1;
use seen_proto::v1::admin_service_server::AdminService;
use tokio::time::Duration;
use tonic::{Request, Response, Status};

use crate::replica::Replica;

/// Time that RebuildUser waits where the caller sends no deadline, in milliseconds.
const REBUILD_TIMEOUT_MS_DEFAULT: u32 = 30_000;

/// Begins to drain the process, with a time of the caller's choice.
pub type DrainHook = Arc<dyn Fn(Option<Duration>) + Send + Sync>;

/// Tells the process's place in its cluster.
pub type PlaceHook = Arc<dyn Fn() -> v1::ClusterStatus + Send + Sync>;

/// The operator's service of one replica.
#[derive(Clone)]
pub struct AdminGrpc {
    replica: Arc<Replica>,
    version: &'static str,
    drain: DrainHook,
    place: Option<PlaceHook>,
}

impl AdminGrpc {
    /// The service; `drain` is what Drain calls.
    pub fn new(replica: Arc<Replica>, version: &'static str, drain: DrainHook) -> Self {
        Self { replica, version, drain, place: None }
    }

    /// The same for a process that has a place in a cluster.
    #[must_use]
    pub fn placed(self, place: Option<PlaceHook>) -> Self {
        Self { place, ..self }
    }
}

#[tonic::async_trait]
impl AdminService for AdminGrpc {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        self.replica.refresh_sizes().await;
        let mut status = self.replica.status(self.version);
        status.cluster_status = self.place.as_ref().map(|place| place());
        Ok(Response::new(status))
    }

    async fn evict_user(
        &self,
        request: Request<v1::EvictUserRequest>,
    ) -> Result<Response<v1::EvictUserResponse>, Status> {
        let evicted =
            EvictCall::try_from(request.into_inner()).and_then(|call| self.replica.evict(call));
        evicted.map(Response::new).map_err(|error| self.replica.refuse(error))
    }

    async fn rebuild_user(
        &self,
        request: Request<v1::RebuildUserRequest>,
    ) -> Result<Response<v1::RebuildUserResponse>, Status> {
        let answer = async {
            let now = self.replica.ticker().now();
            let timeout_us = timeout_us(request.metadata().as_ref(), REBUILD_TIMEOUT_MS_DEFAULT)?;
            let deadline = now.plus_us(timeout_us);
            let call = RebuildCall::try_from(request.into_inner())?;
            let allowed = self.replica.answer_by(now, deadline).since_us(now);
            self.replica.rebuild(call, Duration::from_micros(allowed)).await
        };
        answer.await.map(Response::new).map_err(|error| self.replica.refuse(error))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        let call = DrainCall::try_from(request.into_inner())
            .map_err(|error| self.replica.refuse(error))?;
        let timeout =
            call.timeout_ms.map(|ms| Duration::from_millis(ms.min(TIMEOUT_MS_MAX).into()));
        self.replica.begin_draining();
        let calls_running = self.replica.calls_running();
        (self.drain)(timeout);
        Ok(Response::new(v1::DrainResponse { calls_running }))
    }
}
