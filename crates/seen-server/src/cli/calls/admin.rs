//! Asking a running server's admin service how it fares.

use clap::Args;
use seen_client::{Admin, ClientOptions, v1};
use serde_json::Value;

use super::{block_on, described};
use crate::cli::{CliError, print};

/// Which server to ask, and how to print its answer.
#[derive(Debug, Clone, Args)]
pub struct AdminTarget {
    /// Where the admin service is
    #[arg(long, value_name = "URL", env = "SEEN_ADMIN", default_value = "http://127.0.0.1:7421")]
    server: String,
    /// How long the call may take
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: humantime::Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl AdminTarget {
    /// Asks for the status and prints it: as one JSON object, or as text for people.
    ///
    /// # Errors
    /// Why the server did not answer.
    pub fn show_status(
        &self,
        object: impl FnOnce(&v1::StatusResponse) -> Value,
        text: impl FnOnce(&v1::StatusResponse) -> String,
    ) -> Result<(), CliError> {
        let mut options = ClientOptions::new(&self.server);
        options.timeouts.look = self.timeout.into();
        options.connect_timeout = self.timeout.into();
        let status = block_on(async { Admin::new(&options)?.status().await.map_err(described) })?;
        print(&match self.json {
            true => format!("{}\n", object(&status)),
            false => text(&status),
        })?;
        Ok(())
    }
}
