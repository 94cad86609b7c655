//! The data folder: where it is, its mode, and the lock that keeps a second gateway out of it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The folder to use: what was asked for, else the platform's own.
pub(crate) fn locate(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(asked) = asked {
        return std::path::absolute(asked)
            .map_err(|error| Failure::because("the data folder has no path", error));
    }
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || variable("HOME");
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Application Support"))
    } else {
        variable("XDG_DATA_HOME").or_else(|| home().map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("causeway"))
        .ok_or_else(|| Failure::usage("no home folder is set: use --data-dir DIR"))
}

/// Makes the folder, readable by its owner only.
pub(crate) fn make(path: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| Failure::because(&format!("{} cannot be made", path.display()), error))
}

/// Takes the folder for this process; free again when the lock is dropped or the process ends.
pub(crate) fn lock(path: &Path) -> Result<File, Failure> {
    let file = path.join("lock");
    let failed = |error| Failure::because(&format!("{} cannot be locked", file.display()), error);
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
            "another gateway is using {}: stop it or use --data-dir",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether a process holds the folder's lock.
pub(crate) fn is_taken(path: &Path) -> bool {
    let lock = File::open(path.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}
