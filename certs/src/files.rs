//! An authority's two files. Paths come in, an [`Authority`] goes out, or files are made once and never
//! replaced.
//!
//! A key file is at no moment readable by others, incomplete under its own name, or overwritten: it is
//! written under a temporary name with mode 0600, flushed, and then linked to its name, which fails if the
//! name is taken. Processes that create at the same time take turns on a lock of the key's directory.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

mod publish;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::authority::{Authority, CaProfile};
use crate::error::AuthorityError;
use publish::{make_directory, publish, take_turn};

/// How [`load_or_create`] came by its authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The files were there.
    Loaded,
    /// The files were made by this call.
    Created,
}

/// Why the authority's files could not be read or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or its directory could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is far larger than any certificate or key.
    #[error("{} is larger than {MAX_FILE} bytes; is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Others on this machine can read the key.
    #[error(
        "{path} has mode {mode:04o}, so other users can read this private key; run: chmod 600 {path}",
        path = path.display()
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// One of the two files is missing.
    #[error(
        "{} exists but {} does not; restore the one, or move the other away to have both made anew",
        found.display(), missing.display()
    )]
    Incomplete {
        /// The one that exists.
        found: PathBuf,
        /// The one that does not.
        missing: PathBuf,
    },
    /// Nothing is ever overwritten.
    #[error("{} exists already; move it away to have a new one made", path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// A certificate is public and a key is not, so they are made as two files.
    #[error("the certificate and the key cannot both be made as {}; name two files", path.display())]
    SamePath {
        /// The path given twice.
        path: PathBuf,
    },
    /// The files do not hold a usable authority, or none could be made.
    #[error("the certificate authority in {} and {} is not usable", cert.display(), key.display())]
    Authority {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        source: AuthorityError,
    },
}

/// Loads the authority from its files, or makes both, by `profile`, if neither exists.
///
/// # Errors
/// As [`load`] and [`create`]; [`FilesError::Incomplete`] if just one of the files exists.
pub fn load_or_create(
    cert: &Path,
    key: &Path,
    profile: &CaProfile<'_>,
    now: SystemTime,
) -> Result<(Authority, Origin), FilesError> {
    if cert.exists() && key.exists() {
        return Ok((load(cert, key, now)?, Origin::Loaded));
    }
    let _turn = take_turn(key)?;
    match (cert.exists(), key.exists()) {
        (false, false) => Ok((write_new(cert, key, profile, now)?, Origin::Created)),
        (true, true) => Ok((load(cert, key, now)?, Origin::Loaded)),
        (true, false) => Err(FilesError::Incomplete {
            found: cert.to_owned(),
            missing: key.to_owned(),
        }),
        (false, true) => Err(FilesError::Incomplete {
            found: key.to_owned(),
            missing: cert.to_owned(),
        }),
    }
}

/// Makes a new authority and both files, and their directories (mode 0700) if need be.
///
/// # Errors
/// [`FilesError::Exists`] if either file is there already.
pub fn create(
    cert: &Path,
    key: &Path,
    profile: &CaProfile<'_>,
    now: SystemTime,
) -> Result<Authority, FilesError> {
    let _turn = take_turn(key)?;
    if let Some(taken) = [cert, key].into_iter().find(|path| path.exists()) {
        return Err(FilesError::Exists {
            path: taken.to_owned(),
        });
    }
    write_new(cert, key, profile, now)
}

/// Loads the authority from its files.
///
/// # Errors
/// [`FilesError::KeyExposed`] if others can read the key, [`FilesError::Authority`] if the content will not
/// do.
pub fn load(cert: &Path, key: &Path, now: SystemTime) -> Result<Authority, FilesError> {
    let cert_pem = read(cert, |_| Ok(()))?;
    let key_pem = read(key, |file| refuse_exposed(key, file))?;
    Authority::from_pem(&cert_pem, &key_pem, now).map_err(|source| unusable(cert, key, source))
}

fn write_new(
    cert: &Path,
    key: &Path,
    profile: &CaProfile<'_>,
    now: SystemTime,
) -> Result<Authority, FilesError> {
    if cert == key {
        return Err(FilesError::SamePath { path: key.to_owned() });
    }
    make_directory(cert)?;
    let made = Authority::generate(profile, now).map_err(|source| unusable(cert, key, source))?;
    let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, now);
    let authority = authority.map_err(|source| unusable(cert, key, source))?;

    publish(key, made.key_pem.as_bytes(), 0o600)?;
    publish(cert, made.cert_pem.as_bytes(), 0o644).inspect_err(|_| {
        // Both or none: a key alone would stop every later start.
        let _ = fs::remove_file(key);
    })?;
    Ok(authority)
}

/// Reads a text file of bounded size; `check` sees the very file that is read.
fn read(
    path: &Path,
    check: impl FnOnce(&File) -> Result<(), FilesError>,
) -> Result<Zeroizing<String>, FilesError> {
    let failed = |source| FilesError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    check(&file)?;
    // With room for all of it at once, so that no half of a key stays behind in a buffer that was outgrown.
    let size = file.metadata().map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(FilesError::TooLarge {
            path: path.to_owned(),
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(FilesError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, file: &File) -> Result<(), FilesError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|source| FilesError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(FilesError::KeyExposed {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &File) -> Result<(), FilesError> {
    Ok(())
}

fn unwritable(path: &Path, source: io::Error) -> FilesError {
    FilesError::Write {
        path: path.to_owned(),
        source,
    }
}

fn unusable(cert: &Path, key: &Path, source: AuthorityError) -> FilesError {
    FilesError::Authority {
        cert: cert.to_owned(),
        key: key.to_owned(),
        source,
    }
}

/// More than any chain of certificates.
const MAX_FILE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
