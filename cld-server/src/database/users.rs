//! The users of the cell and their secrets: who may sign packets, and with what. Replicated, so that a user who was added
//! at one server is known at all of them, whoever is the master.

use super::command::encode_user;
use super::digest::{Digest, Item};
use super::session::UserName;
use crate::codec::{CodecError, Reader, Writer};
use crate::keys::Secret;
use cldc_core::wire::Key;
use cldc_core::wire::limits::MAX_KEY;
use imbl::OrdMap;
use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;

/// Most users of a cell.
pub const USERS_MAX: usize = 100_000;

/// The users.
#[derive(Clone, Debug, Default)]
pub struct Users {
    listed: OrdMap<UserName, Arc<User>>,
    user_as_key: bool,
    /// That of all who are listed.
    digest: Digest,
}

/// A user's secret, and the key made of it once: making it costs more than the rest of checking a short packet.
#[derive(Debug)]
struct User {
    secret: Secret,
    key: Key,
}

impl Users {
    /// The key with which this user signs; `None` if nobody of this name is let in.
    #[must_use]
    pub fn key_of(&self, name: &[u8]) -> Option<Cow<'_, Key>> {
        let name = UserName::new(name)?;
        match self.listed.get(&name) {
            Some(user) => Some(Cow::Borrowed(&user.key)),
            None if self.user_as_key => Key::new(name.as_bytes()).ok().map(Cow::Owned),
            None => None,
        }
    }

    /// The secret of a listed user.
    #[must_use]
    pub fn secret(&self, name: &UserName) -> Option<&Secret> {
        self.listed.get(name).map(|user| &user.secret)
    }

    /// The listed users in the order of their names, from the first after this one on.
    pub fn names_after(&self, name: Option<UserName>) -> impl DoubleEndedIterator<Item = &UserName> {
        let after = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.listed.range((after, Bound::Unbounded)).map(|(name, _)| name)
    }

    /// How many are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether none are listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether everybody else is let in too, with the name as the secret. It keeps nobody out.
    #[must_use]
    pub const fn user_as_key(&self) -> bool {
        self.user_as_key
    }

    pub(super) const fn set_user_as_key(&mut self, on: bool) {
        self.user_as_key = on;
    }

    /// Gives a user this secret, in the place of another.
    pub(super) fn insert(&mut self, name: UserName, secret: Secret) {
        // A secret is never empty, so there is a key.
        if let Ok(key) = Key::new(secret.as_bytes()) {
            self.digest.add(item(&name, &secret));
            let before = self.listed.insert(name, Arc::new(User { secret, key }));
            before.iter().for_each(|before| self.digest.remove(item(&name, &before.secret)));
        }
    }

    /// Whether there was such a user.
    pub(super) fn remove(&mut self, name: &UserName) -> bool {
        let before = self.listed.remove(name);
        before.iter().for_each(|before| self.digest.remove(item(name, &before.secret)));
        before.is_some()
    }

    /// The part of all who are listed in the digest.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// The same, worked out anew.
    pub(super) fn recomputed_digest(&self) -> Digest {
        let mut digest = Digest::default();
        for (name, user) in &self.listed {
            digest.add(item(name, &user.secret));
        }
        digest
    }
}

/// A user's part of the digest.
fn item(name: &UserName, secret: &Secret) -> Digest {
    Digest::of(Item::User, |out| {
        encode_user(name, out);
        encode_secret(secret, out);
    })
}

pub(super) fn encode_secret(secret: &Secret, out: &mut Writer) {
    out.bytes(secret.as_bytes());
}

pub(super) fn decode_secret(input: &mut Reader<'_>) -> Result<Secret, CodecError> {
    Secret::new(input.bytes(MAX_KEY)?).ok_or(CodecError::Invalid { what: "length of a secret", value: 0 })
}
