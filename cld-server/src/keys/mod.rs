//! The users and their secrets, as the endpoint asks for them. [`mod@file`] is where they come from.

pub mod file;

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};

use cldc_core::wire::limits::{MAX_KEY, MAX_USER};

/// Who may sign packets, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// These users, each with a secret of its own.
    Listed(BTreeMap<String, Secret>),
    /// Everybody, with the user's name as the secret: what Hail's programs do. It keeps nobody out.
    UserAsKey,
}

impl Keys {
    /// The key with which this user signs; `None` if there is no such user.
    #[must_use]
    pub fn secret<'a>(&'a self, user: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Listed(users) => users.get(str::from_utf8(user).ok()?).map(Secret::as_bytes),
            Self::UserAsKey => (1..=MAX_USER).contains(&user.len()).then_some(user),
        }
    }
}

/// A secret of 1 to 127 bytes. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret that is these bytes; `None` if it is empty or longer than 127.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=MAX_KEY).contains(&bytes.len()).then(|| Self(bytes.to_owned()))
    }

    /// A new secret of 32 random bytes, written as 64 hexadecimal digits. The digits themselves are the secret.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()))
    }

    /// The bytes with which packets are signed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "Secret({} bytes)", self.0.len())
    }
}
