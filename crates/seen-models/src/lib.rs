//! Proof of the rules R1-R10 by trying: one world in memory around two real cores
//! ([`seen_replica::rules::Rules`], not a copy of it), which is driven in two ways.
//!
//! [`models`] are seven models, each a handful of small worlds of one subject. In a small world a few
//! writes, reads and mishaps happen once each, at any moment and in any order, and everything that
//! follows from them (commits, acknowledgements, deliveries, builds, point checks, fences) is tried in
//! every order, to the end, by `stateright`. [`random`] plays long stories by seed.
//!
//! After every step the promise is checked, and at every end all heals, and each replica must say what
//! storage holds. What is broken is told as a numbered story: the action, by the name that it has in
//! the code, what happened, and what changed in which replica.
//!
//! **What a state is.** The core can neither be copied nor compared, and making it so would put
//! derives and a digest into the shipped code that only a model needs, and that each new field would
//! have to be remembered in. So a state is the actions that led to it, played again from the start.
//! Two states are one if storage, everything under way, all tokens, and *everything that ever went
//! into each core* (each input with its tick) are the same. Since a core is a function of its inputs,
//! that covers all that later behaviour can depend on; it is finer than a digest of the core, so that
//! it may try a state twice, and never takes two for one (but for a collision of 64 bits). Only inputs
//! that leave a core as it was are left out: reads that present and begin nothing, point checks, and
//! donations. (A read also counts as a hit for the eviction hand, which no small world uses.)

mod landmark;
mod models;
pub mod random;
mod small;
mod world;

pub use landmark::Landmark;
pub use models::{Model, models};
pub use seen_replica::rules::Rule;
pub use small::{Explored, SmallWorld};
pub use world::Promise;
