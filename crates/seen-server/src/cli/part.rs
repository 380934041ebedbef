//! A part of a cluster as a process: its arguments, and its life until a signal.

use std::process::ExitCode;

use clap::Args;

use super::{CliError, ConfigSources};
use crate::config::Config;
use crate::runtime;
use crate::shutdown::{Stop, stop_with_stdin};
use crate::telemetry::{Logs, MetricsHandle};

/// Arguments of `seen replica` and `seen proxy`.
#[derive(Debug, Clone, Args)]
pub struct PartArgs {
    /// Where the configuration is read from.
    #[command(flatten)]
    sources: ConfigSources,
    /// End as well when stdin is closed
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl PartArgs {
    /// Runs `serve` until it ends, which it does when it is asked to stop.
    ///
    /// # Errors
    /// What it failed with, or what kept it from starting.
    pub(super) fn run<F>(
        self,
        serve: impl FnOnce(Config, MetricsHandle, Stop) -> F,
    ) -> Result<ExitCode, CliError>
    where
        F: Future<Output = Result<(), CliError>>,
    {
        let config = self.sources.load()?.config;
        let logs = Logs::start(&config.log)?;
        let metrics = MetricsHandle::start(Some(logs.dropped()))?;
        let control = runtime::control()?;
        let ended = control.block_on(async {
            let stop = Stop::on_signals()?;
            if self.stop_with_stdin {
                stop_with_stdin(&stop);
            }
            serve(config, metrics, stop).await
        });
        control.shutdown_background();
        ended.map(|()| ExitCode::SUCCESS)
    }
}
