//! Join tokens: how a server with a fresh disk is named to the cell that it shall join.
//!
//! The text is `cld-join-1:` and hexadecimal digits: the cell (16 bytes), the new server's id (8), its addresses as the log
//! holds them, and an HMAC-BLAKE2s (32) of all that with the cell's secret. So nobody adds a server by a token that was made
//! for another cell, by somebody else, or was cut in copying. It is good for once by its nature: it names one disk, and an
//! id that is or was a member is not added again.

use std::fmt::Write;

use snow::params::HashChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use thiserror::Error;

use super::secret::Secret;
use crate::codec::{CodecError, Reader, Writer};
use crate::storage::{Addresses, Identity};

/// How the text begins; the number is the version of what follows.
const PREFIX: &str = "cld-join-1:";

/// Keeps what is signed here apart from all else that the secret is used for.
const CONTEXT: &[u8] = b"CLD join token 1";

const MAC: usize = 32;

/// The longest token, in bytes of text.
pub const MAX_TOKEN: usize = 256;

/// A server that wants to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The disk, and the cell that it was prepared for.
    pub identity: Identity,
    /// Where the server will be reached.
    pub addresses: Addresses,
}

impl Token {
    /// The text, signed with the cell's secret.
    ///
    /// # Errors
    /// [`TokenError::Unsupported`].
    pub fn to_text(&self, secret: &Secret) -> Result<String, TokenError> {
        let mut out = Writer::new();
        out.raw(&self.identity.cell.to_be_bytes());
        out.u64(self.identity.node.get());
        self.addresses.write(&mut out);
        let mut bytes = out.into_vec();
        bytes.extend(mac(secret, &bytes)?);
        Ok(bytes.iter().fold(PREFIX.to_owned(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// Reads a text that must have been signed with the secret of this cell.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn from_text(text: &str, cell: u128, secret: &Secret) -> Result<Self, TokenError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = bytes_of(digits).filter(|_| text.len() <= MAX_TOKEN).ok_or(TokenError::Cut)?;
        let split = bytes.len().checked_sub(MAC).and_then(|body| bytes.split_at_checked(body));
        let (body, signature) = split.ok_or(TokenError::Cut)?;
        let (identity, addresses) = decode(body).map_err(|_| TokenError::Cut)?;
        if identity.cell != cell {
            return Err(TokenError::Cell { theirs: identity.cell, ours: cell });
        }
        // Whoever gives tokens to a server owns it: there is nothing to be learned from how long this takes.
        if mac(secret, body)? != signature {
            return Err(TokenError::Signature);
        }
        Ok(Self { identity, addresses })
    }
}

fn decode(body: &[u8]) -> Result<(Identity, Addresses), CodecError> {
    let mut from = Reader::new(body);
    let cell = (u128::from(from.u64()?) << 64) | u128::from(from.u64()?);
    let node =
        from.u64()?.try_into().map_err(|_| CodecError::Invalid { what: "id of a server", value: 0 })?;
    let addresses = Addresses::read(&mut from)?;
    from.finish()?;
    Ok((Identity { node, cell }, addresses))
}

fn mac(secret: &Secret, body: &[u8]) -> Result<[u8; MAC], TokenError> {
    let mut hash = DefaultResolver.resolve_hash(&HashChoice::Blake2s).ok_or(TokenError::Unsupported)?;
    let mut out = [0; MAC];
    hash.hmac(secret.as_bytes(), &[CONTEXT, body].concat(), &mut out);
    Ok(out)
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let values: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let values = values.filter(|values| values.len().is_multiple_of(2))?;
    values
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit)).ok())
        .collect()
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is something else.
    #[error("a join token begins with '{PREFIX}'; 'cld cell prepare' on the new server prints one")]
    Prefix,
    /// It is not whole.
    #[error("the join token is not whole; copy all of what 'cld cell prepare' printed")]
    Cut,
    /// It is for another cell.
    #[error(
        "the join token is for cell {theirs:032x}, and this is cell {ours:032x}; prepare the new server with this cell's secret file"
    )]
    Cell {
        /// The token's cell.
        theirs: u128,
        /// This cell.
        ours: u128,
    },
    /// It was not made with the cell's secret.
    #[error(
        "the join token was not made with this cell's secret; prepare the new server with this cell's secret file"
    )]
    Signature,
    /// There is no hash function.
    #[error("this program lacks the hash function of join tokens")]
    Unsupported,
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const CELL: u128 = 0xce11;

    fn token() -> Token {
        let identity = Identity { node: NonZeroU64::new(7).unwrap(), cell: CELL };
        let addresses = Addresses {
            peer: Some("192.0.2.7:8082".parse().unwrap()),
            client: Some("[2001:db8::7]:8081".parse().unwrap()),
        };
        Token { identity, addresses }
    }

    #[test]
    fn a_token_reads_back_with_the_cells_secret_only() {
        let secret = Secret::new([1; 32]);
        let text = token().to_text(&secret).unwrap();
        assert!(text.len() <= MAX_TOKEN, "{}", text.len());
        assert_eq!(Token::from_text(&format!("{text}\n"), CELL, &secret), Ok(token()));
        assert_eq!(Token::from_text(&text, CELL, &Secret::new([2; 32])), Err(TokenError::Signature));
        assert_eq!(Token::from_text(&text, 1, &secret), Err(TokenError::Cell { theirs: CELL, ours: 1 }));
    }

    #[test]
    fn no_part_of_a_token_can_be_changed_or_left_out() {
        let secret = Secret::new([1; 32]);
        let text = token().to_text(&secret).unwrap();
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(Token::from_text(&changed, CELL, &secret).is_err(), "{changed}");
            assert!(Token::from_text(&text[..at], CELL, &secret).is_err(), "cut at {at}");
        }
        assert_eq!(Token::from_text("web", CELL, &secret), Err(TokenError::Prefix));
    }
}
