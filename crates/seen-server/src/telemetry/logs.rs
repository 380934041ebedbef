//! Log lines on stderr, written by a thread of their own behind a bounded queue: under a storm lines
//! are dropped and counted, and no request waits for a terminal.

use std::io::{self, IsTerminal, Write};

use thiserror::Error;
use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Why logging cannot begin.
#[derive(Debug, Error)]
pub enum LogsError {
    /// `log.level` is not understood.
    #[error("log.level: {0}; write a level or directives such as info,seen_store=debug")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The process logs already.
    #[error("logging was set up twice in one process: {0}")]
    Twice(#[from] TryInitError),
}

/// The process's log. Dropping it writes out what is queued.
#[derive(Debug)]
pub struct Logs {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logs {
    /// Starts logging on stderr, for the whole process.
    ///
    /// # Errors
    /// [`LogsError`].
    pub fn start(config: &LogConfig) -> Result<Self, LogsError> {
        let (subscriber, logs) = Self::build(config, io::stderr(), io::stderr().is_terminal())?;
        subscriber.try_init()?;
        Ok(logs)
    }

    /// A subscriber that writes to `writer`, not yet installed.
    ///
    /// # Errors
    /// [`LogsError::Level`].
    pub fn build(
        config: &LogConfig,
        writer: impl Write + Send + 'static,
        colours: bool,
    ) -> Result<(Box<dyn Subscriber + Send + Sync>, Self), LogsError> {
        let filter: EnvFilter = config.level.parse()?;
        let lines_max = usize::try_from(config.queue_lines_max).unwrap_or(usize::MAX);
        let (queue, guard): (NonBlocking, WorkerGuard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(lines_max)
            .thread_name("seen-log")
            .finish(writer);
        let dropped = queue.error_counter();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue);
        let subscriber: Box<dyn Subscriber + Send + Sync> = match config.format {
            LogFormat::Pretty => Box::new(lines.with_ansi(colours).finish()),
            LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
        };
        Ok((subscriber, Self { dropped, _writer: guard }))
    }

    /// Counts the lines dropped so far.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;

    use super::Logs;
    use crate::config::{LogConfig, LogFormat};

    /// A terminal that takes nothing until it is let go, and then keeps what it is given.
    struct Stuck {
        gate: mpsc::Receiver<()>,
        lines: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // The gate's other end being dropped is what opens it.
            while self.gate.recv().is_ok() {}
            self.lines.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_storm_is_dropped_and_counted_and_blocks_nobody() {
        const LINES: usize = 10_000;
        let config =
            LogConfig { format: LogFormat::Json, queue_lines_max: 64, ..LogConfig::default() };
        let (open, gate) = mpsc::channel();
        let (lines, written) = mpsc::channel();
        let (subscriber, logs) =
            Logs::build(&config, Stuck { gate, lines }, false).expect("the default level parses");
        tracing::subscriber::with_default(subscriber, || {
            for line in 0..LINES {
                tracing::info!(line, "storm");
            }
        });
        let dropped = logs.dropped();
        // One line may be in the writer's hand beside the 64 that wait.
        assert!((LINES - 65..LINES).contains(&dropped.dropped_lines()), "{dropped:?}");
        drop(open);
        drop(logs);
        let kept: Vec<Vec<u8>> = written.iter().collect();
        assert_eq!(kept.len() + dropped.dropped_lines(), LINES);
        let first: serde_json::Value = serde_json::from_slice(&kept[0]).expect("one JSON object");
        assert_eq!(first["message"], "storm");
        assert_eq!(first["line"], 0);
    }
}
