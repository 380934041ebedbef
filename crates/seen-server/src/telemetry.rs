//! What the program says about itself: log lines, metrics and traces.

mod logs;
mod recorder;
mod traces;

pub use logs::{Logs, LogsError};
pub use recorder::{MetricsError, MetricsHandle};
pub use traces::{Role, Traces, TracesError};
