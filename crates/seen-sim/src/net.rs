//! The network: connections between processes, how long what they carry takes, and what befalls them.

mod bells;
mod pipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use seen_cluster::link::{Connector, Cut, Socket};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::process::{Host, Process};
use bells::Bells;
use pipe::Pipe;
use pipe::SimSocket;

/// What takes a connection over at its far end.
pub type Accept = Arc<dyn Fn(Box<dyn Socket>) + Send + Sync>;

/// How processes reach each other: this crate's own network, or another one.
pub trait Ways: Send + Sync {
    /// From now on a process takes what is sent to this address. Called in the process.
    fn listen(&self, address: SocketAddr, process: &Arc<Process>, accept: Accept);

    /// Nobody is there any more.
    fn leave(&self, address: SocketAddr);

    /// Connects a process to an address.
    fn dial(
        &self,
        owner: &Arc<Process>,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Socket>, Cut>>;
}

struct Listener {
    process: Arc<Process>,
    accept: Accept,
}

struct Inner {
    listeners: BTreeMap<SocketAddr, Listener>,
    hosts: BTreeMap<SocketAddr, Host>,
    pipes: Vec<Weak<Pipe>>,
    /// Ways on which nothing comes through.
    cut: BTreeSet<(Host, Host)>,
    /// What everything from and to a machine takes longer, in milliseconds.
    slow_ms: BTreeMap<Host, u64>,
    dice: Dice,
}

/// The network.
pub struct Net {
    inner: Mutex<Inner>,
    healed: Notify,
    bells: Bells,
}

impl Ways for Arc<Net> {
    fn listen(&self, address: SocketAddr, process: &Arc<Process>, accept: Accept) {
        let listener = Listener { process: Arc::clone(process), accept };
        let mut inner = self.inner.lock();
        inner.hosts.insert(address, process.host);
        inner.listeners.insert(address, listener);
    }

    fn leave(&self, address: SocketAddr) {
        self.inner.lock().listeners.remove(&address);
    }

    fn dial(
        &self,
        owner: &Arc<Process>,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Socket>, Cut>> {
        let (net, owner) = (Self::clone(self), Arc::clone(owner));
        Box::pin(async move { net.connect(&owner, to).await })
    }
}

impl Net {
    /// One on which nothing goes wrong.
    pub fn new(dice: Dice) -> Arc<Self> {
        let inner = Inner {
            listeners: BTreeMap::new(),
            hosts: BTreeMap::new(),
            pipes: Vec::new(),
            cut: BTreeSet::new(),
            slow_ms: BTreeMap::new(),
            dice,
        };
        let inner = Mutex::new(inner);
        Arc::new(Self { inner, healed: Notify::new(), bells: Bells::default() })
    }

    /// From now on what is on its way arrives. Call it on the runtime that it is simulated by.
    pub fn begin(self: &Arc<Self>) {
        let rings = Arc::clone(self);
        tokio::spawn(async move { rings.bells.ring().await });
    }

    /// Nothing comes from one to the other any more. What is on its way waits.
    pub fn cut(&self, from: Host, to: Host) {
        self.inner.lock().cut.insert((from, to));
    }

    /// It comes through again.
    pub fn mend(&self, from: Host, to: Host) {
        self.inner.lock().cut.remove(&(from, to));
        self.wake();
    }

    /// All that comes from and goes to a machine takes so much longer. 0 = as usual.
    pub fn slow(&self, host: Host, ms: u64) {
        self.inner.lock().slow_ms.insert(host, ms);
    }

    /// Breaks all connections of a machine.
    pub fn reset(&self, host: Host) {
        for pipe in self.pipes() {
            if pipe.is_of(host) {
                pipe.lose();
            }
        }
    }

    /// Ends every fault.
    pub fn heal(&self) {
        let mut inner = self.inner.lock();
        inner.cut.clear();
        inner.slow_ms.clear();
        drop(inner);
        self.wake();
    }

    fn pipes(&self) -> Vec<Arc<Pipe>> {
        let mut inner = self.inner.lock();
        inner.pipes.retain(|pipe| pipe.strong_count() > 0);
        inner.pipes.iter().filter_map(Weak::upgrade).collect()
    }

    fn wake(&self) {
        self.pipes().iter().for_each(|pipe| pipe.wake());
        self.healed.notify_waiters();
    }

    fn is_cut(&self, from: Host, to: Host) -> bool {
        self.inner.lock().cut.contains(&(from, to))
    }

    /// What the way between two machines takes longer than usual.
    fn slow_ms(&self, one: Host, other: Host) -> u64 {
        let inner = self.inner.lock();
        let of = |host| inner.slow_ms.get(&host).copied().unwrap_or(0);
        of(one) + of(other)
    }

    async fn connect(
        self: &Arc<Self>,
        owner: &Arc<Process>,
        to: SocketAddr,
    ) -> Result<Box<dyn Socket>, Cut> {
        owner.runs().await;
        let there = self.inner.lock().hosts.get(&to).copied();
        let there = there.ok_or_else(refused)?;
        sleep(Duration::from_millis(1 + self.slow_ms(owner.host, there))).await;
        loop {
            let healed = self.healed.notified();
            if !self.is_cut(owner.host, there) && !self.is_cut(there, owner.host) {
                break;
            }
            healed.await;
        }
        let (near, far, accept) = {
            let mut inner = self.inner.lock();
            let Inner { listeners, pipes, dice, .. } = &mut *inner;
            let listener = listeners.get(&to).ok_or_else(refused)?;
            let ways = [(owner.host, there), (there, owner.host)];
            let [out, back] = ways.map(|way| Pipe::new(self, way, dice.fork()));
            pipes.extend([Arc::downgrade(&out), Arc::downgrade(&back)]);
            let near = SimSocket::new(owner, Arc::clone(&back), Arc::clone(&out));
            let far = SimSocket::new(&listener.process, out, back);
            (near, far, Arc::clone(&listener.accept))
        };
        accept(Box::new(far));
        Ok(Box::new(near))
    }
}

fn refused() -> Cut {
    Cut::Io { what: "connecting", source: io::ErrorKind::ConnectionRefused.into() }
}

/// Connects a process to an address.
pub struct Dial {
    /// The network.
    pub ways: Arc<dyn Ways>,
    /// Who connects.
    pub owner: Arc<Process>,
    /// Where to.
    pub to: SocketAddr,
}

impl Connector for Dial {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Socket>, Cut>> {
        self.ways.dial(&self.owner, self.to)
    }
}
