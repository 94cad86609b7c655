//! Programs without an SDK: curl, Java's own HTTP client, and openssl, whose TLS is that of many others.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value, json};

use super::play::{APIS, Api};
use super::{Mode, USER_KEY, in_mode, records, started, table, understood};
use crate::clients::{self, in_repository};
use crate::harness::Gateway;

/// A request of a scenario.
struct Asked {
    url: String,
    headers: Vec<String>,
    body: String,
}

impl Asked {
    fn new(gateway: &Gateway, mode: Mode, api: &Api, prompt: &str, stream: bool) -> Self {
        let (host, prefix) = match mode {
            Mode::Proxy => (format!("https://{}", api.host()), ""),
            Mode::BaseUrl => (format!("http://{}", gateway.bridge()), api.provider),
        };
        let slash = if prefix.is_empty() { "" } else { "/" };
        let key = match mode {
            Mode::Proxy => USER_KEY.to_owned(),
            Mode::BaseUrl => gateway.token(),
        };
        let (name, value) = api.key_header(&key);
        Self {
            url: format!("{host}{slash}{prefix}{}", api.path()),
            headers: vec![
                format!("{name}: {value}"),
                "content-type: application/json".to_owned(),
            ],
            body: api.request(prompt, stream).to_string(),
        }
    }

    fn curl(&self, more: &[&str]) -> Vec<PathBuf> {
        let mut arguments = vec!["curl", "--silent", "--show-error", "--no-buffer"];
        arguments.extend(more);
        for header in &self.headers {
            arguments.extend(["--header", header]);
        }
        arguments.extend(["--data-binary", &self.body, &self.url]);
        arguments.into_iter().map(PathBuf::from).collect()
    }
}

/// The scenarios of curl with their options.
const CURL: [(&str, &[&str]); 5] = [
    ("plain", &["--max-time", "20"]),
    ("stream", &["--max-time", "20"]),
    ("error", &["--max-time", "20"]),
    ("limited", &["--max-time", "20", "--fail", "--retry", "2"]),
    ("abort", &["--max-time", "1"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn curl_works() {
    let Some(version) = version("curl", "--version").await else {
        return;
    };
    for mode in [Mode::Proxy, Mode::BaseUrl] {
        let (fake, gateway) = started().await;
        let tag = format!("curl {}", mode.name());
        let mut played = Vec::new();
        for api in &APIS {
            let mut scenarios = Map::new();
            for (scenario, options) in CURL {
                let prompt = format!("{tag} {} [{scenario}] ☂", api.name);
                let asked = Asked::new(
                    &gateway,
                    mode,
                    api,
                    &prompt,
                    matches!(scenario, "stream" | "abort"),
                );
                let output = clients::run(in_mode(&gateway, mode, &asked.curl(options)))
                    .await
                    .unwrap();
                scenarios.insert(scenario.to_owned(), result(api, scenario, &output));
            }
            played.push((api, Value::Object(scenarios)));
        }
        let mut rows = Vec::new();
        for (api, scenarios) in &played {
            understood(&tag, api, scenarios);
            let calls = records::check(&gateway, &fake, &tag, mode, api, scenarios).await;
            rows.push(table::Row::new("curl", version, mode, api.name, scenarios, calls));
        }
        table::documented(&rows);
    }
}

fn result(api: &Api, scenario: &str, output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match scenario {
        "abort" => json!({"left": output.status.code() == Some(28)}),
        "error" => json!({"message": text}),
        _ => json!({"text": api.text_of(&text)}),
    }
}

/// A program of Java's own HTTP client that asks so. In base-URL mode it knows neither proxy nor CA; it then offers
/// HTTP/2 without TLS, which the bridge may leave unanswered.
fn java(gateway: &Gateway, mode: Mode, asked: &Asked, store: &Path) -> Command {
    let mut java = clients::bare("java");
    let place = match mode {
        Mode::BaseUrl => ["", "", ""].map(str::to_owned),
        Mode::Proxy => {
            java.args([
                "-Djdk.http.auth.tunneling.disabledSchemes=",
                "-Djavax.net.ssl.trustStorePassword=changeit",
            ]);
            java.arg(format!("-Djavax.net.ssl.trustStore={}", store.display()));
            let (address, token) = (gateway.proxy(), gateway.token());
            [address.ip().to_string(), address.port().to_string(), token]
        }
    };
    java.arg(in_repository("tests/interop/java/Ask.java")).args(place);
    java.args([&asked.url, &asked.headers[0], &asked.body]);
    java
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_client_of_java_works() {
    let Some(version) = version("java", "--version").await else {
        return;
    };
    let title = "Java HTTP client";
    for mode in [Mode::Proxy, Mode::BaseUrl] {
        let (fake, gateway) = started().await;
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("cacerts");
        clients::java_store(&gateway, &store).await.unwrap();
        let tag = format!("{title} {}", mode.name());
        let mut rows = Vec::new();
        for api in [Api::named("responses"), Api::named("messages")] {
            let mut scenarios = Map::new();
            for scenario in ["plain", "stream", "error"] {
                let prompt = format!("{tag} {} [{scenario}] ☂", api.name);
                let asked = Asked::new(&gateway, mode, api, &prompt, scenario == "stream");
                let output = clients::run(java(&gateway, mode, &asked, &store)).await.unwrap();
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{tag}: {errors}");
                scenarios.insert(scenario.to_owned(), result(api, scenario, &output));
            }
            rows.push((api, Value::Object(scenarios)));
        }
        for (api, scenarios) in rows {
            understood(&tag, api, &scenarios);
            let calls = records::check(&gateway, &fake, &tag, mode, api, &scenarios).await;
            let row = table::Row::new(title, version, mode, api.name, &scenarios, calls);
            table::documented(&[row]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_works() {
    let Some(version) = version("openssl", "version").await else {
        return;
    };
    let (fake, gateway) = started().await;
    let api = Api::named("messages");
    let tag = "openssl s_client proxy";
    let mut scenarios = Map::new();
    for scenario in ["plain", "stream"] {
        let prompt = format!("{tag} {} [{scenario}] ☂", api.name);
        let asked = Asked::new(&gateway, Mode::Proxy, api, &prompt, scenario == "stream");
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\n{}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}",
            api.path(),
            api.host(),
            asked.headers.join("\r\n"),
            asked.body.len(),
            asked.body
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("request");
        std::fs::write(&file, request).unwrap();
        let script = format!(
            "openssl s_client -quiet -verify_return_error -proxy {} -proxy_user x -proxy_pass env:TOKEN -connect {}:443 \
             -servername {} -CAfile {} -no_ign_eof -ign_eof < {}",
            gateway.proxy(),
            api.host(),
            api.host(),
            gateway.ca_file().display(),
            file.display()
        );
        let mut shell = clients::bare("sh");
        shell.args(["-c", &script]).env("TOKEN", gateway.token());
        let output = clients::run(shell).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| {
            panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
        });
        scenarios.insert(scenario.to_owned(), json!({"text": api.text_of(body)}));
    }
    let scenarios = Value::Object(scenarios);
    understood(tag, api, &scenarios);
    let calls = records::check(&gateway, &fake, tag, Mode::Proxy, api, &scenarios).await;
    table::documented(&[table::Row::new(
        "openssl s_client",
        version,
        Mode::Proxy,
        api.name,
        &scenarios,
        calls,
    )]);
}

/// What stands for the version of a program that the system brings, if it brings it.
async fn version(program: &str, argument: &str) -> Option<&'static str> {
    let mut command = clients::bare(program);
    command.arg(argument);
    clients::run(command).await.map(|_| "the system's")
}
