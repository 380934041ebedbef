//! `seen`: an open read-history filtering service.

use std::process::ExitCode;

use clap::Parser;
use seen_server::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("seen: {error}");
            ExitCode::FAILURE
        }
    }
}
