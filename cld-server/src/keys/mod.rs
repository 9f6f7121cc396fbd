//! Secrets of users, and what the configuration of a server says of them. [`mod@file`] is where that comes from. Who is let
//! in is in the replicated state ([`Users`](crate::database::Users)).

pub mod file;

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};

use cldc_core::wire::limits::MAX_KEY;
use serde::{Deserialize, Serialize};

/// Who may sign packets, and with what, as a configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// These users, each with a secret of its own.
    Listed(BTreeMap<String, Secret>),
    /// Everybody, with the user's name as the secret: what Hail's programs do. It keeps nobody out.
    UserAsKey,
}

/// A secret of 1 to 127 bytes. It is not shown by `Debug`. As text (serde) it is its bytes in hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
        Ok(Self(String::from(Self(bytes.to_vec())).into_bytes()))
    }

    /// The bytes with which packets are signed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Secret {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes
            .filter(|_| rest.is_empty())
            .and_then(|bytes| Self::new(&bytes))
            .ok_or("a secret is 1 to 127 bytes in hex")
    }
}

impl Debug for Secret {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "Secret({} bytes)", self.0.len())
    }
}
