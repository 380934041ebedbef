//! The operator's service by gRPC. The public one is `seen-api`'s, over [`crate::calls::ReplicaCalls`].

mod admin;

use seen_proto::status::ApiError;
use tonic::Status;

pub use admin::{AdminGrpc, DrainHook};

use crate::replica::Replica;

impl Replica {
    /// Counts an error and turns it into what the caller gets.
    pub(crate) fn refuse(&self, error: ApiError) -> Status {
        self.metrics.error(error.kind);
        Status::from(error)
    }
}
