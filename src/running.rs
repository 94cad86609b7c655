//! The gateway that runs on a data folder: how it is found, and how it says where it listens.
//!
//! While a gateway runs it holds the folder's lock, and `gateway.json` there holds its addresses. The lock is the
//! truth: a file without it was left behind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data_dir;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::probe;

/// The file's name in the data folder.
const NAME: &str = "gateway.json";

/// Where a running gateway listens.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) proxy: SocketAddr,
    pub(crate) proxy_tls: Option<SocketAddr>,
    pub(crate) bridge: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) data_dir: PathBuf,
    /// Whether it ends with the last client that `causeway run` started.
    #[serde(default)]
    pub(crate) private: bool,
}

impl Running {
    /// What `gateway` says of itself.
    pub(crate) fn of(gateway: &Gateway, data_dir: &Path, private: bool) -> Running {
        let addresses = &gateway.addresses;
        Running {
            pid: std::process::id(),
            proxy: addresses.proxy,
            proxy_tls: addresses.proxy_tls,
            bridge: addresses.bridge,
            metrics: addresses.metrics,
            data_dir: data_dir.to_owned(),
            private,
        }
    }

    /// Writes `path` whole: who sees it sees everything.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string(self).unwrap_or_default();
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(|error| Failure::because(&format!("{} cannot be written", path.display()), error))
    }

    /// Writes it to the data folder for other commands; it is gone when the result is dropped.
    pub(crate) fn announce(&self) -> Result<Announced, Failure> {
        let path = self.data_dir.join(NAME);
        self.write(&path)?;
        Ok(Announced(path))
    }

    /// Whether it takes requests now.
    pub(crate) async fn is_ready(&self) -> bool {
        probe::get(self.metrics, "/readyz", None)
            .await
            .is_ok_and(|answer| answer.status == 200)
    }
}

/// The file while the gateway runs.
#[derive(Debug)]
pub(crate) struct Announced(PathBuf);

impl Drop for Announced {
    fn drop(&mut self) {
        // Without the lock it means nothing anyway.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The gateway that holds the folder's lock and has said where it listens.
pub(crate) fn addresses(data_dir: &Path) -> Option<Running> {
    if !data_dir::is_taken(data_dir) {
        return None;
    }
    let text = std::fs::read(data_dir.join(NAME)).ok()?;
    serde_json::from_slice(&text).ok()
}
