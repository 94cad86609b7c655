//! Where a reader of the feed is: how far it has read each chain, in a form that its client can keep.
//!
//! A position leaves the process sealed with a key that lies in the store: how long chains are says how much others
//! do, which is nothing for a member to know; and what comes back was made here. A chain to which nothing will be
//! added is not named any more once it is read, so that positions stay short however often processes start.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Store, StoreError};

/// Longest text that is read as a position, in bytes.
const LONGEST: usize = 32 << 10;
/// Bytes of the key.
const KEY: usize = 32;

/// How far each chain was read. The default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Chains up to this number that are not named were read to their end.
    done: i64,
    chains: BTreeMap<i64, i64>,
    /// The last warning of a budget that was read.
    pub(super) warning: i64,
}

/// The end of a chain as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tip {
    pub(super) chain: i64,
    pub(super) n: i64,
    /// Whether nothing will be added.
    pub(super) is_over: bool,
}

impl Position {
    /// The last link that was read of the chain of `tip`.
    pub(super) fn of(&self, tip: Tip) -> i64 {
        let unnamed = if tip.chain <= self.done { tip.n } else { 0 };
        self.chains.get(&tip.chain).copied().unwrap_or(unnamed)
    }

    /// Goes on with the chains of `other`; warnings stay where they are.
    pub fn go_on_to(&mut self, other: &Position) {
        (self.done, self.chains) = (other.done, other.chains.clone());
    }

    /// Goes on to a link.
    pub(super) fn reach(&mut self, chain: i64, n: i64) {
        self.chains.insert(chain, n);
    }

    /// Forgets chains that are over and read to their end. `tips` are those of all chains.
    pub(super) fn shorten(&mut self, tips: &[Tip]) {
        let is_done = |tip: &&Tip| tip.is_over && self.of(**tip) >= tip.n;
        let done = tips
            .iter()
            .filter(is_done)
            .map(|tip| tip.chain)
            .max()
            .unwrap_or(0);
        let done = done.max(self.done);
        let named = tips.iter().filter(|tip| !is_done(tip));
        self.chains = named
            .map(|tip| (tip.chain, self.of(*tip)))
            .filter(|(chain, n)| *chain <= done || *n > 0)
            .collect();
        self.done = done;
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.chains.len() * 8);
        push(&mut bytes, self.done);
        push(&mut bytes, self.warning);
        for (chain, n) in &self.chains {
            push(&mut bytes, *chain);
            push(&mut bytes, *n);
        }
        bytes
    }

    fn read(mut bytes: &[u8]) -> Option<Position> {
        let mut position = Position {
            done: pull(&mut bytes)?,
            warning: pull(&mut bytes)?,
            chains: BTreeMap::new(),
        };
        while !bytes.is_empty() {
            let (chain, n) = (pull(&mut bytes)?, pull(&mut bytes)?);
            position.chains.insert(chain, n);
        }
        Some(position)
    }
}

/// Appends a number of seven bits a byte, the lowest first.
fn push(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = number.unsigned_abs();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push((rest & 0x7f) as u8);
}

fn pull(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return i64::try_from(number).ok();
        }
    }
    None
}

/// Seals positions.
pub struct PositionKey(RandomizedNonceKey);

impl fmt::Debug for PositionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PositionKey")
    }
}

impl PositionKey {
    fn new(key: &[u8]) -> Result<PositionKey, StoreError> {
        RandomizedNonceKey::new(&AES_256_GCM, key)
            .map(PositionKey)
            .map_err(|_| StoreError::Unreadable)
    }

    /// A position as a text for clients to keep. Empty in the case that the system has no randomness.
    pub fn seal(&self, position: &Position) -> String {
        let mut text = position.write();
        let Ok(nonce) = self.0.seal_in_place_append_tag(Aad::empty(), &mut text) else {
            return String::new();
        };
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The position in a text that `seal` made.
    pub fn open(&self, text: &str) -> Option<Position> {
        if text.len() > LONGEST {
            return None;
        }
        let mut sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::empty(), text).ok()?;
        Position::read(opened)
    }
}

impl Store {
    /// The key of positions, which all processes on the store share.
    ///
    /// # Errors
    /// The store cannot be used, or the system has no randomness.
    pub async fn position_key(&self) -> Result<Arc<PositionKey>, StoreError> {
        let make = || {
            self.ask(|database| {
                let mut fresh = [0_u8; KEY];
                rand::fill(&mut fresh).map_err(|_| StoreError::NoRandomness)?;
                database.execute(
                    "INSERT INTO keyring (name, value) VALUES ('position', ?1) ON CONFLICT (name) DO NOTHING",
                    &[fresh.to_vec().into()],
                )?;
                let mut rows = database.query("SELECT value FROM keyring WHERE name = 'position'", &[])?;
                let key = rows.pop().ok_or(StoreError::Unreadable)?.read().blob()?;
                PositionKey::new(&key).map(Arc::new)
            })
        };
        self.0.position_key.get_or_try_init(make).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tip(chain: i64, n: i64, is_over: bool) -> Tip {
        Tip { chain, n, is_over }
    }

    #[test]
    fn a_position_survives_sealing_and_nothing_else_is_read_as_one() {
        let key = PositionKey::new(&[7; KEY]).unwrap();
        let mut position = Position::default();
        for (chain, n) in [(1, 1), (5, i64::MAX), (900, 300)] {
            position.reach(chain, n);
        }
        position.warning = 12;
        let text = key.seal(&position);
        assert_eq!(key.open(&text), Some(position));
        let other = PositionKey::new(&[8; KEY]).unwrap();
        assert_eq!(other.open(&text), None);
        for wrong in ["", "x", "AAAA", &"A".repeat(40_000), &text[1..]] {
            assert_eq!(key.open(wrong), None, "{wrong:.20}");
        }
    }

    #[test]
    fn chains_that_are_over_are_forgotten_and_none_is_lost() {
        let mut position = Position::default();
        let tips = [
            tip(1, 9, false),
            tip(2, 4, true),
            tip(3, 7, true),
            tip(4, 0, false),
        ];
        position.reach(1, 3);
        position.reach(2, 4);
        position.shorten(&tips);
        assert_eq!(tips.map(|tip| position.of(tip)), [3, 4, 0, 0]);
        position.reach(3, 7);
        position.shorten(&tips);
        assert_eq!(position.done, 3);
        assert_eq!(tips.map(|tip| position.of(tip)), [3, 4, 7, 0]);
        assert_eq!(position.chains.len(), 1, "{position:?}");
        // A new chain is read from its beginning, an old one that is not over where it was left.
        assert_eq!(position.of(tip(5, 2, false)), 0);
        assert_eq!(position.of(tip(1, 12, false)), 3);
        let later = tips.map(|tip| Tip { is_over: true, ..tip });
        position.reach(1, 9);
        position.shorten(&later);
        assert_eq!((position.done, position.chains.len()), (4, 0));
    }
}
