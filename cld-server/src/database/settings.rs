//! What an operator changes in the replicated state: the users, and the limits.

use super::command::{decode_user, encode_user};
use super::limits::LimitKind;
use super::users::{USERS_MAX, decode_secret, encode_secret};
use super::{Database, UserName};
use crate::codec::{CodecError, Reader, Writer};
use crate::keys::Secret;

/// A change of the users or of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Gives a user this secret.
    AddUser {
        /// The user.
        user: UserName,
        /// The secret.
        secret: Secret,
        /// Whether a user who is there already gets it too.
        replace: bool,
    },
    /// Lets a user in no more. The user's sessions run out.
    RemoveUser {
        /// The user.
        user: UserName,
    },
    /// Whether users who are not listed are let in, with their names as secrets.
    UserAsKey(bool),
    /// Sets one limit, lowered or raised to what is possible.
    Limit {
        /// Which one. [`LimitKind::Replies`] is not to be set, and stays.
        limit: LimitKind,
        /// Its new value.
        value: u64,
    },
    /// Users and limits are as the configuration of the cell's first server says. From here on they are the cell's own.
    Adopted,
}

/// Why a [`Setting`] changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The user has another secret.
    #[error("there is such a user already, with another secret; remove the user first")]
    UserExists,
    /// Nobody of this name is listed.
    #[error("there is no such user; 'cld user list' shows who there is")]
    NoSuchUser,
    /// There are [`USERS_MAX`].
    #[error("the cell has {USERS_MAX} users, and takes no more")]
    TooManyUsers,
}

impl Database {
    pub(super) fn set(&mut self, setting: &Setting) -> Result<(), SettingError> {
        match setting {
            Setting::AddUser { user, secret, replace } => match self.users.secret(user) {
                // The same again is no error: the operator may not have heard the first answer.
                Some(known) if known == secret => {}
                Some(_) if !replace => return Err(SettingError::UserExists),
                None if self.users.len() >= USERS_MAX => return Err(SettingError::TooManyUsers),
                _ => self.users.insert(*user, secret.clone()),
            },
            Setting::RemoveUser { user } => {
                if !self.users.remove(user) {
                    return Err(SettingError::NoSuchUser);
                }
            }
            Setting::UserAsKey(on) => self.users.set_user_as_key(*on),
            Setting::Limit { limit, value } => self.limits = self.limits.with(*limit, *value).clamped(),
            Setting::Adopted => self.adopted = true,
        }
        Ok(())
    }
}

impl Setting {
    pub(super) fn encode(&self, out: &mut Writer) {
        match self {
            Self::AddUser { user, secret, replace } => {
                out.u8(0);
                encode_user(user, out);
                encode_secret(secret, out);
                out.bool(*replace);
            }
            Self::RemoveUser { user } => {
                out.u8(1);
                encode_user(user, out);
            }
            Self::UserAsKey(on) => {
                out.u8(2);
                out.bool(*on);
            }
            Self::Limit { limit, value } => {
                out.u8(3);
                out.u8(limit.number());
                out.u64(*value);
            }
            Self::Adopted => out.u8(4),
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match input.u8()? {
            0 => Self::AddUser {
                user: decode_user(input)?,
                secret: decode_secret(input)?,
                replace: input.bool()?,
            },
            1 => Self::RemoveUser { user: decode_user(input)? },
            2 => Self::UserAsKey(input.bool()?),
            3 => {
                let number = input.u8()?;
                let invalid = CodecError::Invalid { what: "limit", value: number.into() };
                Self::Limit { limit: LimitKind::of_number(number).ok_or(invalid)?, value: input.u64()? }
            }
            4 => Self::Adopted,
            other => return Err(CodecError::Invalid { what: "kind of setting", value: other.into() }),
        })
    }
}
