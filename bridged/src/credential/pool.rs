//! An instance's own keys: which one is next, which ones rest, which ones are no good.
//!
//! The first usable key is taken, not each in turn: providers keep prompt caches for an account, so changing keys
//! without need makes every conversation dearer; the later keys are the reserve. A key's health outlives the pool
//! (`KeyHealth`, found by the key's hash), so that a new configuration does not forget who is resting. Taking a key
//! needs no lock.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};
use providers::KeyHeader;
use tokio::time::Instant;

use crate::config::{KeyConfig, read_key};
use crate::headers::X_API_KEY;
use crate::secret::{Secret, mask};

/// The rest of a key whose 429 says nothing about when to come back.
const REST: Duration = Duration::from_secs(60);
/// The longest rest: a provider's clock may be wrong, and quotas are sometimes raised.
const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// `KeyHealth` of a key that the provider does not know.
const REJECTED: u64 = u64::MAX;

/// What a key is good for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyCondition {
    /// It can be used.
    Usable,
    /// It has met a limit.
    Resting(Duration),
    /// The provider does not know it.
    Rejected,
}

impl KeyCondition {
    /// The name in the API and in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            KeyCondition::Usable => "usable",
            KeyCondition::Resting(_) => "resting",
            KeyCondition::Rejected => "rejected",
        }
    }
}

/// A key's health: the milliseconds after `KeyBook::origin` until which it rests, or `REJECTED`.
#[derive(Debug, Default)]
struct KeyHealth(AtomicU64);

/// The health of every key that an instance has had, by the key's hash.
#[derive(Debug)]
pub(crate) struct KeyBook {
    origin: Instant,
    known: Mutex<HashMap<[u8; 32], Arc<KeyHealth>>>,
}

/// One of the gateway's own keys.
#[derive(Debug)]
pub(crate) struct Key {
    hint: String,
    /// The header that carries it, marked sensitive.
    header: Option<(HeaderName, HeaderValue)>,
    health: Arc<KeyHealth>,
    origin: Instant,
}

/// A file that a key comes from.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Its length and date when it was read last.
    stamp: Option<(u64, SystemTime)>,
}

/// An instance's own keys, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct KeyPool {
    provider: Arc<str>,
    key_header: KeyHeader,
    book: Arc<KeyBook>,
    keys: ArcSwap<Vec<Arc<Key>>>,
    /// One for each key.
    files: Mutex<Vec<Option<Watched>>>,
}

/// Why there is no key to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The instance has none.
    None,
    /// All that are good rest, for at least so long.
    Resting(Duration),
    /// The provider knows none of them.
    Rejected,
}

impl KeyBook {
    pub(crate) fn new() -> KeyBook {
        KeyBook {
            origin: Instant::now(),
            known: Mutex::default(),
        }
    }

    /// The health of a key that has just been read: a limit it has met still counts, a rejection does not.
    fn read(&self, secret: &Secret) -> Arc<KeyHealth> {
        let mut hash = [0; 32];
        let digest = digest::digest(&digest::SHA256, secret.expose().as_bytes());
        hash.copy_from_slice(digest.as_ref());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Keys that no pool holds any more are forgotten.
        known.retain(|_, health| Arc::strong_count(health) > 1);
        let health = known.entry(hash).or_default().clone();
        let _ = health
            .0
            .compare_exchange(REJECTED, 0, Ordering::Relaxed, Ordering::Relaxed);
        health
    }
}

impl Key {
    fn new(secret: &Secret, key_header: &KeyHeader, book: &KeyBook) -> Key {
        let header = match key_header {
            KeyHeader::Bearer => Some((AUTHORIZATION, format!("Bearer {}", secret.expose()))),
            KeyHeader::XApiKey => Some((X_API_KEY, secret.expose().to_owned())),
            KeyHeader::Named(name) => Some((name.clone(), secret.expose().to_owned())),
            KeyHeader::None => None,
        };
        let header = header.and_then(|(name, text)| {
            let mut value = HeaderValue::from_str(&text).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        Key {
            hint: mask(secret.expose()),
            header,
            health: book.read(secret),
            origin: book.origin,
        }
    }

    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }

    pub(crate) fn condition(&self) -> KeyCondition {
        let until = self.health.0.load(Ordering::Relaxed);
        if until == REJECTED {
            return KeyCondition::Rejected;
        }
        match until.saturating_sub(self.now()) {
            0 => KeyCondition::Usable,
            left => KeyCondition::Resting(Duration::from_millis(left)),
        }
    }

    /// Puts the key in the place of every other credential.
    pub(crate) fn insert(&self, headers: &mut HeaderMap) -> bool {
        let Some((name, value)) = &self.header else {
            return false;
        };
        headers.remove(AUTHORIZATION);
        headers.remove(X_API_KEY);
        headers.insert(name.clone(), value.clone());
        true
    }

    /// The key has met a limit. It rests for as long as the provider says, but a minute if it says nothing.
    pub(crate) fn rest(&self, wait: Option<Duration>) {
        let wait = wait.unwrap_or(REST).min(LONGEST_REST);
        let until = self.now() + u64::try_from(wait.as_millis()).unwrap_or(0);
        // A rejection is larger than any date and stays.
        self.health.0.fetch_max(until, Ordering::Relaxed);
    }

    /// The provider does not know the key.
    pub(crate) fn reject(&self) {
        self.health.0.store(REJECTED, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(REJECTED - 1)
    }
}

impl KeyPool {
    pub(crate) fn new(
        provider: Arc<str>,
        key_header: KeyHeader,
        configured: &[KeyConfig],
        book: Arc<KeyBook>,
    ) -> KeyPool {
        let keys = configured
            .iter()
            .map(|key| Arc::new(Key::new(&key.secret, &key_header, &book)))
            .collect();
        let files = configured
            .iter()
            .map(|key| {
                let path = key.file.clone()?;
                let stamp = stamp(&path);
                Some(Watched { path, stamp })
            })
            .collect();
        KeyPool {
            provider,
            key_header,
            book,
            keys: ArcSwap::from_pointee(keys),
            files: Mutex::new(files),
        }
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<Vec<Arc<Key>>> {
        self.keys.load_full()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }

    /// The first usable key that is not among `tried`.
    pub(crate) fn next(&self, tried: &[Arc<Key>]) -> Result<Arc<Key>, NoKey> {
        let mut none = NoKey::None;
        for key in self.keys.load().iter() {
            let condition = key.condition();
            if condition == KeyCondition::Usable && !tried.iter().any(|other| Arc::ptr_eq(other, key)) {
                return Ok(key.clone());
            }
            none = match (none, condition) {
                (NoKey::Resting(least), KeyCondition::Resting(wait)) => NoKey::Resting(least.min(wait)),
                (_, KeyCondition::Resting(wait)) => NoKey::Resting(wait),
                // Tried a moment ago, and usable again by now.
                (_, KeyCondition::Usable) => NoKey::Resting(Duration::ZERO),
                (NoKey::Resting(least), KeyCondition::Rejected) => NoKey::Resting(least),
                (_, KeyCondition::Rejected) => NoKey::Rejected,
            };
        }
        Err(none)
    }

    /// Reads the keys again whose files have changed. Waits for the disk.
    pub(crate) fn reread(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, file) in files.iter_mut().enumerate() {
            let Some(file) = file else { continue };
            let stamp = stamp(&file.path);
            if stamp == file.stamp {
                continue;
            }
            file.stamp = stamp;
            match read_key(&file.path) {
                Ok(secret) => self.replace(index, &secret),
                Err(reason) => tracing::warn!(
                    provider = %self.provider,
                    reason,
                    "a key's file has changed and cannot be used; the key stays as it was"
                ),
            }
        }
    }

    fn replace(&self, index: usize, secret: &Secret) {
        let key = Arc::new(Key::new(secret, &self.key_header, &self.book));
        tracing::info!(provider = %self.provider, hint = key.hint(), "a key was read again");
        let mut keys = self.keys.load().to_vec();
        if let Some(place) = keys.get_mut(index) {
            *place = key;
        }
        self.keys.store(Arc::new(keys));
    }
}

fn stamp(path: &std::path::Path) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> KeyConfig {
        KeyConfig {
            secret: Secret::new(text),
            file: None,
        }
    }

    fn pool(texts: &[&str], book: &Arc<KeyBook>) -> KeyPool {
        let configured: Vec<KeyConfig> = texts.iter().map(|text| config(text)).collect();
        KeyPool::new(Arc::from("openai"), KeyHeader::Bearer, &configured, book.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_usable_key_is_taken_and_comes_back_after_its_rest() {
        let pool = pool(&["key-aaaaaaaa-1", "key-bbbbbbbb-2"], &Arc::new(KeyBook::new()));
        let first = pool.next(&[]).unwrap();
        first.rest(Some(Duration::from_secs(30)));
        let second = pool.next(&[]).unwrap();
        assert_eq!(second.hint(), "ke...-2");
        second.rest(None);
        assert_eq!(
            pool.next(&[]).unwrap_err(),
            NoKey::Resting(Duration::from_secs(30))
        );
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(Arc::ptr_eq(&pool.next(&[]).unwrap(), &first));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(second.condition(), KeyCondition::Usable);
        second.rest(Some(Duration::from_secs(1_000_000)));
        assert_eq!(second.condition(), KeyCondition::Resting(LONGEST_REST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_key_stays_away_and_one_that_was_tried_is_not_tried_again() {
        let pool = pool(&["key-aaaaaaaa-1", "key-bbbbbbbb-2"], &Arc::new(KeyBook::new()));
        let first = pool.next(&[]).unwrap();
        first.reject();
        first.rest(Some(Duration::ZERO));
        let second = pool.next(&[]).unwrap();
        assert_eq!(
            pool.next(std::slice::from_ref(&second)).unwrap_err(),
            NoKey::Resting(Duration::ZERO)
        );
        second.reject();
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert_eq!(pool.next(&[]).unwrap_err(), NoKey::Rejected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_pool_knows_who_rests_and_gives_the_rejected_another_chance() {
        let book = Arc::new(KeyBook::new());
        let old = pool(&["key-aaaaaaaa-1", "key-bbbbbbbb-2"], &book);
        let keys = old.keys();
        keys[0].rest(None);
        keys[1].reject();
        let new = pool(&["key-bbbbbbbb-2", "key-aaaaaaaa-1", "key-cccccccc-3"], &book);
        let conditions: Vec<_> = new.keys().iter().map(|key| key.condition()).collect();
        assert_eq!(
            conditions,
            [
                KeyCondition::Usable,
                KeyCondition::Resting(REST),
                KeyCondition::Usable
            ]
        );
    }

    #[test]
    fn a_changed_file_is_a_new_key_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "key-aaaaaaaa-1\n").unwrap();
        let configured = KeyConfig {
            file: Some(path.clone()),
            ..config("key-aaaaaaaa-1")
        };
        let pool = KeyPool::new(
            Arc::from("openai"),
            KeyHeader::XApiKey,
            &[configured],
            Arc::new(KeyBook::new()),
        );
        let before = pool.next(&[]).unwrap();
        before.reject();
        pool.reread();
        assert!(pool.next(&[]).is_err(), "nothing has changed");
        std::fs::write(&path, "key-of-another-length-2\n").unwrap();
        pool.reread();
        assert_eq!(pool.next(&[]).unwrap().hint(), "key-...th-2");
        std::fs::write(&path, "no key at all\n").unwrap();
        pool.reread();
        std::fs::remove_file(&path).unwrap();
        pool.reread();
        assert_eq!(pool.next(&[]).unwrap().hint(), "key-...th-2");
        assert!(!format!("{pool:?}").contains("another-length"), "no key in Debug");
    }
}
