//! Frames between two replicas in one process, and what may happen to them on the way.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use seen_replica::warm::{Donor, Donors, Frame, FrameKind, FrameSink, FrameSource, serve};
use tokio::sync::mpsc;

/// Frames under way at once.
const FRAMES: usize = 2;

pub struct PipeSink(pub mpsc::Sender<Frame>);
pub struct PipeSource(pub mpsc::Receiver<Frame>);

pub fn pipe() -> (PipeSink, PipeSource) {
    let (sink, source) = mpsc::channel(FRAMES);
    (PipeSink(sink), PipeSource(source))
}

impl FrameSink for PipeSink {
    async fn send(&mut self, kind: FrameKind, payload: Bytes) -> io::Result<()> {
        assert!(payload.len() <= seen_replica::warm::PAYLOAD_BYTES_MAX);
        self.0.send((kind, payload)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl FrameSource for PipeSource {
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        Ok(self.0.recv().await)
    }
}

/// What happens to a donor's frame of this number (from 0, the head): it may be changed, or end the connection.
pub type Mishap = Arc<dyn Fn(usize, Frame) -> Option<Frame> + Send + Sync>;

/// Donors in this process.
#[derive(Default)]
pub struct Peers {
    donors: Vec<(String, Arc<Donor>)>,
    mishaps: BTreeMap<String, Mishap>,
    /// Connections opened, by donor.
    pub opened: Mutex<Vec<String>>,
}

impl Peers {
    pub fn with(mut self, name: &str, donor: impl Into<Arc<Donor>>) -> Self {
        self.donors.push((name.to_owned(), donor.into()));
        self
    }

    /// What happens to every stream of a donor.
    pub fn but(
        mut self,
        name: &str,
        mishap: impl Fn(usize, Frame) -> Option<Frame> + Send + Sync + 'static,
    ) -> Self {
        self.mishaps.insert(name.to_owned(), Arc::new(mishap));
        self
    }
}

impl Donors for Peers {
    type Sink = PipeSink;
    type Source = PipeSource;

    fn live(&self) -> Vec<String> {
        self.donors.iter().map(|(name, _)| name.clone()).collect()
    }

    async fn open(&self, name: &str) -> io::Result<(PipeSink, PipeSource)> {
        self.opened.lock().push(name.to_owned());
        let donor = self.donors.iter().find(|(known, _)| known == name);
        let donor = Arc::clone(&donor.ok_or(io::ErrorKind::NotFound)?.1);
        let (to_donor, mut from_receiver) = pipe();
        let (mut to_way, mut on_the_way) = pipe();
        let (mut to_receiver, from_donor) = pipe();
        tokio::spawn(async move {
            // How it ended is the receiver's business.
            let _ = serve(&donor, &mut from_receiver, &mut to_way).await;
        });
        let mishap = self.mishaps.get(name).cloned();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok(Some(frame)) = on_the_way.next().await {
                let frame = match &mishap {
                    Some(mishap) => mishap(number, frame),
                    None => Some(frame),
                };
                let Some((kind, payload)) = frame else { return };
                if to_receiver.send(kind, payload).await.is_err() {
                    return;
                }
                number += 1;
            }
        });
        Ok((to_donor, from_donor))
    }
}
