//! Binding every port before anything is announced.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::{Addresses, NodeError};
use crate::config::Config;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// A port that is taken, and at which callers are refused until it is listened on.
pub(crate) struct Bound {
    socket: TcpSocket,
    key: &'static str,
    address: SocketAddr,
}

impl Bound {
    fn new(key: &'static str, address: SocketAddr) -> Result<(Self, SocketAddr), NodeError> {
        let bound = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // Else a port is not to be had for a minute after a process that had callers on it.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let at = socket.local_addr()?;
            Ok((socket, at))
        };
        let (socket, at) = bound().map_err(|source| NodeError::Listen { key, address, source })?;
        Ok((Self { socket, key, address }, at))
    }

    /// Callers are taken from now on.
    ///
    /// # Errors
    /// [`NodeError::Listen`]: another process listens there meanwhile.
    pub fn listen(self) -> Result<TcpListener, NodeError> {
        let Self { socket, key, address } = self;
        socket.listen(BACKLOG).map_err(|source| NodeError::Listen { key, address, source })
    }
}

/// The bound ports.
pub(crate) struct Listeners {
    pub api: Bound,
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
    let (api, api_at) = Bound::new("server.listen", server.listen)?;
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
