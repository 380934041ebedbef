//! From PEM to rustls. The crypto provider is named here and not the process's default, which another library may have
//! set to something else.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::watched::{Read, file_error};
use super::{TlsError, TlsProtocol, TlsVersion};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

static SINCE_V12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static SINCE_V13: [&SupportedProtocolVersion; 1] = [&TLS13];

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::V12 => &SINCE_V12,
        TlsVersion::V13 => &SINCE_V13,
    }
}

pub(super) fn server(
    read: &Read,
    oldest: TlsVersion,
    protocol: TlsProtocol,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(oldest))
        .map_err(|error| pair_error(read, error))?;
    let builder = match roots(read)? {
        None => builder.with_no_client_auth(),
        Some((path, roots)) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            let verifier = verifier.map_err(|error| file_error("authority", path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = own(read)?;
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| pair_error(read, error))?;
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    Ok(config)
}

pub(super) fn client(
    read: &Read,
    oldest: TlsVersion,
    protocol: TlsProtocol,
) -> Result<ClientConfig, TlsError> {
    let (_, roots) = roots(read)?.ok_or(TlsError::NoAuthority)?;
    let (chain, key) = own(read)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(oldest))
        .map_err(|error| pair_error(read, error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| pair_error(read, error))?;
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    Ok(config)
}

fn own(read: &Read) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates("certificate", &read.files.certificate, &read.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read.key)
        .map_err(|error| file_error("key", &read.files.key, error))?;
    Ok((chain, key))
}

fn roots(read: &Read) -> Result<Option<(&Path, RootCertStore)>, TlsError> {
    let (Some(path), Some(pem)) = (&read.files.authority, &read.authority) else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authority", path, pem)? {
        roots.add(certificate).map_err(|error| file_error("authority", path, error))?;
    }
    Ok(Some((path, roots)))
}

fn certificates(
    role: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| file_error(role, path, error))?;
    if all.is_empty() {
        return Err(file_error(role, path, "holds no certificate in PEM"));
    }
    Ok(all)
}

fn pair_error(read: &Read, error: rustls::Error) -> TlsError {
    TlsError::Pair {
        certificate: read.files.certificate.display().to_string(),
        key: read.files.key.display().to_string(),
        why: error.to_string(),
    }
}
