//! What happens outside of the cluster's own processes, for a drill whose servers somebody else has started.

/// Something that is done to the servers behind a cluster, and undone again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// What passes [`Stage::way_to`] takes 20 to 60 ms longer, each way.
    LinkSlow,
    /// It takes 150 to 250 ms longer, each way.
    LinkSlower,
    /// Storage's answers take a fifth of a second longer.
    StorageSlow,
    /// Storage refuses connections, and has none.
    StorageRefused,
    /// Storage takes everything and answers nothing.
    StorageSilent,
    /// Storage's answers come at 20 KB/s.
    StorageNarrow,
    /// The server's process stands still.
    StorageFrozen,
    /// The server is killed, and started again when it is healed.
    StorageKilled,
    /// The server takes no writes.
    StorageReadOnly,
    /// Statements reach the server, and the connection breaks when it answers. Each begin is one moment of it.
    StorageAnswersLost,
    /// The primary is killed, and its replica promoted when it is healed.
    StorageFailover,
    /// The disk that the server writes to has no room left.
    StorageDiskFull,
    /// Kafka's process is gone, and started again when it is healed.
    KafkaDown,
    /// Kafka's process stands still.
    KafkaFrozen,
    /// Kafka forgets all records that it has.
    KafkaForgets,
    /// Records that nobody can read are in the topic.
    KafkaPoison,
}

/// A user whose history lies in storage and was never told to the feed.
#[derive(Clone, Copy, Debug)]
pub struct BigUser {
    /// Who.
    pub user: u64,
    /// Items 1 to this were read.
    pub items: u64,
}

/// The servers behind a cluster.
pub trait Stage: Send + Sync {
    /// Does it. Returns when it is done; may wait.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn begin(&self, act: Act) -> Result<(), String>;

    /// Undoes it. Returns when it is undone; may wait.
    ///
    /// # Errors
    /// Why it cannot be undone.
    fn heal(&self, act: Act) -> Result<(), String>;

    /// The ports on 127.0.0.1 by which the cluster reaches storage.
    fn storage_ports(&self) -> Vec<u16>;

    /// A port on 127.0.0.1 that leads to this one, for [`Act::LinkSlow`] and [`Act::LinkSlower`]; `None` where they cannot be done.
    fn way_to(&self, port: u16) -> Option<u16>;

    /// A user with a long history that no replica has heard of yet. Another one at each call, while there are any.
    fn big_user(&self) -> Option<BigUser>;

    /// What it consists of, in a line for the report.
    fn tell(&self) -> String;
}
