//! A service of its own for one command, in this process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use crate::cli::CliError;
use crate::config::Config;
use crate::node::{Addresses, Node, NodeOptions};

/// A running node.
pub(crate) struct Embedded {
    node: Node,
}

impl Embedded {
    /// Starts a node on free ports; its data lies in `data_dir`, or in a temporary folder that is
    /// removed at the end.
    ///
    /// # Errors
    /// Why it cannot start.
    pub(crate) async fn start(
        mut config: Config,
        data_dir: Option<PathBuf>,
    ) -> Result<Self, CliError> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.server.listen = free;
        config.server.admin_listen = free;
        config.server.http_listen = free;
        Self::start_at(config, data_dir).await
    }

    /// As [`start`](Self::start), on the configured ports; on free ones where one of them is taken.
    ///
    /// # Errors
    /// Why it cannot start.
    pub(crate) async fn start_at_usual(
        config: Config,
        data_dir: Option<PathBuf>,
    ) -> Result<Self, CliError> {
        let server = &config.server;
        let usual = [server.listen, server.admin_listen, server.http_listen];
        // Held together until all were tried, or one port could be bound twice.
        let held: Vec<_> = usual.iter().map(TcpListener::bind).collect();
        let free = held.iter().all(Result::is_ok);
        drop(held);
        match free {
            true => Self::start_at(config, data_dir).await,
            false => Self::start(config, data_dir).await,
        }
    }

    async fn start_at(mut config: Config, data_dir: Option<PathBuf>) -> Result<Self, CliError> {
        let ephemeral = data_dir.is_none();
        if let Some(data_dir) = data_dir {
            config.storage.data_dir = data_dir;
        }
        let node = Node::start(NodeOptions { config, ephemeral, linked: false }).await?;
        node.ready().await;
        Ok(Self { node })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Addresses {
        self.node.addresses()
    }

    /// The API's address for a client.
    pub(crate) fn server(&self) -> String {
        format!("http://{}", self.addresses().api)
    }

    /// The admin service's address for a client.
    pub(crate) fn admin(&self) -> String {
        format!("http://{}", self.addresses().admin)
    }

    /// Ends when the admin service was asked to drain.
    pub(crate) async fn stop_requested(&self) {
        self.node.stop_requested().await;
    }

    /// Drains and closes the store.
    ///
    /// # Errors
    /// A part that had died before.
    pub(crate) async fn stop(self) -> Result<(), CliError> {
        Ok(self.node.stop().await?)
    }
}
