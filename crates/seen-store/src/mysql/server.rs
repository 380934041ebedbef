//! Where a server is, and who one is there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use seen_filter::{StoreError, StoreErrorKind};

use crate::request::invalid;

/// The address of a MySQL, MariaDB or TiDB server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddress {
    /// A name or an address.
    pub host: String,
    /// The port of the MySQL protocol.
    pub port: u16,
}

/// The port of the MySQL protocol where an address names none.
pub const PORT_DEFAULT: u16 = 3306;

impl FromStr for ServerAddress {
    type Err = StoreError;

    /// Reads `host`, `host:port` or `[v6]:port`.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let bad = || {
            let hint = "expected host, host:port or [v6-address]:port";
            invalid(format!("server address {text:?} cannot be read ({hint})"))
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(bad)?;
                match after {
                    "" => (host, None),
                    _ => (host, Some(after.strip_prefix(':').ok_or_else(bad)?)),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(PORT_DEFAULT), |p| p.parse().map_err(|_| bad()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        if host.is_empty() || port == 0 || !host.chars().all(plain) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where a password comes from. Read again for every new connection, so that a rotated one is picked
/// up. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// There is none.
    None,
    /// This text.
    Text(String),
    /// The first line of this file.
    File(PathBuf),
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text(***)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// Whether the connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// It is not.
    Off,
    /// It is, and the server's certificate must be for its name, and signed by an authority that the
    /// system trusts or that is named here.
    Required {
        /// One more authority's certificates (PEM), beside the system's.
        ca: Option<PathBuf>,
        /// What this side shows of itself, for servers that ask.
        identity: Option<ClientIdentity>,
    },
}

/// A certificate of this side, and its key. Read again for every new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The file of the certificate, with those between it and its authority (PEM).
    pub certificate: PathBuf,
    /// The file of its private key (PEM).
    pub key: PathBuf,
}

/// Who one is at every server of a store, and how one gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: PasswordSource,
    /// Encryption.
    pub tls: Tls,
}

impl Login {
    /// The password as it is now; `None` where there is none.
    ///
    /// # Errors
    /// `Unavailable` if its file cannot be read.
    pub fn password_now(&self) -> Result<Option<String>, StoreError> {
        match &self.password {
            PasswordSource::None => Ok(None),
            PasswordSource::Text(text) => Ok(Some(text.clone())),
            PasswordSource::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    StoreError::new(
                        StoreErrorKind::Unavailable,
                        format!("cannot read the password file {}: {error}", path.display()),
                    )
                })?;
                Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("db", "db:3306"),
            ("db.example:4000", "db.example:4000"),
            ("[::1]:3307", "[::1]:3307"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:3306"),
        ] {
            let read: ServerAddress = text.parse().expect("an address");
            assert_eq!(read.to_string(), shown);
        }
        for bad in ["", ":1", "db:", "db:0", "db:99999", "db:1:2", "[::1", "[::1]3", "a b", "a/b"] {
            let refused = bad.parse::<ServerAddress>().expect_err(bad);
            assert!(refused.message.contains("server address"), "{refused}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let login = Login {
            user: "seen".to_owned(),
            password: PasswordSource::Text("hunter2".to_owned()),
            tls: Tls::Off,
        };
        assert!(!format!("{login:?}").contains("hunter2"));
        assert_eq!(login.password_now().expect("a password").as_deref(), Some("hunter2"));
    }

    #[test]
    fn a_rotated_password_file_is_read_anew() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let password = PasswordSource::File(file.path().to_owned());
        let login = Login { user: "seen".to_owned(), password, tls: Tls::Off };
        for now in ["first", "second"] {
            std::fs::write(file.path(), format!("{now}\n")).expect("written");
            assert_eq!(login.password_now().expect("a password").as_deref(), Some(now));
        }
        drop(file);
        assert_eq!(login.password_now().map_err(|e| e.kind), Err(StoreErrorKind::Unavailable));
    }
}
