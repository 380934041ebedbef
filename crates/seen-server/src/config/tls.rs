//! `[tls]`: certificates of the public port and of the links.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, OptionInfo, SectionInfo, optional};

/// What `[tls]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "tls",
    help: "Certificates. Files are read again when they change. Without them nothing is encrypted.",
    options: OPTIONS,
};

const PEM: Allowed = Allowed::Text("a PEM file");

const OPTIONS: &[OptionInfo] = &[
    optional(
        "cert",
        PEM,
        "The certificate that the gRPC API shows; with tls.key.",
        "/etc/seen/tls/api.pem",
    ),
    optional("key", PEM, "The private key of tls.cert.", "/run/secrets/seen-api.key"),
    optional(
        "client_ca",
        PEM,
        "The authority that callers' certificates must be signed by; unset: callers need none.",
        "/etc/seen/tls/callers.pem",
    ),
    optional(
        "link_cert",
        PEM,
        "The certificate that both ends of a link show; with tls.link_key and tls.link_ca.",
        "/etc/seen/tls/link.pem",
    ),
    optional("link_key", PEM, "The private key of tls.link_cert.", "/run/secrets/seen-link.key"),
    optional(
        "link_ca",
        PEM,
        "The authority that both ends of a link must be signed by.",
        "/etc/seen/tls/link-ca.pem",
    ),
    optional(
        "link_name",
        Allowed::Text("a DNS name"),
        "The name in every replica's certificate; unset: each one's own address.",
        "seen-replica",
    ),
];

/// `[tls]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct TlsConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_name: Option<String>,
}

impl TlsConfig {
    /// Checks that what belongs together is there together.
    ///
    /// # Errors
    /// The first option that lacks another.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        let groups: [&[(&str, bool)]; 2] = [
            &[("cert", self.cert.is_some()), ("key", self.key.is_some())],
            &[
                ("link_cert", self.link_cert.is_some()),
                ("link_key", self.link_key.is_some()),
                ("link_ca", self.link_ca.is_some()),
            ],
        ];
        for group in groups {
            let set = group.iter().find(|(_, is_set)| *is_set);
            let unset = group.iter().find(|(_, is_set)| !*is_set);
            if let (Some((set, _)), Some((unset, _))) = (set, unset) {
                return Err(missing(unset, set));
            }
        }
        match (&self.client_ca, &self.cert, &self.link_name, &self.link_cert) {
            (Some(_), None, _, _) => Err(missing("cert", "client_ca")),
            (_, _, Some(_), None) => Err(missing("link_cert", "link_name")),
            _ => Ok(()),
        }
    }
}

fn missing(unset: &str, set: &str) -> OutOfRange {
    OutOfRange {
        key: format!("tls.{unset}"),
        value: "unset".to_owned(),
        allowed: format!("a file where tls.{set} is set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        let file = || Some(PathBuf::from("x.pem"));
        assert!(TlsConfig::default().validate().is_ok());
        let alone = TlsConfig { cert: file(), ..TlsConfig::default() };
        assert_eq!(alone.validate().unwrap_err().key, "tls.key");
        let pair = TlsConfig { cert: file(), key: file(), ..TlsConfig::default() };
        assert!(pair.validate().is_ok());
        let callers = TlsConfig { client_ca: file(), ..TlsConfig::default() };
        assert_eq!(callers.validate().unwrap_err().key, "tls.cert");
        let link = TlsConfig { link_cert: file(), link_key: file(), ..TlsConfig::default() };
        assert_eq!(link.validate().unwrap_err().key, "tls.link_ca");
    }
}
