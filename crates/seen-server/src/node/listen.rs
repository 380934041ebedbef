//! Binding every port before anything is announced.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::{Addresses, NodeError};
use crate::config::Config;

/// The bound ports.
pub(super) struct Listeners {
    pub api: TcpListener,
    pub admin: TcpListener,
    pub http: TcpListener,
    addresses: Addresses,
}

impl Listeners {
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

pub(super) async fn bind(config: &Config) -> Result<Listeners, NodeError> {
    let server = &config.server;
    let (api, api_at) = one("listen", server.listen).await?;
    let (admin, admin_at) = one("admin_listen", server.admin_listen).await?;
    let (http, http_at) = one("http_listen", server.http_listen).await?;
    let addresses = Addresses { api: api_at, admin: admin_at, http: http_at };
    Ok(Listeners { api, admin, http, addresses })
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
