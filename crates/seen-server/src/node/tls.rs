//! Certificates, as the configuration names them.

use std::path::{Path, PathBuf};

use seen_cluster::tls::{ClientTls, ServerTls, TlsError, TlsFiles, TlsProtocol, TlsVersion};

use crate::config::TlsConfig;

/// What both ends of a link need where links are encrypted.
#[derive(Clone)]
pub(crate) struct LinkTls {
    /// For the end that accepts.
    pub server: ServerTls,
    /// For the end that connects.
    pub client: ClientTls,
    /// The name in every replica's certificate; none = each one's address.
    pub name: Option<String>,
}

/// The certificates of links, where there are any.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn link(config: &TlsConfig) -> Result<Option<LinkTls>, TlsError> {
    let (Some(certificate), Some(key)) = (&config.link_cert, &config.link_key) else {
        return Ok(None);
    };
    let files = files(certificate, key, config.link_ca.as_ref());
    let server = ServerTls::load(files.clone(), TlsVersion::V13, TlsProtocol::Link)?;
    let client = ClientTls::load(files, TlsVersion::V13, TlsProtocol::Link)?;
    Ok(Some(LinkTls { server, client, name: config.link_name.clone() }))
}

/// The certificate of the public port, where there is one.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn api(config: &TlsConfig) -> Result<Option<ServerTls>, TlsError> {
    let (Some(certificate), Some(key)) = (&config.cert, &config.key) else { return Ok(None) };
    let files = files(certificate, key, config.client_ca.as_ref());
    ServerTls::load(files, TlsVersion::V12, TlsProtocol::Http2).map(Some)
}

fn files(certificate: &Path, key: &Path, authority: Option<&PathBuf>) -> TlsFiles {
    TlsFiles {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        authority: authority.cloned(),
    }
}
