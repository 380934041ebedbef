//! Binding every port before anything is announced.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::{Addresses, NodeError};
use crate::config::Config;

/// The bound ports.
pub(crate) struct Listeners {
    pub api: TcpListener,
    pub admin: TcpListener,
    pub http: TcpListener,
    /// For proxies and peers.
    pub link: Option<TcpListener>,
    addresses: Addresses,
}

impl Listeners {
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

/// Binds every port; that of links where the node is `linked`.
pub(crate) async fn bind(config: &Config, linked: bool) -> Result<Listeners, NodeError> {
    let server = &config.server;
    let (api, api_at) = one("server.listen", server.listen).await?;
    let (admin, admin_at) = one("server.admin_listen", server.admin_listen).await?;
    let (http, http_at) = one("server.http_listen", server.http_listen).await?;
    let link = match linked {
        true => Some(one("cluster.link_listen", config.cluster.link_listen).await?),
        false => None,
    };
    let (link, link_at) = link.unzip();
    let addresses = Addresses { api: api_at, admin: admin_at, http: http_at, link: link_at };
    Ok(Listeners { api, admin, http, link, addresses })
}

async fn one(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), NodeError> {
    let failed = |source| NodeError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
