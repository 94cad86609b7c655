//! Puts a new file in its place: complete, flushed, with its final mode, and only if the place is free.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{FilesError, unwritable};

/// Writes `content` under a temporary name and gives it its own name only once it is complete and on disk.
pub(super) fn publish(path: &Path, content: &[u8], mode: u32) -> Result<(), FilesError> {
    let temporary = temporary_name(path);
    let linked = write_flushed(&temporary, content, mode).and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    match linked {
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Err(FilesError::Exists {
            path: path.to_owned(),
        }),
        other => other
            .and(removed)
            .and_then(|()| flush_directory(path))
            .map_err(|source| unwritable(path, source)),
    }
}

fn write_flushed(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// In the same directory, so that the link cannot cross file systems; with the process id, so that a file
/// left behind by a crash is in nobody's way.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    // One of an earlier process that had the same id; ours is written under the directory's lock.
    let _ = fs::remove_file(&temporary);
    temporary
}

/// Waits until no other process creates files beside `key`. The lock ends with the value.
pub(super) fn take_turn(key: &Path) -> Result<Option<File>, FilesError> {
    make_directory(key)?;
    if cfg!(not(unix)) {
        // A directory cannot be opened there; the link still lets only one creator win.
        return Ok(None);
    }
    let directory = File::open(directory_of(key)).map_err(|source| unwritable(key, source))?;
    match directory.lock() {
        Ok(()) => Ok(Some(directory)),
        // Some network file systems have no locks.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(source) => Err(unwritable(key, source)),
    }
}

pub(super) fn make_directory(path: &Path) -> Result<(), FilesError> {
    let directory = directory_of(path);
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(directory)
        .map_err(|source| unwritable(directory, source))
}

fn flush_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory_of(path))?.sync_all()
    } else {
        Ok(())
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
