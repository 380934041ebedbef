//! The map of slots.
