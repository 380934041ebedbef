//! Change events by Kafka: the only crate that knows rdkafka.
//!
//! One thread a topic (`topic`) reads its partitions, assigned by hand, takes every record apart once
//! ([`seen_dialect`]) and hands its events to the readers that want them (`route`). A reader (`reader`,
//! `queue`) is one feed partition as the replica follows it. `partitioner` computes a user's partition as
//! the producer does, and `shape` says which partitions carry a feed's users, also once partitions were
//! added. `place` numbers what the source does not number for us. `look` asks from time to time who the topic
//! is (`topic_id`) and where it ends: what is no longer kept, or belongs to another topic of the same name,
//! is a gap. `open` gives readers their places by it. `leave` ends Kafka's clients, which may take for ever.
//!
//! That nothing follows in a topic proves nothing about the source behind it (coherence row 25): only
//! fences that come back do.

mod check;
mod context;
mod dead_letters;
mod feed;
mod fences;
pub mod ingest;
mod lag;
mod leave;
mod look;
pub mod metrics;
mod open;
mod options;
mod own;
mod partitioner;
mod place;
mod queue;
mod reader;
pub mod relay;
mod route;
mod sample;
mod schemas;
mod shape;
mod topic;
mod topic_id;

pub use feed::{KafkaFeed, KafkaFeedError};
pub use options::{DeadLetterOptions, KafkaOptions, StampOf, TopicOptions};
pub use partitioner::{BadTemplate, Digits, KeyTemplate, Partitioner};
pub use sample::{KafkaRecord, Next, SampleOptions, TopicReader};
pub use schemas::{RecordDecoder, SchemaLookup, SchemaOptions};
