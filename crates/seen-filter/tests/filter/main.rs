//! The per-user state held against a plain set, against its promised rates, and against its memory
//! budget. All randomness comes from fixed seeds.

mod adversary;
mod hashing;
mod kernels;
mod memory;
mod properties;
mod rates;
mod support;
mod transfer;
