//! By which a user's own credential is recognised in records that do not hold it.
//!
//! A credential comes in, out come its fingerprint (HMAC-SHA256 under a key of the gateway's, cut to 8 bytes) and what
//! it says of itself. The key is configured, so that several processes make the same fingerprints, or lies in the
//! data folder, where the first start makes it. Invariant: without the key nobody can tell whose fingerprint one
//! is, not even by trying credentials; so the key is refused where others can read it, and is never shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use providers::Claims;
use zeroize::Zeroizing;

use crate::hex::hex;
use crate::secret::{self, Secret};

/// Bytes of a fingerprint: enough that two credentials of one organisation do not share one.
const LENGTH: usize = 8;
/// Random bytes of a key that is made here.
const KEY: usize = 32;
/// Fewer characters than this could be guessed.
pub(crate) const SHORTEST: usize = 16;
/// More than any key, in bytes.
const LONGEST: usize = 4_096;

/// Where the key of fingerprints comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum FingerprintKey {
    /// The configuration.
    Given(Secret),
    /// This file, which is made if it is not there.
    File(PathBuf),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// The file cannot be read, or is too short for a key.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Others on this machine can read the file.
    #[error(
        "{path} has mode {mode:04o}, so other users can read this secret key; run: chmod 600 {path}",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system gives no random numbers.
    #[error("there are no random numbers for a key")]
    NoRandomness,
}

/// Makes fingerprints. Shows no key.
pub struct Fingerprints(hmac::Key);

/// What records say of a user's own credential, beside its hint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The fingerprint, 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// What the credential says of itself; unverified.
    pub claims: Claims,
}

impl Fingerprints {
    /// Takes the key, or makes one.
    ///
    /// # Errors
    /// The file is exposed, or cannot be read or made.
    pub fn open(key: &FingerprintKey) -> Result<Fingerprints, FingerprintError> {
        let made = |text: &str| Fingerprints(hmac::Key::new(hmac::HMAC_SHA256, text.trim().as_bytes()));
        match key {
            FingerprintKey::Given(secret) => Ok(made(secret.expose())),
            FingerprintKey::File(path) => match read(path) {
                Err(FingerprintError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    create(path)?;
                    read(path).map(|text| made(&text))
                }
                other => other.map(|text| made(&text)),
            },
        }
    }

    /// Describes a credential, which comes without its scheme.
    pub fn marks(&self, credential: &str) -> Marks {
        if credential.is_empty() {
            return Marks::default();
        }
        let tag = hmac::sign(&self.0, credential.as_bytes());
        Marks {
            fingerprint: tag.as_ref().get(..LENGTH).map(hex),
            claims: providers::claims(credential.as_bytes()),
        }
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints")
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, FingerprintError> {
    let failed = |source| FingerprintError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    refuse_exposed(path, &file)?;
    // With room for all of it, so that no half of it stays behind in a buffer that was outgrown.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    file.take(LONGEST as u64)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.trim().len() < SHORTEST {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it holds no whole key");
        return Err(failed(source));
    }
    Ok(text)
}

/// Makes the file, complete under its own name or not at all. The data folder is this process's alone.
fn create(path: &Path) -> Result<(), FingerprintError> {
    let mut bytes = Zeroizing::new([0; KEY]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| FingerprintError::NoRandomness)?;
    let digits: Zeroizing<String> = Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    let draft = path.with_extension("new");
    // One that a crash has left behind.
    let _ = std::fs::remove_file(&draft);
    let written = secret::write_private(&draft, &digits).and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|source| FingerprintError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, file: &File) -> Result<(), FingerprintError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|source| FingerprintError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(FingerprintError::Exposed {
        path: path.to_owned(),
        mode,
    })
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &File) -> Result<(), FingerprintError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Fingerprints {
        Fingerprints::open(&FingerprintKey::Given(Secret::new(text))).unwrap()
    }

    #[test]
    fn a_fingerprint_is_the_keys_and_the_credentials_own() {
        let ours = given("a-key-of-the-gateway");
        let of = |fingerprints: &Fingerprints, text: &str| fingerprints.marks(text).fingerprint;
        // By `printf sk-user-1 | openssl dgst -sha256 -hmac a-key-of-the-gateway`.
        assert_eq!(of(&ours, "sk-user-1").as_deref(), Some("7942cc02b505dd13"));
        assert_eq!(
            of(&given("a-key-of-the-gateway\n"), "sk-user-1"),
            of(&ours, "sk-user-1")
        );
        assert_ne!(of(&ours, "sk-user-2"), of(&ours, "sk-user-1"));
        assert_ne!(
            of(&given("another-key-than-that"), "sk-user-1"),
            of(&ours, "sk-user-1")
        );
        assert_eq!(ours.marks(""), Marks::default());
        assert_eq!(format!("{ours:?}"), "Fingerprints");
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let key = FingerprintKey::File(folder.path().join("fingerprint.key"));
        let first = Fingerprints::open(&key).unwrap().marks("sk-user-1");
        assert_eq!(Fingerprints::open(&key).unwrap().marks("sk-user-1"), first);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no draft stays"
        );
        let other = tempfile::tempdir().unwrap();
        let key = FingerprintKey::File(other.path().join("fingerprint.key"));
        assert_ne!(Fingerprints::open(&key).unwrap().marks("sk-user-1"), first);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_or_that_is_cut_off_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fingerprint.key");
        let key = FingerprintKey::File(path.clone());
        Fingerprints::open(&key).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        mode(0o640);
        let refused = Fingerprints::open(&key).unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        mode(0o600);
        std::fs::write(&path, "short\n").unwrap();
        assert!(matches!(
            Fingerprints::open(&key),
            Err(FingerprintError::Read { .. })
        ));
    }
}
