//! Gateway tokens: `cw_` and 48 hexadecimal digits (192 random bits).
//!
//! Only the SHA-256 of a token is ever stored; look-ups go by that hash, so a look-up's time tells nothing of
//! a token. `Tokens` answers from memory and learns of changes made by other processes from a version number
//! in the store.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::{digest, rand};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::Micros;
use crate::hex::hex;
use crate::secret::Secret;
use crate::store::{Store, StoreError};

/// What every gateway token begins with.
pub const PREFIX: &str = "cw_";
const RANDOM_BYTES: usize = 24;

/// The SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// What a token's holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Use AI, read the own records.
    Member,
    /// Read everyone's records.
    Auditor,
    /// Manage.
    Admin,
}

impl Role {
    /// The name on the command line and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, thiserror::Error)]
#[error("unknown role: one of member, auditor, admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        [Role::Member, Role::Auditor, Role::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}

/// What is stored of a token.
#[derive(Clone, Debug)]
pub struct TokenRecord {
    /// Names the token to operators.
    pub id: Uuid,
    /// The token's SHA-256.
    pub hash: TokenHash,
    /// Whose it is.
    pub user: Arc<str>,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created_at: Micros,
    /// When it ends.
    pub expires_at: Option<Micros>,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
    /// When it was used last.
    pub used: Arc<LastUse>,
}

/// When a token was used last; written to the store now and then.
#[derive(Debug, Default)]
pub struct LastUse {
    /// Microseconds since the epoch; 0 is never.
    at: AtomicI64,
    saved: AtomicI64,
}

impl LastUse {
    /// As the store has it.
    pub fn known(at: Option<Micros>) -> LastUse {
        let at = at.map_or(0, |at| at.0);
        LastUse {
            at: AtomicI64::new(at),
            saved: AtomicI64::new(at),
        }
    }

    /// When that was, if ever.
    pub fn at(&self) -> Option<Micros> {
        let at = self.at.load(Ordering::Relaxed);
        (at > 0).then_some(Micros(at))
    }

    fn note(&self, now: Micros) {
        // A minute is exact enough, and spares other cores the cache line.
        if now.0.saturating_sub(self.at.load(Ordering::Relaxed)) >= USE_STEP {
            self.at.store(now.0, Ordering::Relaxed);
        }
    }

    /// What the store does not know yet.
    fn take_unsaved(&self) -> Option<Micros> {
        let at = self.at.load(Ordering::Relaxed);
        (self.saved.swap(at, Ordering::Relaxed) < at).then_some(Micros(at))
    }
}

/// How exactly a last use is known, in microseconds.
const USE_STEP: i64 = 60_000_000;

impl TokenRecord {
    /// Whether the token is good at `now`.
    pub fn is_live(&self, now: Micros) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// The same, noted as a use.
    fn use_at(&self, now: Micros) -> bool {
        let live = self.is_live(now);
        if live {
            self.used.note(now);
        }
        live
    }
}

/// Makes a token.
///
/// # Errors
/// The system has no randomness.
pub fn generate() -> Result<Secret, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0_u8; RANDOM_BYTES];
    rand::fill(&mut bytes)?;
    Ok(Secret::new(format!("{PREFIX}{}", hex(&bytes))))
}

/// The hash under which a token is stored.
pub fn hash(token: &str) -> TokenHash {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// Whether `text` holds something of a gateway token's form.
pub fn appears_in(text: &[u8]) -> bool {
    text.windows(PREFIX.len() + RANDOM_BYTES * 2).any(|window| {
        window
            .strip_prefix(PREFIX.as_bytes())
            .is_some_and(|rest| rest.iter().all(u8::is_ascii_hexdigit))
    })
}

/// The tokens in memory.
#[derive(Debug)]
pub struct Tokens {
    store: Store,
    known: ArcSwap<Known>,
}

/// The version of tokens that were never read.
const UNREAD: i64 = -1;

#[derive(Debug)]
struct Known {
    version: i64,
    by_hash: HashMap<TokenHash, Arc<TokenRecord>>,
}

impl Tokens {
    /// Reads all tokens from `store`; none where it is away, until it is back.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(store: Store) -> Result<Tokens, StoreError> {
        let known = match Known::read(&store, None).await {
            Err(error) if error.is_away() => Known {
                version: UNREAD,
                by_hash: HashMap::new(),
            },
            outcome => outcome?,
        };
        Ok(Tokens {
            store,
            known: ArcSwap::from_pointee(known),
        })
    }

    /// The live token with this text. A token made a moment ago by another process is found too.
    ///
    /// # Errors
    /// It is not known here, and the store cannot be asked.
    pub async fn find(&self, token: &str, now: Micros) -> Result<Option<Arc<TokenRecord>>, StoreError> {
        if !token.starts_with(PREFIX) {
            return Ok(None);
        }
        let hash = hash(token);
        if let Some(record) = self.look_up(&hash) {
            return Ok(record.use_at(now).then_some(record));
        }
        self.follow(self.store.versions().await?.tokens).await?;
        Ok(self.look_up(&hash).filter(|record| record.use_at(now)))
    }

    /// Whether the token with this hash is good at `now`, as far as is known without asking the store.
    pub fn is_live(&self, hash: &TokenHash, now: Micros) -> bool {
        let known = self.known.load();
        known.by_hash.get(hash).is_some_and(|record| record.use_at(now))
    }

    /// Writes to the store which tokens were used. What cannot be written now is written after the next use.
    pub async fn save_uses(&self) {
        let known = self.known.load_full();
        let used = known.by_hash.values();
        let uses: Vec<_> = used
            .filter_map(|record| Some((record.id, record.used.take_unsaved()?)))
            .collect();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.store.note_uses(uses).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the last uses of tokens could not be written");
        }
    }

    /// Reads the tokens again if the store says that they changed.
    pub async fn refresh(&self) {
        let outcome = async { self.follow(self.store.versions().await?.tokens).await };
        if let Err(error) = outcome.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "tokens could not be read again"
            );
        }
    }

    /// Reads the tokens again unless they are those of this version of the store's.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn follow(&self, version: i64) -> Result<(), StoreError> {
        if version != self.known.load().version {
            let old = self.known.load_full();
            let new = Known::read(&self.store, Some(&old)).await?;
            self.known.store(Arc::new(new));
        }
        Ok(())
    }

    fn look_up(&self, hash: &TokenHash) -> Option<Arc<TokenRecord>> {
        self.known.load().by_hash.get(hash).cloned()
    }
}

impl Known {
    /// Reads all; what `previous` knows of uses goes on.
    async fn read(store: &Store, previous: Option<&Known>) -> Result<Known, StoreError> {
        // The version is read first: a change in between is then seen at the next refresh.
        let version = store.versions().await?.tokens;
        let records = store.tokens().await?;
        let by_hash = records
            .into_iter()
            .map(|mut record| {
                if let Some(old) = previous.and_then(|old| old.by_hash.get(&record.hash)) {
                    record.used = old.used.clone();
                }
                (record.hash, Arc::new(record))
            })
            .collect();
        Ok(Known { version, by_hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_recognised_inside_other_text() {
        let token = generate().unwrap();
        assert_eq!(token.expose().len(), 51);
        let header = format!("Bearer {}", token.expose());
        assert!(appears_in(header.as_bytes()));
        assert!(!appears_in(b"Bearer cw_short"));
        assert!(!appears_in(b""));
        assert_ne!(hash(token.expose()), hash("cw_other"));
    }
}
