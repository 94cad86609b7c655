//! A PostgreSQL server of one's own for tests and benches: in a temporary folder, on a free port of 127.0.0.1, and
//! gone when it is dropped. PostgreSQL does not run as root, so there it runs as `nobody`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user `nobody` of Debian.
const NOBODY: u32 = 65_534;

/// A server, running or stopped.
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Starts a server; `None`, said aloud, where PostgreSQL is not installed. In CI that is a failure.
    pub(crate) fn start() -> Option<Postgres> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder can be made");
        #[cfg(unix)]
        if is_root(folder.path()) {
            std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may chown");
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
            .port();
        let mut server = Postgres {
            folder,
            programs,
            port,
            child: None,
        };
        let made = server
            .command("initdb")
            .args([
                "--username=causeway",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(server.data())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.resume();
        Some(server)
    }

    /// Makes a database; returns its URL.
    pub(crate) fn database(&self, name: &str) -> String {
        let made = self
            .command("createdb")
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "causeway",
                "-p",
                &self.port.to_string(),
                name,
            ])
            .output()
            .expect("createdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.url(name)
    }

    /// The URL of a database.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("postgres://causeway:hunter2@127.0.0.1:{}/{name}", self.port)
    }

    /// Starts the server again after `stop`.
    pub(crate) fn resume(&mut self) {
        assert!(self.child.is_none(), "the server is stopped");
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(["-c", "fsync=off", "-c", "max_connections=60"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("postgres runs"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.answers() {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server as a crash would, losing nothing that was committed.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let signalled = Command::new("kill")
            .args(["-QUIT", &child.id().to_string()])
            .status();
        if !signalled.is_ok_and(|status| status.success()) {
            let _ = child.kill();
        }
        let _ = child.wait();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn answers(&self) -> bool {
        let port = self.port.to_string();
        let asked = self
            .command("pg_isready")
            .args(["-q", "-h", "127.0.0.1", "-p", &port])
            .status();
        asked.is_ok_and(|status| status.success())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path());
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::uid(&self.folder.path().metadata().expect("the folder is there"))
            == NOBODY
        {
            std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
            std::os::unix::process::CommandExt::gid(&mut command, NOBODY);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(unix)]
fn is_root(made_by_us: &Path) -> bool {
    made_by_us
        .metadata()
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// Where the server's programs are: in the path, or where Debian puts them.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<PathBuf> = debian.flatten().map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    versions
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").is_file() && folder.join("pg_isready").is_file())
}
