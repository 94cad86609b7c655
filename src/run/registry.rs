//! Who uses a private gateway: one empty file for each client's process in the folder `clients`.
//!
//! Joining and finding nobody left exclude each other by a lock, so that no client joins a gateway that has just
//! decided to end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The clients of the gateway on a data folder.
#[derive(Debug)]
pub(super) struct Registry {
    folder: PathBuf,
}

/// Nobody else joins or counts while this lives.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    registry: &'a Registry,
    _lock: File,
}

impl Registry {
    pub(super) fn open(data_dir: &Path) -> io::Result<Registry> {
        let folder = data_dir.join("clients");
        fs::create_dir_all(&folder)?;
        Ok(Registry { folder })
    }

    pub(super) fn lock(&self) -> io::Result<Locked<'_>> {
        let path = self.folder.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(path)?;
        lock.lock()?;
        Ok(Locked {
            registry: self,
            _lock: lock,
        })
    }
}

impl Locked<'_> {
    /// Counts this process, and what it becomes, as a client.
    pub(super) fn join(&self) -> io::Result<()> {
        let path = self.registry.folder.join(std::process::id().to_string());
        fs::write(path, "")
    }

    /// Whether any client still lives; forgets those that do not.
    pub(super) fn is_used(&self) -> io::Result<bool> {
        let mut used = false;
        for entry in fs::read_dir(&self.registry.folder)? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if is_alive(pid) {
                used = true;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(used)
    }
}

#[cfg(unix)]
fn is_alive(pid: i32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid);
    // A process of another user answers too: it lives.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
fn is_alive(_pid: i32) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_forgotten_and_the_living_count() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        let used = || registry.lock().unwrap().is_used().unwrap();
        assert!(!used());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(folder.path().join("clients").join(child.id().to_string()), "").unwrap();
        assert!(!used());
        registry.lock().unwrap().join().unwrap();
        assert!(used());
        assert_eq!(
            fs::read_dir(folder.path().join("clients")).unwrap().count(),
            2,
            "lock and this"
        );
    }
}
