//! A whole node on the embedded store, and its callers over real sockets.

use std::net::SocketAddr;
use std::path::Path;

use seen_proto::v1;
use seen_proto::v1::admin_service_client::AdminServiceClient;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_server::config::{Config, NamespaceConfig};
use seen_server::node::{Addresses, Node, NodeOptions};
use tonic::transport::Channel;

use super::ask::{Caller, patient};

/// A running node.
pub struct Stage {
    pub api: Caller<Channel>,
    pub admin: AdminServiceClient<Channel>,
    pub at: Addresses,
    node: Node,
}

/// The default configuration on free ports.
pub fn config() -> Config {
    let mut config = Config::default();
    let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    config.server.listen = free;
    config.server.admin_listen = free;
    config.server.http_listen = free;
    config.server.threads = 1;
    config
}

/// As [`config`], with these namespaces.
pub fn with_namespaces(namespaces: Vec<NamespaceConfig>) -> Config {
    Config { namespace: namespaces, ..config() }
}

/// As [`config`], on a data folder that outlives the node.
pub fn on_folder(folder: &Path) -> Config {
    let mut config = config();
    config.storage.data_dir = folder.to_owned();
    config
}

/// A connection to this address.
pub async fn connect(to: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{to}")).expect("an address");
    endpoint.connect().await.expect("it listens")
}

impl Stage {
    /// A fresh node with the default namespaces.
    pub async fn open() -> Self {
        Self::start(config(), true).await
    }

    /// A fresh node.
    pub async fn with(config: Config) -> Self {
        Self::start(config, true).await
    }

    /// A node on the configured data folder.
    pub async fn lasting(config: Config) -> Self {
        Self::start(config, false).await
    }

    async fn start(config: Config, ephemeral: bool) -> Self {
        config.validate().expect("a configuration in range");
        let node =
            Node::start(NodeOptions { config, ephemeral, linked: false }).await.expect("it starts");
        node.ready().await;
        let at = node.addresses();
        let api = Caller(SeenServiceClient::new(connect(at.api).await));
        let admin = AdminServiceClient::new(connect(at.admin).await);
        Self { api, admin, at, node }
    }

    /// Builds a user's entry from storage and waits until it is installed.
    pub async fn rebuild(&mut self, user: u64, namespace: &str) -> v1::RebuildUserResponse {
        let request = v1::RebuildUserRequest { user, namespace: namespace.to_owned() };
        self.admin.rebuild_user(patient(request)).await.expect("rebuilt").into_inner()
    }

    /// Drops a user's entries from memory.
    pub async fn evict(&mut self, user: u64) -> v1::EvictUserResponse {
        let request = v1::EvictUserRequest { user, namespace: String::new() };
        self.admin.evict_user(patient(request)).await.expect("evicted").into_inner()
    }

    /// How the node fares.
    pub async fn status(&mut self) -> v1::StatusResponse {
        self.admin.status(patient(v1::StatusRequest {})).await.expect("answered").into_inner()
    }

    /// Ends when somebody asked the node to stop.
    pub async fn stop_requested(&self) {
        self.node.stop_requested().await;
    }

    /// Drains and closes.
    pub async fn close(self) {
        drop((self.api, self.admin));
        self.node.stop().await.expect("a clean end");
    }
}
