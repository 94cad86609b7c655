//! Clients as people run them, unmodified: curl, and the official OpenAI and Anthropic SDKs for Python. They
//! know nothing of the gateway but the proxy's address and the authority to trust.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::cases::{self, Case};
use crate::client::assert_same;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

/// The user's own keys, as the fake provider sees them.
const KEY: &str = "sk-clients-own-key";

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// Runs a program while the fake provider goes on serving; `None`, said aloud, if it is not installed.
pub(crate) async fn run(mut command: Command) -> Option<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            skip(&format!("{program}: {error}"));
            None
        }
    }
}

/// Makes a trust store for Java (password `changeit`) with the gateway's CA in it; `None` where there is no keytool.
pub(crate) async fn java_store(gateway: &Gateway, store: &Path) -> Option<()> {
    let mut keytool = Command::new("keytool");
    keytool.args([
        "-importcert",
        "-noprompt",
        "-storepass",
        "changeit",
        "-alias",
        "causeway",
        "-file",
    ]);
    keytool.arg(gateway.ca_file()).arg("-keystore").arg(store);
    let made = run(keytool).await?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    Some(())
}

/// A check that could not be made is said aloud; where all must be made, it is a failure.
pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "cannot be skipped in CI: {why}"
    );
    eprintln!("skipped: {why}");
}

/// Nothing of the tester's own environment, so that no other proxy or authority is in play.
pub(crate) fn bare(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// Every case with curl, over both HTTP versions; whether it could be run.
pub(crate) async fn check_curl(fake: &FakeProvider, proxy: &str, ca_file: &Path) -> bool {
    for version in ["--http1.1", "--http2"] {
        for case in &cases::ALL {
            let Some(output) = run(curl(case, version, proxy, ca_file)).await else {
                return false;
            };
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} {version}: {errors}", case.name);
            assert_same(&output.stdout, case.reply, case.name);
            assert_same(&fake.last_request().body, case.request, case.name);
        }
    }
    true
}

fn curl(case: &Case, version: &str, proxy: &str, ca_file: &Path) -> Command {
    let (name, value) = case.key_header(KEY);
    let body = std::str::from_utf8(case.request).unwrap();
    let mut command = bare("curl");
    command.args([
        "--silent",
        "--show-error",
        "--no-buffer",
        "--max-time",
        "20",
        version,
    ]);
    command.args(["--proxy", proxy, "--header", &format!("{name}: {value}")]);
    command.arg("--cacert").arg(ca_file);
    command.args([
        "--header",
        "content-type: application/json",
        "--data-binary",
        body,
    ]);
    command.arg(format!("https://{}{}", case.host, case.path));
    command
}

/// Every case with the official SDKs; whether they could be run.
pub(crate) async fn check_sdks(fake: &FakeProvider, proxy: &str, ca_file: &Path) -> bool {
    let mut command = bare(python());
    command.arg(in_repository("tests/e2e/python/sdks.py"));
    command.env("HTTPS_PROXY", proxy).env("SSL_CERT_FILE", ca_file);
    command.env("OPENAI_API_KEY", KEY).env("ANTHROPIC_API_KEY", KEY);
    let Some(output) = run(command).await else {
        return false;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    for case in &cases::ALL {
        let result = &results[case.api][if case.stream { "stream" } else { "blocking" }];
        assert_eq!(
            result["model"], case.want.model_answered,
            "{}: {results}",
            case.name
        );
        assert_eq!(
            result["tool_call_id"], case.want.tool_call_id,
            "{}: {results}",
            case.name
        );
        assert_eq!(result["arguments"]["city"], "Zürich", "{}: {results}", case.name);
        assert_eq!(
            result["output_tokens"], case.want.output,
            "{}: {results}",
            case.name
        );
    }
    for seen in fake.requests() {
        let sent = |(name, scheme): (&str, &str)| seen.header(name) == format!("{scheme}{KEY}");
        assert!(
            cases::ALL.iter().any(|case| sent(case.credential)),
            "the SDK's key goes upstream: {}",
            seen.path
        );
    }
    true
}

/// The Python to run the SDKs with; `tests/e2e/python/setup.sh` makes it.
pub(crate) fn python() -> PathBuf {
    let given = std::env::var_os("CAUSEWAY_TEST_PYTHON").map(PathBuf::from);
    given.unwrap_or_else(|| in_repository("target/test-venv/bin/python"))
}

pub(crate) fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_every_reply_unchanged() {
    let (fake, gateway) = started().await;
    if check_curl(&fake, &gateway.proxy_url(), &gateway.ca_file()).await {
        check_sessions(&gateway, 2 * cases::ALL.len()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_sdks_work_unmodified() {
    let (fake, gateway) = started().await;
    if !check_sdks(&fake, &gateway.proxy_url(), &gateway.ca_file()).await {
        return;
    }
    check_sessions(&gateway, cases::ALL.len()).await;
    for record in gateway.list("/api/v1/interceptions?limit=1000").await {
        assert!(record["client"].is_string(), "{record}");
        assert!(record["prompt"].to_string().contains(cases::PROMPT), "{record}");
    }
}

/// The API and the command line agree that so many requests were recorded, each in a session.
async fn check_sessions(gateway: &Gateway, requests: usize) {
    let finished = async || {
        let all = gateway.list("/api/v1/interceptions?limit=1000").await;
        let done = all
            .iter()
            .filter(|record| record["outcome"] == "completed")
            .count();
        (done == requests).then_some(())
    };
    eventually("every record", finished).await;

    let listed = gateway.list("/api/v1/sessions?limit=1000").await;
    assert!(!listed.is_empty());
    let counted: u64 = listed
        .iter()
        .map(|session| session["interceptions"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, requests as u64, "{listed:?}");

    let printed = gateway.cli(&["sessions", "--json"]);
    let printed = printed["items"]
        .as_array()
        .or(printed.as_array())
        .unwrap_or_else(|| panic!("{printed}"));
    for session in &listed {
        let id = session["id"].as_str().unwrap();
        assert!(
            printed.iter().any(|other| other["id"] == id),
            "{id} is not in {printed:?}"
        );
        let shown = gateway.cli(&["show", id, "--json"]);
        assert!(shown.to_string().contains(id), "{shown}");
    }
}
