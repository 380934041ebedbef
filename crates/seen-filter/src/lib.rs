//! The pure domain of `seen`: what a user, an item and a position are, how a user's history is
//! held in memory, and the two seams behind which storage and change feeds live.
//!
//! Nothing here does I/O, spawns, reads a clock or draws randomness: whoever calls hands those in.

#![deny(unsafe_code)]

mod bloom;
pub mod build;
pub mod feed;
pub mod hash;
pub mod history;
pub mod ids;
pub mod kernel;
pub mod metric;
pub mod packed;
pub mod position;
pub mod scan;
pub mod settings;
mod sip;
pub mod sizing;
pub mod state;
pub mod string_id;
pub mod transfer;
pub mod verdicts;
mod virtuals;

pub use build::Builder;
pub use feed::{
    ChangeFeed, FeedBatch, FeedError, FeedEvent, FeedLag, FeedProof, FeedReader, FeedStart,
    GapScope,
};
pub use hash::{HASH_VERSION, HashKey, SlotKey, VirtualSlot};
pub use history::{Forgotten, History, Question, StoreError, StoreErrorKind};
pub use ids::{Item, ItemId, Kind, NamespaceId, Partition, Shard, Tick, UnixMillis, UserId};
pub use kernel::{Kernel, calibrate};
pub use metric::{MetricInfo, MetricKind, MetricUnit};
pub use packed::PackedIds;
pub use position::{
    CommitStamp, Domain, FeedCursor, FeedId, FenceSeq, Generation, Incarnation, PrimaryId,
    ScopeEpoch, SnapshotId, Timeline, UserEpoch,
};
pub use scan::{PositionSource, RowKey, Scan, ScanPage, ScanRequest, ScannedRow, SourcePosition};
pub use settings::{NamespaceSettings, Retention, SettingsError, TimeRule};
pub use sizing::Sizing;
pub use state::{Inserted, UserState};
pub use string_id::{StringKey, string_id};
pub use transfer::TransferError;
pub use verdicts::Verdicts;
pub use virtuals::VirtualSet;
