//! The double's rows, gone through in its own key order.

use seen_filter::{PositionSource, Scan, ScanPage, ScanRequest, ScannedRow, Shard, SourcePosition};

use super::MemoryStore;
use crate::request::{self, SeamAnswer};

impl Scan for MemoryStore {
    fn parts(&self) -> u16 {
        1
    }

    fn position(&self, part: Shard) -> SeamAnswer<'_, Option<SourcePosition>> {
        Box::pin(async move {
            request::part(part, 1)?;
            self.read(|_, view| {
                Ok(view.snapshot.lower_bound.map(|stamp| SourcePosition {
                    source: PositionSource::Memory,
                    text: stamp.to_string(),
                    timeline: format!("{:016x}", stamp.timeline.get()),
                    number: Some(stamp.position),
                }))
            })
            .await
        })
    }

    fn scan(&self, request: ScanRequest) -> SeamAnswer<'_, ScanPage> {
        Box::pin(async move {
            request::page_rows(request.rows_max)?;
            request::part(request.part, 1)?;
            self.known(request.namespace)?;
            self.read(|state, view| {
                let now = state.options.clock.now();
                let mut rows: Vec<ScannedRow> = state
                    .scan_at(request.namespace, request.after, view.at, now)
                    .take(request.rows_max + 1)
                    .collect();
                let is_last = rows.len() <= request.rows_max;
                rows.truncate(request.rows_max);
                let next = rows.last().filter(|_| !is_last).map(ScannedRow::key);
                Ok(ScanPage { rows, next, snapshot: view.snapshot })
            })
            .await
        })
    }
}
