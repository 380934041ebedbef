//! Certificates, read again when they change.
//!
//! Both ends of the link show a certificate that the cluster's authority signed, and refuse an end that shows none. The
//! files may be replaced while everything runs: they are looked at when a connection is made, at most once a
//! second, and compared by content. Files that cannot be used leave the ones before in place, loudly.

mod build;
mod watched;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use metrics::{Counter, counter};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use seen_filter::{MetricInfo, MetricUnit};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use watched::Watched;

/// Files that were read again.
const RELOADS: MetricInfo = MetricInfo::counter(
    "seen_tls_reloads_total",
    MetricUnit::Count,
    "Certificates that changed and were read again; outcome is ok, or failed where the ones before stay in use.",
);

/// The metrics of certificates.
pub const METRICS: &[MetricInfo] = &[RELOADS];

fn reloads(outcome: &'static str) -> Counter {
    counter!(RELOADS.name, "outcome" => outcome)
}

/// Where certificates lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// This end's certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Certificates of the authorities that must have signed the other end's; `None` only for a server that asks its
    /// clients for none.
    pub authority: Option<PathBuf>,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2, and 1.3 with whoever has it.
    V12,
    /// 1.3 only.
    #[default]
    V13,
}

/// What is spoken inside TLS, as both ends tell each other (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProtocol {
    /// The link.
    Link,
    /// gRPC's HTTP/2.
    Http2,
}

impl TlsProtocol {
    /// Its name in ALPN.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Link => b"seen-link",
            Self::Http2 => b"h2",
        }
    }
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{role} {path}: {why}")]
    File {
        /// What it was to hold.
        role: &'static str,
        /// Where it is.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The files were read, and do not go together.
    #[error("certificate {certificate} with key {key}: {why}")]
    Pair {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The other end cannot be verified without an authority.
    #[error(
        "no authority is given: whoever connects must know who may have signed the other end's certificate"
    )]
    NoAuthority,
}

/// The end that accepts.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<Watched<ServerConfig>>,
}

impl ServerTls {
    /// Reads the files. With an authority, clients that show no certificate of it are refused.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn load(
        files: TlsFiles,
        version: TlsVersion,
        protocol: TlsProtocol,
    ) -> Result<Self, TlsError> {
        let build = move |files: &watched::Read| build::server(files, version, protocol);
        Ok(Self { config: Arc::new(Watched::load(files, build)?) })
    }

    /// The configuration as of now, for a server that does its own handshakes.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.now()
    }

    /// Does the handshake. Bound its time.
    ///
    /// # Errors
    /// It failed; a client that is refused is told so.
    pub async fn accept<S>(&self, stream: S) -> io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config()).accept(stream).await
    }
}

/// The end that connects.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<Watched<ClientConfig>>,
}

impl ClientTls {
    /// Reads the files; the authority must be given.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn load(
        files: TlsFiles,
        version: TlsVersion,
        protocol: TlsProtocol,
    ) -> Result<Self, TlsError> {
        let build = move |files: &watched::Read| build::client(files, version, protocol);
        Ok(Self { config: Arc::new(Watched::load(files, build)?) })
    }

    /// Does the handshake with whoever must have a certificate for `name`, a host name or an address. Bound its time.
    ///
    /// # Errors
    /// It failed, or `name` is none.
    pub async fn connect<S>(&self, name: &str, stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let parsed = ServerName::try_from(name.to_owned()).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("name {name:?}: {error}"))
        })?;
        TlsConnector::from(self.config.now()).connect(parsed, stream).await
    }
}
