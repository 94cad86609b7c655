//! The program under test: its configuration, its process, and what it has recorded.
//!
//! A `Gateway` owns a folder and one process at a time; `restart` starts the next process on the same data.
//! Dropping it ends the process by its handle, and prints the program's log if the test is failing.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Answer, Ask, ProxyClient, base_url, basic};
use crate::fake::FakeProvider;

/// The built-in provider instances.
const PROVIDERS: [&str; 6] = [
    "openai",
    "chatgpt",
    "copilot",
    "copilot-business",
    "copilot-enterprise",
    "anthropic",
];

/// Asks again and again until there is an answer, and fails if there is none in time.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What to configure beside free ports.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    proxy: String,
    bridge: String,
    provider: String,
    more: String,
    extra_ca: Option<PathBuf>,
    connect_to: Option<SocketAddr>,
    log: Option<&'static str>,
    environment: Vec<(&'static str, String)>,
}

impl Settings {
    /// Every built-in provider is `fake`.
    pub(crate) fn in_front_of(fake: &FakeProvider) -> Self {
        Self::in_front_of_address(fake.address(), fake.ca_file())
    }

    /// Every built-in provider is whatever listens at `address`.
    pub(crate) fn in_front_of_address(address: SocketAddr, ca_file: &Path) -> Self {
        Self {
            connect_to: Some(address),
            extra_ca: Some(ca_file.to_owned()),
            ..Self::default()
        }
    }

    /// With one more line under `[proxy]`.
    pub(crate) fn proxy(mut self, line: &str) -> Self {
        writeln!(self.proxy, "{line}").unwrap();
        self
    }

    /// With one more line under `[bridge]`.
    pub(crate) fn bridge(mut self, line: &str) -> Self {
        writeln!(self.bridge, "{line}").unwrap();
        self
    }

    /// With one more line in every `[[provider]]`.
    pub(crate) fn provider(mut self, line: &str) -> Self {
        writeln!(self.provider, "{line}").unwrap();
        self
    }

    /// With more sections.
    pub(crate) fn more(mut self, text: &str) -> Self {
        writeln!(self.more, "{text}").unwrap();
        self
    }

    /// With another log level.
    pub(crate) fn log(mut self, level: &'static str) -> Self {
        self.log = Some(level);
        self
    }

    /// With one more variable in the environment.
    pub(crate) fn env(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }

    fn toml(&self) -> String {
        const LISTEN: &str = "listen = \"127.0.0.1:0\"\n";
        let (proxy, bridge) = (&self.proxy, &self.bridge);
        let mut text = format!("[proxy]\n{LISTEN}{proxy}\n[bridge]\n{LISTEN}{bridge}\n[metrics]\n{LISTEN}\n");
        if let Some(path) = &self.extra_ca {
            write!(text, "[upstream]\nextra-ca = [{:?}]\n\n", path.to_str().unwrap()).unwrap();
        }
        if let Some(address) = self.connect_to {
            for name in PROVIDERS {
                write!(
                    text,
                    "[[provider]]\nname = \"{name}\"\nconnect-to = \"{address}\"\n{}\n",
                    self.provider
                )
                .unwrap();
            }
        }
        text + &self.more
    }
}

/// A running gateway with its folder.
pub(crate) struct Gateway {
    dir: TempDir,
    log: Option<&'static str>,
    environment: Vec<(&'static str, String)>,
    running: Option<Running>,
    starts: usize,
    stderr: Arc<Mutex<Vec<u8>>>,
}

struct Running {
    child: Child,
    proxy: SocketAddr,
    proxy_tls: Option<SocketAddr>,
    bridge: SocketAddr,
    metrics: SocketAddr,
}

impl Gateway {
    /// Starts a gateway and waits until it listens.
    pub(crate) async fn start(settings: Settings) -> Self {
        let mut gateway = Self::configured(settings);
        gateway.restart().await;
        gateway
    }

    /// A folder with a configuration, where nothing runs yet.
    pub(crate) fn configured(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("causeway.toml"), settings.toml()).unwrap();
        Self {
            dir,
            log: settings.log,
            environment: settings.environment,
            running: None,
            starts: 0,
            stderr: Arc::default(),
        }
    }

    /// Starts the next process on the same folder.
    pub(crate) async fn restart(&mut self) {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.restart_by(command).await;
    }

    /// The same by a command that becomes the program, with arguments of the program to follow.
    pub(crate) async fn restart_by(&mut self, mut command: Command) {
        assert!(self.running.is_none(), "one process at a time");
        self.starts += 1;
        let ready_file = self.dir.path().join(format!("ready-{}.json", self.starts));
        command.arg("--config").arg(self.configuration_file());
        if let Some(level) = self.log {
            command.args(["--log", level]);
        }
        command.arg("serve").arg("--ready-file").arg(&ready_file);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        self.collect_stderr(&mut child);
        let ready = self.wait_ready(&mut child, &ready_file).await;
        let address = |key: &str| {
            let text = ready[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key} in {ready}"));
            text.parse().unwrap()
        };
        self.running = Some(Running {
            proxy: address("proxy"),
            proxy_tls: ready["proxy_tls"].as_str().map(|text| text.parse().unwrap()),
            bridge: address("bridge"),
            metrics: address("metrics"),
            child,
        });
    }

    /// The configuration's text.
    pub(crate) fn configuration(&self) -> String {
        fs::read_to_string(self.configuration_file()).unwrap()
    }

    /// Replaces the configuration's file at once, as careful editors do.
    pub(crate) fn configure(&self, text: &str) {
        let draft = self.dir.path().join("draft.toml");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.configuration_file()).unwrap();
    }

    fn configuration_file(&self) -> PathBuf {
        self.dir.path().join("causeway.toml")
    }

    /// Makes a token for `user`; its id and its text.
    pub(crate) fn new_token(&self, user: &str) -> (String, String) {
        let output = self
            .command()
            .args(["token", "create", "--user", user])
            .output()
            .unwrap();
        let (id, text) = (
            String::from_utf8(output.stderr).unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        );
        let id = id.split_whitespace().nth(1).expect("`Token ID for …`");
        (id.to_owned(), text.trim().to_owned())
    }

    /// The same for another role than that of a member.
    pub(crate) fn new_token_as(&self, user: &str, role: &str) -> String {
        let token = self.cli_output(&["token", "create", "--user", user, "--role", role]);
        String::from_utf8(token).unwrap().trim().to_owned()
    }

    /// Runs a command of the program that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let output = self.command().args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A client behind the proxy, with this token.
    pub(crate) fn client_of(&self, token: &str) -> ProxyClient {
        ProxyClient::new(self.proxy(), basic(token), &self.ca_file())
    }

    /// Tells it to read its files again (SIGHUP).
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// Asks it to end in order (SIGTERM).
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Lets it hang (SIGSTOP), or go on (SIGCONT).
    pub(crate) fn hold(&self, held: bool) {
        self.signal(if held { "-STOP" } else { "-CONT" });
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// The memory that the process holds, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().next());
        value.expect("VmRSS").parse().unwrap()
    }

    /// Waits until the process has ended by itself; whether it called that a success.
    pub(crate) async fn ended(&mut self) -> bool {
        let mut running = self.running.take().expect("the gateway is running");
        eventually("the end of the process", async || {
            running.child.try_wait().unwrap()
        })
        .await
        .success()
    }

    /// Ends the process as a power cut would: SIGKILL, no warning.
    pub(crate) fn kill_9(&mut self) {
        let mut running = self.running.take().expect("the gateway is running");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// The proxy's address.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.running().proxy
    }

    /// The address of the proxy's listener with TLS.
    pub(crate) fn proxy_tls(&self) -> SocketAddr {
        self.running().proxy_tls.expect("[proxy.tls] is configured")
    }

    /// The address of the metrics.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.running().metrics
    }

    /// The bridge's address.
    pub(crate) fn bridge(&self) -> SocketAddr {
        self.running().bridge
    }

    /// The data folder.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The authority that clients trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.data_dir().join("ca.pem")
    }

    /// The first admin's token.
    pub(crate) fn token(&self) -> String {
        let token = fs::read_to_string(self.data_dir().join("token"))
            .unwrap()
            .trim()
            .to_owned();
        assert!(token.starts_with("cw_"), "the token file holds a token");
        token
    }

    /// A client behind the proxy, with the admin's token.
    pub(crate) fn client(&self) -> ProxyClient {
        ProxyClient::new(self.proxy(), basic(&self.token()), &self.ca_file())
    }

    /// The proxy's URL with the token in it, as clients take it from their environment.
    pub(crate) fn proxy_url(&self) -> String {
        format!("http://ignored:{}@{}", self.token(), self.proxy())
    }

    /// What `GET path` answers on the bridge's API.
    pub(crate) async fn api(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "GET {path}");
        answer.json().await
    }

    /// The bytes of whatever `GET path` answers, a refusal too.
    pub(crate) async fn answer_of(&self, path: &str) -> Vec<u8> {
        self.get(path).await.bytes().await.to_vec()
    }

    async fn get(&self, path: &str) -> Answer {
        let ask = Ask::get(path).header("authorization", format!("Bearer {}", self.token()));
        base_url(self.bridge()).await.send(ask).await
    }

    /// The items of a list of the API that fits on one page.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let list = self.api(path).await;
        assert_eq!(list["next"], Value::Null, "{path} fits on one page");
        list["items"]
            .as_array()
            .unwrap_or_else(|| panic!("no items in {list}"))
            .clone()
    }

    /// The record of a request, finished or not.
    pub(crate) async fn find_record(&self, request_id: &str) -> Option<Value> {
        let all = self.list("/api/v1/interceptions?limit=1000").await;
        all.into_iter().find(|record| record["request_id"] == request_id)
    }

    /// The record of a request, once it is finished.
    pub(crate) async fn record(&self, request_id: &str) -> Value {
        eventually("a finished record", async || {
            self.find_record(request_id)
                .await
                .filter(|record| !record["outcome"].is_null())
        })
        .await
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let answer = base_url(self.running().metrics)
            .await
            .send(Ask::get("/metrics"))
            .await;
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.bytes().await.to_vec()).unwrap()
    }

    /// The value of a metric, written with its labels as in the text format; 0 if it is not there.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.metrics().await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Runs another command of the program on the same data folder, and reads its JSON.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Value {
        let output = self.cli_output(arguments);
        serde_json::from_slice(&output).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// What another command of the program prints.
    pub(crate) fn cli_output(&self, arguments: &[&str]) -> Vec<u8> {
        let output: Output = self.command().args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        output.stdout
    }

    /// Runs another command of the program on the same data folder, which must succeed and say `part`.
    pub(crate) fn prints(&self, part: &str, arguments: &[&str]) {
        let output: Output = self.command().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{errors}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }

    /// Everything that the program has written to its standard error, over all restarts.
    pub(crate) fn stderr(&self) -> Vec<u8> {
        self.stderr.lock().unwrap().clone()
    }

    /// Every file of the data folder with its bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.data_dir()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    files.push((path, bytes));
                }
            }
        }
        files
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the gateway is running")
    }

    /// The program with its data folder, and with nothing of the tester's own environment that could lead it
    /// astray.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.env_clear().current_dir(self.dir.path());
        for name in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--data-dir").arg(self.data_dir());
        command
    }

    fn collect_stderr(&self, child: &mut Child) {
        let mut pipe = child.stderr.take().unwrap();
        let collected = Arc::clone(&self.stderr);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(size @ 1..) = pipe.read(&mut buffer) {
                collected.lock().unwrap().extend_from_slice(&buffer[..size]);
            }
        });
    }

    async fn wait_ready(&self, child: &mut Child, file: &Path) -> Value {
        eventually("the gateway to listen", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "the gateway ended with {status}:\n{}",
                    String::from_utf8_lossy(&self.stderr())
                );
            }
            // The file appears whole: it is renamed into place.
            fs::read(file)
                .ok()
                .map(|text| serde_json::from_slice(&text).unwrap())
        })
        .await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if std::thread::panicking() {
            let log = self.stderr();
            let tail = &log[log.len().saturating_sub(8 * 1024)..];
            let _ = writeln!(
                std::io::stderr(),
                "the gateway's log:\n{}",
                String::from_utf8_lossy(tail)
            );
        }
    }
}
