//! Session tickets, and the keys that seal them.
//!
//! A key seals tickets for six hours and opens them for six more. The keys can be written to bytes, so that a successor of
//! this process opens the tickets that it has given out.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::server::ProducesTickets;

use super::provider::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use super::provider::rand::{SecureRandom, SystemRandom};

/// How long a key seals tickets.
const SEALS_FOR: Duration = Duration::from_secs(6 * 3600);
/// The lifetime that is stated with a ticket: what the key opens at least.
const LIFETIME: Duration = SEALS_FOR;
const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const KEY_BYTES: usize = NAME_BYTES + SECRET_BYTES + 8;

/// One key, with the time at which it was made.
struct TicketKey {
    name: [u8; NAME_BYTES],
    secret: [u8; SECRET_BYTES],
    made: SystemTime,
    key: LessSafeKey,
}

impl TicketKey {
    fn new(now: SystemTime) -> Option<TicketKey> {
        let random = SystemRandom::new();
        let (mut name, mut secret) = ([0; NAME_BYTES], [0; SECRET_BYTES]);
        random.fill(&mut name).ok()?;
        random.fill(&mut secret).ok()?;
        TicketKey::of(name, secret, now)
    }

    fn of(name: [u8; NAME_BYTES], secret: [u8; SECRET_BYTES], made: SystemTime) -> Option<TicketKey> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).ok()?);
        Some(TicketKey { name, secret, made, key })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&self.secret);
        let made = self.made.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.extend_from_slice(&made.as_secs().to_le_bytes());
    }

    fn read(bytes: &[u8; KEY_BYTES]) -> Option<TicketKey> {
        let (name, rest) = bytes.split_first_chunk()?;
        let (secret, made) = rest.split_first_chunk()?;
        let made = Duration::from_secs(u64::from_le_bytes(made.try_into().ok()?));
        TicketKey::of(*name, *secret, UNIX_EPOCH.checked_add(made)?)
    }
}

/// The keys of a server's tickets: the one that seals, and the one before it.
pub(crate) struct TicketKeys {
    keys: Mutex<Vec<TicketKey>>,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

impl TicketKeys {
    pub(crate) fn new() -> TicketKeys {
        TicketKeys { keys: Mutex::new(TicketKey::new(SystemTime::now()).into_iter().collect()) }
    }

    /// Writes the keys, which are secret.
    #[cfg(any(test, feature = "restart"))]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.keys().iter().for_each(|key| key.write(&mut out));
        out
    }

    /// Reads keys that were written before; `None` if the bytes are not those of keys.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<TicketKeys> {
        let (keys, []) = bytes.as_chunks::<KEY_BYTES>() else { return None };
        let keys = keys.iter().map(TicketKey::read).collect::<Option<Vec<TicketKey>>>()?;
        (1..=2).contains(&keys.len()).then_some(TicketKeys { keys: Mutex::new(keys) })
    }

    fn keys(&self) -> MutexGuard<'_, Vec<TicketKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new key in front if the first one is too old. A clock that was set back makes a key no older.
    fn rotate(keys: &mut Vec<TicketKey>, now: SystemTime) {
        let age = |key: &TicketKey| now.duration_since(key.made).unwrap_or_default();
        if keys.first().is_none_or(|key| age(key) >= SEALS_FOR)
            && let Some(key) = TicketKey::new(now)
        {
            keys.insert(0, key);
        }
        keys.truncate(2);
        keys.retain(|key| age(key) < 2 * SEALS_FOR);
    }

    fn encrypt_at(&self, plain: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let mut keys = self.keys();
        TicketKeys::rotate(&mut keys, now);
        let TicketKey { name, key, .. } = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed)
            .ok()?;
        Some([&name[..], &nonce, &sealed, tag.as_ref()].concat())
    }

    fn decrypt_at(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut keys = self.keys();
        TicketKeys::rotate(&mut keys, now);
        // The names are no secret.
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let plain = key
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut sealed)
            .ok()?
            .len();
        sealed.truncate(plain);
        Some(sealed)
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, SystemTime::now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_opened_by_its_key_for_twice_the_time_that_the_key_seals() {
        let keys = TicketKeys::new();
        let now = SystemTime::now();
        let ticket = keys.encrypt_at(b"session", now).unwrap();
        assert_eq!(keys.decrypt_at(&ticket, now).as_deref(), Some(&b"session"[..]));
        let next = keys.encrypt_at(b"other", now + SEALS_FOR).unwrap();
        assert_ne!(ticket[..NAME_BYTES], next[..NAME_BYTES], "another key seals");
        assert!(keys.decrypt_at(&ticket, now + SEALS_FOR).is_some());
        assert!(keys.decrypt_at(&ticket, now + 2 * SEALS_FOR).is_none());
    }

    #[test]
    fn a_ticket_that_was_changed_or_cut_is_refused() {
        let keys = TicketKeys::new();
        let ticket = keys.encrypt(b"session").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(keys.decrypt(&changed), None, "byte {at}");
            assert_eq!(keys.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn keys_survive_in_a_successor() {
        let keys = TicketKeys::new();
        let now = SystemTime::now();
        let first = keys.encrypt_at(b"first", now).unwrap();
        let second = keys.encrypt_at(b"second", now + SEALS_FOR).unwrap();
        let bytes = keys.to_bytes();
        let successor = TicketKeys::from_bytes(&bytes).unwrap();
        let later = now + SEALS_FOR;
        assert_eq!(successor.decrypt_at(&first, later).as_deref(), Some(&b"first"[..]));
        assert_eq!(successor.decrypt_at(&second, later).as_deref(), Some(&b"second"[..]));
        for wrong in [&[][..], &bytes[1..], &bytes.repeat(2)] {
            assert!(TicketKeys::from_bytes(wrong).is_none());
        }
        assert!(!format!("{keys:?}").contains("secret"));
    }
}
