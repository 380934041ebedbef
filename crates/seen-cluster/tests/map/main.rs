//! The map of slots: its text, its replicas' order, its source, and its changes.

mod apply;
mod dns;
mod plan;
mod rank;
mod source;
mod text;
mod world;
