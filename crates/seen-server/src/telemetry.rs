//! What the program says about itself: log lines and metrics.

mod logs;
mod recorder;

pub use logs::{Logs, LogsError};
pub use recorder::{MetricsError, MetricsHandle};
