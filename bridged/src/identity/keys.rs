//! The keys of an identity provider: fetched, kept, and fetched again when a token names one that is not known.
//!
//! One fetch at a time, and no more than one in ten seconds whatever tokens are shown; a fetch that fails leaves
//! the keys as they were. Symmetric keys are never taken.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use providers::BaseUrl;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fetch::{self, FetchError};
use crate::config::{KeySource, OidcConfig};
use crate::upstream::Trust;

/// Shortest time from one fetch to the next.
const PAUSE: Duration = Duration::from_secs(10);
/// Keys are fetched again after this time, so that a withdrawn one ends.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Most keys of one provider.
const MOST: usize = 100;

/// Why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum KeysError {
    /// A document could not be fetched.
    #[error("{what} cannot be fetched")]
    Fetch { what: &'static str, source: FetchError },
    /// The issuer's document is that of another.
    #[error("the discovery document names another issuer")]
    Issuer,
    /// The issuer's document names a place that cannot be used.
    #[error("the discovery document names no https:// address of keys")]
    Address,
    /// There is no key that could be used.
    #[error("there is no usable key")]
    Empty,
}

/// A key that may verify tokens.
pub(super) struct Key {
    id: Option<String>,
    /// The one algorithm that it is for, if the provider says so.
    algorithm: Option<Algorithm>,
    family: AlgorithmFamily,
    key: DecodingKey,
    /// The key as it was published.
    text: serde_json::Value,
}

/// The keys as they are now.
pub(super) struct Keys {
    known: ArcSwap<Vec<Arc<Key>>>,
    /// When was fetched last, whatever came of it; held while fetching.
    last: tokio::sync::Mutex<Option<Instant>>,
    trust: Trust,
    tracker: TaskTracker,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("known", &self.known.load().len())
            .finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn new(trust: Trust, tracker: TaskTracker) -> Keys {
        Keys {
            known: ArcSwap::from_pointee(Vec::new()),
            last: tokio::sync::Mutex::new(None),
            trust,
            tracker,
        }
    }

    /// Whether there are none, because none could be fetched yet.
    pub(super) fn is_empty(&self) -> bool {
        self.known.load().is_empty()
    }

    /// The keys that may have signed a token with this head.
    pub(super) fn fitting(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<Arc<Key>> {
        let known = self.known.load();
        known
            .iter()
            .filter(|key| key.fits(id, algorithm))
            .cloned()
            .collect()
    }

    /// Fetches the keys, unless that was just done. True when they are others than before.
    pub(super) async fn refresh(&self, config: &OidcConfig) -> bool {
        self.refresh_after(config, PAUSE).await
    }

    /// Fetches the keys if they are old.
    pub(super) async fn keep_fresh(&self, config: &OidcConfig) -> bool {
        let pause = if self.is_empty() { PAUSE } else { FRESH };
        self.refresh_after(config, pause).await
    }

    async fn refresh_after(&self, config: &OidcConfig, pause: Duration) -> bool {
        let mut last = self.last.lock().await;
        if last.is_some_and(|at| at.elapsed() < pause) {
            return false;
        }
        let fetched = self.fetch(config).await;
        *last = Some(Instant::now());
        match fetched {
            Ok(keys) => self.replace(keys),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "the identity provider's keys cannot be fetched; the old ones stay"
                );
                false
            }
        }
    }

    fn replace(&self, keys: Vec<Key>) -> bool {
        let old = self.known.load();
        let same = old.len() == keys.len() && old.iter().zip(&keys).all(|(old, new)| old.text == new.text);
        if !same {
            tracing::info!(keys = keys.len(), "the identity provider's keys were read");
            self.known
                .store(Arc::new(keys.into_iter().map(Arc::new).collect()));
        }
        !same
    }

    async fn fetch(&self, config: &OidcConfig) -> Result<Vec<Key>, KeysError> {
        let address = match &config.keys {
            KeySource::Url(url) => url.clone(),
            KeySource::Discovery(url) => self.discover(url, &config.issuer).await?,
        };
        let set: KeySet = fetch::json(&address, &self.trust, &self.tracker)
            .await
            .map_err(|source| KeysError::Fetch {
                what: "the key set",
                source,
            })?;
        let keys: Vec<Key> = set.keys.into_iter().take(MOST).filter_map(Key::read).collect();
        if keys.is_empty() {
            Err(KeysError::Empty)
        } else {
            Ok(keys)
        }
    }

    async fn discover(&self, url: &BaseUrl, issuer: &str) -> Result<BaseUrl, KeysError> {
        let found: Discovery = fetch::json(url, &self.trust, &self.tracker)
            .await
            .map_err(|source| KeysError::Fetch {
                what: "the discovery document",
                source,
            })?;
        if found.issuer != issuer {
            return Err(KeysError::Issuer);
        }
        let address = BaseUrl::parse(&found.jwks_uri).map_err(|_| KeysError::Address)?;
        // Never less safe than where it was read.
        if address.scheme == url.scheme || address.scheme == providers::Scheme::Https {
            Ok(address)
        } else {
            Err(KeysError::Address)
        }
    }
}

/// RFC 7517 section 5. Keys of unknown kinds must not spoil the others.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// OpenID Connect Discovery 1.0 section 3.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Key {
    /// What verifies.
    pub(super) fn verifying(&self) -> &DecodingKey {
        &self.key
    }

    fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let named = id.is_none() || self.id.as_deref() == id;
        let meant = self.algorithm.is_none_or(|only| only == algorithm);
        named && meant && self.family == algorithm.family()
    }

    fn read(text: serde_json::Value) -> Option<Key> {
        let jwk: Jwk = serde_json::from_value(text.clone()).ok()?;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let family = key.family();
        let algorithm = match jwk.common.key_algorithm {
            None => None,
            Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
        };
        (for_signatures && family != AlgorithmFamily::Hmac).then_some(Key {
            id: jwk.common.key_id,
            algorithm,
            family,
            key,
            text,
        })
    }
}
