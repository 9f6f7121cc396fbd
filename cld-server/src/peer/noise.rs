//! The Noise protocol, by the crate `snow`: handshake messages and records sealed and opened.

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};

use super::secret::Secret;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const PSK_PLACE: u8 = 0;

/// How much longer a message is than what it carries.
pub(super) const TAG: usize = 16;

/// The public key that begins each handshake message.
pub(super) const KEY: usize = 32;

/// The most plaintext in one record: Noise allows messages of 65,535 bytes.
pub(super) const MAX_PLAIN: usize = 65_535 - TAG;

/// Each direction changes its key after so many records, hence within 1 GiB.
pub(super) const REKEY_AFTER: u64 = 1 << 14;

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Dialled,
    Accepted,
}

/// A connection before both ends have proved that they know the secret.
pub(super) struct Handshake(HandshakeState);

impl Handshake {
    /// `seed` makes the fresh key of this connection: it must be random and used once.
    pub(super) fn new(
        end: End,
        secret: &Secret,
        prologue: &[u8],
        seed: [u8; KEY],
    ) -> Result<Self, snow::Error> {
        let params: NoiseParams = PATTERN.parse()?;
        let builder = Builder::with_resolver(params, Box::new(Seeded(seed)))
            .psk(PSK_PLACE, secret.as_bytes())?
            .prologue(prologue)?;
        Ok(Self(match end {
            End::Dialled => builder.build_initiator()?,
            End::Accepted => builder.build_responder()?,
        }))
    }

    /// The next message of this end.
    pub(super) fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, snow::Error> {
        let mut message = vec![0; payload.len().saturating_add(KEY + TAG)];
        let length = self.0.write_message(payload, &mut message)?;
        message.truncate(length);
        Ok(message)
    }

    /// What the other end's message carries.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, snow::Error> {
        let mut payload = vec![0; message.len()];
        let length = self.0.read_message(message, &mut payload)?;
        payload.truncate(length);
        Ok(payload)
    }

    /// After the last message: the records that follow.
    pub(super) fn finish(self) -> Result<Records, snow::Error> {
        Ok(Records { noise: self.0.into_transport_mode()?, sealed: 0, opened: 0 })
    }
}

/// A connection after the handshake.
pub(super) struct Records {
    noise: TransportState,
    sealed: u64,
    opened: u64,
}

impl Records {
    /// Appends a record of at most [`MAX_PLAIN`] bytes to `out`, without its length.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), snow::Error> {
        let start = out.len();
        out.resize(start.saturating_add(plain.len()).saturating_add(TAG), 0);
        self.noise.write_message(plain, out.get_mut(start..).unwrap_or_default())?;
        self.sealed += 1;
        if self.sealed.is_multiple_of(REKEY_AFTER) {
            self.noise.rekey_outgoing();
        }
        Ok(())
    }

    /// Appends what is in a record to `out`.
    pub(super) fn open(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<(), snow::Error> {
        let start = out.len();
        out.resize(start.saturating_add(record.len().saturating_sub(TAG)), 0);
        self.noise.read_message(record, out.get_mut(start..).unwrap_or_default())?;
        self.opened += 1;
        if self.opened.is_multiple_of(REKEY_AFTER) {
            self.noise.rekey_incoming();
        }
        Ok(())
    }
}

/// The crate's own algorithms, with randomness that is passed in.
struct Seeded([u8; KEY]);

/// Gives the seed out once.
struct Once(Option<[u8; KEY]>);

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let seed = self.0.take().filter(|seed| seed.len() == out.len()).ok_or(snow::Error::Rng)?;
        out.copy_from_slice(&seed);
        Ok(())
    }
}

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}
