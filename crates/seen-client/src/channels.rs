//! The connections of a client, and which of them a call goes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seen_proto::v1::seen_service_client::SeenServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::options::{ClientOptions, OptionsError};

/// Flow-control windows, in bytes: with the protocol's default of 64 KiB a stream of filters waits
/// for the window after every twenty answers.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The connections of a client. Each is opened when it is first needed, and again when it was lost.
#[derive(Debug)]
pub(crate) struct Channels {
    all: Vec<Slot>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Slot {
    channel: Channel,
    calls: AtomicUsize,
}

/// A connection for one call. Counts it while it lives.
pub(crate) struct Lease {
    channels: Arc<Channels>,
    slot: usize,
}

impl Channels {
    pub(crate) fn new(channels: impl IntoIterator<Item = Channel>) -> Arc<Self> {
        let all = channels.into_iter().map(|channel| Slot { channel, calls: AtomicUsize::new(0) });
        Arc::new(Self { all: all.collect(), next: AtomicUsize::new(0) })
    }

    /// The next connection in turn, or its neighbour if that one has fewer calls on it: a connection
    /// that is stuck piles up calls, and is then passed over.
    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        let count = self.all.len();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let (first, second) = (turn % count, (turn + 1) % count);
        let calls = |slot: usize| self.all[slot].calls.load(Ordering::Relaxed);
        let slot = if calls(second) < calls(first) { second } else { first };
        self.all[slot].calls.fetch_add(1, Ordering::Relaxed);
        Lease { channels: Arc::clone(self), slot }
    }
}

impl Lease {
    /// The service over this connection.
    pub(crate) fn service(&self) -> SeenServiceClient<Channel> {
        SeenServiceClient::new(self.channels.all[self.slot].channel.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.channels.all[self.slot].calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How one connection is opened and kept.
pub(crate) fn endpoint(options: &ClientOptions) -> Result<Endpoint, OptionsError> {
    options.validate()?;
    let refused = |allowed: &str| OptionsError::new("url", &options.url, allowed);
    let url = match options.url.split_once("://") {
        None => format!("http://{}", options.url),
        Some(("http", _)) => options.url.clone(),
        Some(_) => return Err(refused("http://host:port; this version speaks no TLS")),
    };
    let endpoint = Endpoint::from_shared(url).map_err(|_| refused("http://host:port"))?;
    if endpoint.uri().port().is_none() {
        return Err(refused("http://host:port; the port is missing"));
    }
    let agent = concat!("seen-client/", env!("CARGO_PKG_VERSION"));
    let endpoint = endpoint.user_agent(agent).map_err(|_| refused("http://host:port"))?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_connection_is_passed_over() {
        let channel = || Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let channels = Channels::new([channel(), channel(), channel()]);
        let stuck: Vec<Lease> = (0..3).map(|_| channels.lease()).collect();
        let slots: Vec<usize> = stuck.iter().map(|lease| lease.slot).collect();
        assert_eq!(slots, [0, 1, 2], "in turn");
        drop(stuck.into_iter().nth(1));
        let lease = channels.lease();
        assert_eq!(lease.slot, 0);
        drop(lease);
        let busy: Vec<Lease> = (0..2).map(|_| channels.lease()).collect();
        assert_eq!(channels.lease().slot, 0);
        drop(busy);
    }

    #[test]
    fn addresses_that_cannot_be_used_are_refused() {
        let url = |url: &str| endpoint(&ClientOptions::new(url)).map(|e| e.uri().to_string());
        assert_eq!(url("127.0.0.1:7420").as_deref(), Ok("http://127.0.0.1:7420/"));
        assert_eq!(url("http://seen:7420").as_deref(), Ok("http://seen:7420/"));
        for bad in ["https://seen:7420", "http://seen", "seen", "", "http://", "a b:1", "ftp://x:1"]
        {
            assert_eq!(url(bad).unwrap_err().field, "url", "{bad:?}");
        }
    }
}
