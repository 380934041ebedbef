//! The API: every call and every bad input over real sockets, on a node with the embedded store; and,
//! on paused time over a store that can be made to fail, deadlines, cancellation and overload.

mod admin;
mod alone;
mod ask;
mod blocked;
mod blocked_writes;
mod deadlines;
mod explain;
mod figures;
mod filter;
mod late_checks;
mod listing;
mod overload;
mod push;
mod refusal;
mod refused;
mod shards;
mod silent_shard;
mod stage;
mod streams;
mod wire;
mod write;
