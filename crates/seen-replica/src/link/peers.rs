//! Streams of entries over the link's transfer lane.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use seen_cluster::link::transfer::{TransferClient, TransferFrame, TransferSink};
use seen_cluster::link::{ClientOptions, Cut};
use tokio::sync::Mutex;

use crate::warm::{Donors, Frame, FrameKind, FrameSink, FrameSource};

/// The end that gives.
pub(super) struct ServerSink<'a, 'b> {
    pub out: &'a mut TransferSink<'b>,
    /// Why nothing more can be sent.
    pub cut: Option<Cut>,
}

impl FrameSink for ServerSink<'_, '_> {
    async fn send(&mut self, kind: FrameKind, payload: Bytes) -> io::Result<()> {
        let sent = match kind {
            FrameKind::End => self.out.end(&payload).await,
            _ => self.out.entry(&payload).await,
        };
        self.noted(sent)
    }

    async fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush().await;
        self.noted(flushed)
    }
}

impl ServerSink<'_, '_> {
    fn noted(&mut self, sent: Result<(), Cut>) -> io::Result<()> {
        sent.map_err(|cut| {
            let error = io::Error::other(cut.to_string());
            self.cut = Some(cut);
            error
        })
    }
}

/// The end that asks, and takes what comes. Clones are the same connection.
#[derive(Clone)]
pub struct LinkPeer(Arc<Mutex<TransferClient>>);

impl LinkPeer {
    /// Connects to a replica.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(options: ClientOptions) -> io::Result<Self> {
        let client = TransferClient::connect(options).await.map_err(broken)?;
        Ok(Self::over(client))
    }

    /// Over a connection that is there already.
    pub fn over(client: TransferClient) -> Self {
        Self(Arc::new(Mutex::new(client)))
    }
}

fn broken(cut: Cut) -> io::Error {
    io::Error::other(cut.to_string())
}

impl FrameSink for LinkPeer {
    async fn send(&mut self, kind: FrameKind, payload: Bytes) -> io::Result<()> {
        if kind != FrameKind::Ask {
            return Err(io::Error::other(
                "only asks are sent to a replica; bring entries by `push`",
            ));
        }
        self.0.lock().await.ask(&payload).await.map_err(broken)
    }
}

impl FrameSource for LinkPeer {
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        match self.0.lock().await.next().await.map_err(broken)? {
            TransferFrame::Entry(payload) => Ok(Some((FrameKind::Entry, payload))),
            TransferFrame::End(payload) => Ok(Some((FrameKind::End, payload))),
        }
    }
}

/// The live peers of a slot, by their addresses.
pub struct LinkDonors<L, C> {
    live: L,
    connect: C,
}

impl<L, C> LinkDonors<L, C>
where
    L: Fn() -> Vec<String> + Send + Sync,
    C: Fn(&str) -> ClientOptions + Send + Sync,
{
    /// `live` tells the addresses of the ready replicas of the slot, without this one; `connect` how to connect to one of them, on the
    /// transfer lane.
    pub const fn new(live: L, connect: C) -> Self {
        Self { live, connect }
    }
}

impl<L, C> Donors for LinkDonors<L, C>
where
    L: Fn() -> Vec<String> + Send + Sync,
    C: Fn(&str) -> ClientOptions + Send + Sync,
{
    type Sink = LinkPeer;
    type Source = LinkPeer;

    fn live(&self) -> Vec<String> {
        (self.live)()
    }

    async fn open(&self, name: &str) -> io::Result<(LinkPeer, LinkPeer)> {
        let peer = LinkPeer::connect((self.connect)(name)).await?;
        Ok((peer.clone(), peer))
    }
}
