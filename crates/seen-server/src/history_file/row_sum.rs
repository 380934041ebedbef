//! A checksum of rows, the same for every form of file that holds them.

use super::Event;

/// Bytes that a row counts as.
pub(super) const ROW_BYTES: u64 = 25;

/// Counts rows, and sums them in their order.
#[derive(Clone, Default)]
pub struct RowSum {
    rows: u64,
    crc32: crc32fast::Hasher,
}

impl RowSum {
    /// Takes a row in.
    pub fn add(&mut self, event: &Event) {
        let mut bytes = [0; ROW_BYTES as usize];
        bytes[..8].copy_from_slice(&event.user.get().to_le_bytes());
        bytes[8] = event.item.kind.get();
        bytes[9..17].copy_from_slice(&event.item.id.get().to_le_bytes());
        bytes[17..].copy_from_slice(&event.at.get().to_le_bytes());
        self.crc32.update(&bytes);
        self.rows += 1;
    }

    /// Rows taken in.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// CRC-32 of them: user, kind, item and time, in little-endian order.
    pub fn crc32(&self) -> u32 {
        self.crc32.clone().finalize()
    }
}
