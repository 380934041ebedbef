//! Where a logical shard lives: the servers that it shares with others, its schema there, and whether
//! that was found to be the right one. Until it was looked at, and while it is not the right one, nobody
//! reads or writes there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use seen_filter::{NamespaceId, Shard, StoreError, StoreErrorKind, Timeline};
use tokio::sync::{Notify, watch};

use super::map;
use super::mapping::Name;
use super::primary::PrimaryWatch;
use super::server::ServerAddress;
use super::standing::{Primary, Standing};

/// What a shard's schema says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Of its commits.
    pub timeline: Timeline,
    /// The age of the newest map of shards that it was told of.
    pub map_epoch: u32,
    /// The numbers of the configured namespaces there, in their order.
    pub database_ids: Vec<u16>,
}

/// Whether a shard may be used.
#[derive(Clone, Debug)]
enum Gate {
    /// Nobody could look at it yet: why.
    Unseen(String),
    Open(Arc<Known>),
    /// It is not what it should be.
    Refused(StoreError),
}

/// The home of one shard.
pub(crate) struct Home {
    pub shard: Shard,
    /// The schema that holds its tables.
    pub database: Name,
    group: Arc<PrimaryWatch>,
    gate: RwLock<Gate>,
    /// The age of the map that this store goes by.
    map_epoch: u32,
    doubt: Notify,
    has_doubt: AtomicBool,
    address: watch::Sender<Option<ServerAddress>>,
    numbers: watch::Sender<HashMap<u16, NamespaceId>>,
}

impl Home {
    pub(crate) fn new(
        shard: Shard,
        database: Name,
        group: Arc<PrimaryWatch>,
        map_epoch: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            shard,
            database,
            group,
            gate: RwLock::new(Gate::Unseen("nobody has looked at it yet".to_owned())),
            map_epoch,
            doubt: Notify::new(),
            has_doubt: AtomicBool::new(false),
            address: watch::Sender::new(None),
            numbers: watch::Sender::new(HashMap::new()),
        })
    }

    /// The watch over its servers.
    pub(crate) fn group(&self) -> &Arc<PrimaryWatch> {
        &self.group
    }

    /// Where the primary of a shard that may be used is, for whoever follows it.
    pub(crate) fn address(&self) -> watch::Receiver<Option<ServerAddress>> {
        self.address.subscribe()
    }

    /// What the numbers of its table `seen_namespaces` mean; told before the address is, and nothing
    /// while the shard is not in use.
    pub(crate) fn numbers(&self) -> watch::Receiver<HashMap<u16, NamespaceId>> {
        self.numbers.subscribe()
    }

    /// What the last look at its servers came to.
    pub(crate) fn standing(&self) -> Standing {
        self.group.standing()
    }

    /// Asks for a look at its servers at once.
    pub(crate) fn suspect(&self) {
        self.group.suspect();
    }

    /// The primary now, of a shard that may be used.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub(crate) fn primary(&self) -> Result<Primary, StoreError> {
        let primary = self.server()?;
        match &*self.gate.read() {
            Gate::Open(_) => Ok(primary),
            // Not the caller's fault: he is told to try again, and the cause.
            Gate::Refused(error) => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                format!("shard {} is refused: {}", self.shard, error.message),
            )),
            Gate::Unseen(why) => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                format!("shard {} is not in use yet: {why}", self.shard),
            )),
        }
    }

    /// The primary now, whether the shard may be used or not.
    pub(crate) fn server(&self) -> Result<Primary, StoreError> {
        let standing = self.group.standing();
        standing.primary().cloned().ok_or_else(|| {
            let why = self.group.explain(&standing);
            StoreError::new(
                StoreErrorKind::Unavailable,
                format!("shard {} has no primary: {why}", self.shard),
            )
        })
    }

    /// What its schema said; `None` while it is not in use.
    pub(crate) fn known(&self) -> Option<Arc<Known>> {
        match &*self.gate.read() {
            Gate::Open(known) => Some(Arc::clone(known)),
            _ => None,
        }
    }

    /// Why it is not in use, though it may have a primary; `None` while it is.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        match &*self.gate.read() {
            Gate::Open(_) => None,
            Gate::Refused(error) => Some(error.clone()),
            Gate::Unseen(why) => Some(StoreError::new(StoreErrorKind::Unavailable, why.clone())),
        }
    }

    /// True if it was found to be wrong.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(&*self.gate.read(), Gate::Refused(_))
    }

    /// Lets it be used.
    pub(crate) fn admit(&self, known: Known) {
        let numbers = (0..).map(NamespaceId::new).zip(&known.database_ids);
        self.numbers.send_replace(numbers.map(|(id, number)| (*number, id)).collect());
        *self.gate.write() = Gate::Open(Arc::new(known));
        self.tell_address();
    }

    /// Keeps it from being used, after a look that failed: by a wrong schema, or by want of an answer.
    /// Returns whether that is news.
    pub(crate) fn refuse(&self, error: &StoreError) -> bool {
        let mut gate = self.gate.write();
        let is_news = match &*gate {
            Gate::Open(_) => true,
            Gate::Unseen(why) => *why != error.message,
            Gate::Refused(known) => known.message != error.message,
        };
        *gate = match error.kind {
            StoreErrorKind::Unavailable | StoreErrorKind::Overloaded => {
                Gate::Unseen(error.message.clone())
            }
            _ => Gate::Refused(error.clone()),
        };
        drop(gate);
        self.numbers.send_replace(HashMap::new());
        self.tell_address();
        is_news
    }

    /// Whether a shard that was told of this map may be used by this store; if not, it is not used.
    ///
    /// # Errors
    /// `Unavailable` if the store's own map is older.
    pub(crate) fn check_map(&self, recorded: u32) -> Result<(), StoreError> {
        if recorded <= self.map_epoch {
            return Ok(());
        }
        let error = map::outdated(self.shard, self.map_epoch, recorded);
        *self.gate.write() = Gate::Refused(error.clone());
        self.numbers.send_replace(HashMap::new());
        self.tell_address();
        Err(error)
    }

    /// A server that was the primary took no work: it may be another now, or the map may.
    pub(crate) fn doubt(&self) {
        self.suspect();
        self.has_doubt.store(true, Ordering::Relaxed);
        self.doubt.notify_one();
    }

    /// True once after each doubt.
    pub(crate) fn take_doubt(&self) -> bool {
        self.has_doubt.swap(false, Ordering::Relaxed)
    }

    /// Returns when there is a doubt.
    pub(crate) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Tells the followers where to go.
    pub(crate) fn tell_address(&self) {
        self.address.send_if_modified(|known| {
            // Asked under the lock: of two who tell at once, the older answer must not be the last.
            let now = self.primary().ok().map(|primary| primary.address);
            let changed = *known != now;
            *known = now;
            changed
        });
    }
}
