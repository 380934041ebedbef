//! Certificates for measuring on this machine, of an authority that is forgotten with the folder that they lie in.

use std::fs;
use std::io;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use seen_cluster::tls::{ClientTls, ServerTls, TlsError, TlsFiles, TlsProtocol, TlsVersion};

use super::{BenchError, system};
use crate::config::TlsConfig;

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const AUTHORITY: &str = "authority.pem";
/// Whose certificate it is.
const NAME: &str = "127.0.0.1";

/// Makes them: one certificate for every end.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn make(folder: &Path) -> Result<(), BenchError> {
    let cannot = || system("cannot make certificates");
    let texts = signed().map_err(io::Error::other).map_err(cannot())?;
    for (name, text) in [CERTIFICATE, KEY, AUTHORITY].into_iter().zip(texts) {
        fs::write(folder.join(name), text).map_err(cannot())?;
    }
    Ok(())
}

fn signed() -> Result<[String; 3], rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let signed = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &authority)?;
    Ok([signed.pem(), key.serialize_pem(), authority.pem()])
}

fn files(folder: &Path, asks_clients: bool) -> TlsFiles {
    TlsFiles {
        certificate: folder.join(CERTIFICATE),
        key: folder.join(KEY),
        authority: asks_clients.then(|| folder.join(AUTHORITY)),
    }
}

/// For links, which ask both ends.
pub(super) fn link(config: &mut TlsConfig, folder: &Path) {
    config.link_cert = Some(folder.join(CERTIFICATE));
    config.link_key = Some(folder.join(KEY));
    config.link_ca = Some(folder.join(AUTHORITY));
    config.link_name = Some(NAME.to_owned());
}

/// For a public port, which asks its clients for none.
pub(super) fn public(config: &mut TlsConfig, folder: &Path) {
    config.cert = Some(folder.join(CERTIFICATE));
    config.key = Some(folder.join(KEY));
}

/// For the echo: as on a public port.
///
/// # Errors
/// The folder has none.
pub(super) fn server(folder: &Path) -> Result<ServerTls, TlsError> {
    ServerTls::load(files(folder, false), TlsVersion::V12, TlsProtocol::Http2)
}

/// For the load generator.
///
/// # Errors
/// The folder has none.
pub(super) fn client(folder: &Path) -> Result<ClientTls, TlsError> {
    ClientTls::load(files(folder, true), TlsVersion::V13, TlsProtocol::Http2)
}
