//! What an operator asks of a proxy. It holds no users, so that what concerns one is asked of a replica.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seen_proto::limits::TIMEOUT_MS_MAX;
use seen_proto::model::DrainCall;
use seen_proto::v1;
use seen_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::watch::Watched;
use crate::readiness::Readiness;
use crate::shutdown::Stop;

/// What is asked about one user.
const ASK_A_REPLICA: &str =
    "a proxy holds no users; ask a replica of the user's slot (seen cluster status lists them)";

/// The operator's service of a proxy.
#[derive(Clone)]
pub(super) struct ProxyAdmin {
    pub watched: Arc<Watched>,
    pub readiness: Readiness,
    pub stop: Stop,
    pub incarnation: u64,
    pub started: Instant,
}

impl ProxyAdmin {
    fn cluster_status(&self) -> v1::ClusterStatus {
        let reasons = self.readiness.reasons();
        let reason = reasons.iter().map(|(part, why)| format!("{part}: {why}")).collect::<Vec<_>>();
        v1::ClusterStatus {
            role: "proxy".to_owned(),
            map_epoch: self.watched.epoch(),
            ready: self.readiness.is_ready(),
            reason: reason.join("; "),
            replicas: self.watched.replicas(),
            ..v1::ClusterStatus::default()
        }
    }
}

#[tonic::async_trait]
impl AdminService for ProxyAdmin {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let uptime_ms = self.started.elapsed().as_millis();
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: format!("{:016x}", self.watched.cluster()),
            incarnation: format!("{:016x}", self.incarnation),
            uptime_ms: u64::try_from(uptime_ms).unwrap_or(u64::MAX),
            draining: self.stop.is_requested(),
            problems: self.watched.problems(),
            cluster_status: Some(self.cluster_status()),
            ..v1::StatusResponse::default()
        }))
    }

    async fn evict_user(
        &self,
        _request: Request<v1::EvictUserRequest>,
    ) -> Result<Response<v1::EvictUserResponse>, Status> {
        Err(Status::unimplemented(ASK_A_REPLICA))
    }

    async fn rebuild_user(
        &self,
        _request: Request<v1::RebuildUserRequest>,
    ) -> Result<Response<v1::RebuildUserResponse>, Status> {
        Err(Status::unimplemented(ASK_A_REPLICA))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        let call = DrainCall::try_from(request.into_inner()).map_err(Status::from)?;
        let timeout =
            call.timeout_ms.map(|ms| Duration::from_millis(ms.min(TIMEOUT_MS_MAX).into()));
        self.readiness.not_ready("drain", "draining");
        self.stop.request_within(timeout);
        Ok(Response::new(v1::DrainResponse { calls_running: self.watched.in_flight() }))
    }
}
