//! The program under measurement: the real binary with its own data folder.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

use crate::load::Route;
use crate::upstream::Upstream;

pub(crate) struct Gateway {
    child: Child,
    folder: tempfile::TempDir,
    proxy: SocketAddr,
    metrics: SocketAddr,
    tunnelled: SocketAddr,
}

impl Gateway {
    pub(crate) async fn start(upstream: &Upstream, durability: &str) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("upstream.pem"), &upstream.ca_pem).unwrap();
        let config = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\nallowed-ports = [443, {}]\nallow-private = [\"127.0.0.0/8\"]\nmax-tunnels-per-user = 4096\n[bridge]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
             [upstream]\nextra-ca = [\"upstream.pem\"]\n[record]\ndurability = \"{durability}\"\n\
             [[provider]]\nname = \"openai\"\nconnect-to = \"{}\"\n",
            upstream.address.port(),
            upstream.address
        );
        std::fs::write(path("causeway.toml"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_causeway"))
            .arg("--config")
            .arg(path("causeway.toml"))
            .arg("--data-dir")
            .arg(path("data"))
            .args(["--log", "warn", "serve", "--ready-file"])
            .arg(path("ready.json"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ready = loop {
            if let Ok(text) = std::fs::read(path("ready.json")) {
                break serde_json::from_slice::<Value>(&text).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        Gateway {
            child,
            proxy: address("proxy"),
            metrics: address("metrics"),
            tunnelled: upstream.address,
            folder,
        }
    }

    /// The way through this gateway.
    pub(crate) fn route(&self) -> Route {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join("data").join(name)).unwrap();
        let pair = format!("x:{}", read("token").trim());
        let credentials = base64::engine::general_purpose::STANDARD.encode(pair);
        Route::through(self.proxy, credentials, &read("ca.pem"), self.tunnelled)
    }

    /// CPU time that the process has used, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the command's name in parentheses: fields 14 and 15 are in clock ticks, 100 a second.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = [11, 12]
            .iter()
            .map(|index| fields[*index].parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory.
    pub(crate) fn memory_mib(&self) -> u64 {
        self.memory_kib() / 1024
    }

    /// Resident memory.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    }

    /// Interceptions that have ended, by the metrics.
    pub(crate) async fn recorded(&self) -> u64 {
        let text = crate::load::get(self.metrics, "/metrics").await;
        let counted = text
            .lines()
            .filter(|line| line.starts_with("causeway_interceptions_total{"));
        counted
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }
}

impl Drop for Gateway {
    /// Ends the process, also when a measurement fails.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
