//! Certificates, read again when they change.
