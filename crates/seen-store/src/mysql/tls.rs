//! Encryption of connections to the servers: what is trusted, what this side shows of itself, and what
//! to do when that does not fit. Two libraries open connections, one for the store and one for its
//! change feed; both are given the same.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, RootCertStore};
use seen_filter::{StoreError, StoreErrorKind};

use super::server::{ServerAddress, Tls};

/// What to do about a server that does not encrypt.
pub(crate) const NO_TLS: &str = "the server has TLS switched off: give it a certificate (ssl_cert and \
     ssl_key in its configuration), or set mysql.tls = \"off\"";

/// What is on disk now, as text (PEM) that has been looked at: a renewed certificate is picked up by the
/// next connection. Has no `Debug`, since it may hold a key.
pub(crate) struct Material {
    /// Authorities beside the system's.
    pub ca: Option<Vec<u8>>,
    /// This side's certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

fn unusable(option: &str, path: &Path, why: impl Display) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!("mysql.{option} = {}: {why}; name a file in PEM form", path.display()),
    )
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| unusable(option, path, error))
}

/// Reads a file of certificates.
fn certificates(option: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    let text = read(option, path)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        certificate.map_err(|error| unusable(option, path, error))?;
        count += 1;
    }
    if count == 0 {
        return Err(unusable(option, path, "holds no certificate"));
    }
    Ok(text)
}

impl Material {
    /// Reads everything; `None` where connections are not encrypted.
    ///
    /// # Errors
    /// `Unavailable` if a file cannot be read or holds something else, naming the option and the file.
    pub(crate) fn read(tls: &Tls) -> Result<Option<Self>, StoreError> {
        let Tls::Required { ca, identity } = tls else { return Ok(None) };
        let ca = ca.as_ref().map(|path| certificates("tls_ca", path)).transpose()?;
        let identity = match identity {
            None => None,
            Some(files) => {
                let certificate = certificates("tls_cert", &files.certificate)?;
                let key = read("tls_key", &files.key)?;
                // The error says what is wrong with the form, and nothing of what is in the file.
                PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|_| unusable("tls_key", &files.key, "holds no private key"))?;
                Some((certificate, key))
            }
        };
        Ok(Some(Self { ca, identity }))
    }
}

/// The authorities that the system trusts (DER), without those that cannot be used.
pub(crate) fn system_authorities() -> Vec<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "an authority of the system cannot be read");
    }
    let usable = |one: &CertificateDer<'static>| RootCertStore::empty().add(one.clone()).is_ok();
    found.certs.into_iter().filter(usable).map(|one| one.to_vec()).collect()
}

/// The error of a connection that is not encrypted as it should be.
pub(crate) fn refused(address: &ServerAddress, error: &dyn Display, advice: &str) -> StoreError {
    let message = format!("opening {address} with TLS: {error}; {advice}");
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// What to do about an error of TLS; `None` for another error.
pub(crate) fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    let rustls::Error::InvalidCertificate(why) = cause(error)? else {
        return Some(match cause(error)? {
            rustls::Error::AlertReceived(_) => {
                "the server refuses this side's certificate: set mysql.tls_cert and mysql.tls_key to \
                 one that its authority signed"
            }
            rustls::Error::InconsistentKeys(_) => {
                "mysql.tls_key is not the key of mysql.tls_cert; name the two that belong together"
            }
            _ => "check that the server's TLS works with another client",
        }
        .to_owned());
    };
    Some(match why {
        CertificateError::UnknownIssuer => {
            "no trusted authority signed the server's certificate: set mysql.tls_ca to the file of the \
             one that did, or check who answers there"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name: write mysql.servers as the certificate has \
             it, or give the server one for this name"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired; renew it there".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; check the clocks".to_owned()
        }
        _ => "the server's certificate is not usable; renew it there".to_owned(),
    })
}

/// The error of TLS itself, within what libraries wrap around it.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // What is wrapped by an I/O error is not its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
