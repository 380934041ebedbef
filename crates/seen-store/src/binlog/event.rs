//! One event of the log, as the library hands it over.

use mysql_async::binlog::events::Event;
use mysql_async::binlog::{BinlogChecksumAlg, EventFlags};

/// One event of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogEvent<'a> {
    pub event_type: u8,
    /// True if readers that do not know the type may pass over it.
    pub is_ignorable: bool,
    /// The server where it happened first.
    pub server: u32,
    pub data: &'a [u8],
}

impl<'a> From<&'a Event> for LogEvent<'a> {
    fn from(event: &'a Event) -> Self {
        let header = event.header();
        Self {
            event_type: header.event_type_raw(),
            is_ignorable: header.flags().contains(EventFlags::LOG_EVENT_IGNORABLE_F),
            server: header.server_id(),
            data: event.data(),
        }
    }
}

/// False if the event's checksum is wrong.
pub(super) fn is_whole(event: &Event) -> bool {
    let footer = event.footer();
    let algorithm = BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32;
    match (footer.get_checksum_alg(), event.checksum()) {
        (Ok(Some(found)), Some(told)) if found == algorithm && footer.get_checksum_enabled() => {
            event.calc_checksum(algorithm) == u32::from_le_bytes(told)
        }
        _ => true,
    }
}
