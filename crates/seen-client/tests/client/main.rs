//! The client against a service whose answers are written by the test, on paused time.

mod away;
mod batching;
mod calls;
mod mock;
mod push;
mod streaming;
