//! Clients as they are installed from npm and PyPI, unmodified, against a provider that plays every scenario.
//!
//! Each client is driven twice: in proxy mode, started by `causeway run` with nothing else set, and in base-URL mode
//! with what `causeway env --base-url` prints. It is judged by what it understood and by what is on record:
//! blocking and streamed replies, a tool's round trip, an error, a limit with Retry-After, and leaving in
//! mid-stream. What passed is the table in `docs/clients/README.md`.
//!
//! `tests/interop/setup.sh` installs the clients. Without them each test says that it is skipped, or fails in CI.

mod codex;
mod passthrough;
mod play;
mod records;
mod table;
mod tools;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;

use serde_json::Value;

use crate::clients::{self, bare, in_repository};
use crate::fake::FakeProvider;
use crate::harness::{Gateway, Settings};
use play::{Api, REFUSAL, TEXT};

/// The user's own key in proxy mode.
const USER_KEY: &str = "sk-interop-user-key";
/// The gateway's own in base-URL mode.
const GATEWAY_KEY: &str = "sk-interop-gateway-key";

/// The two ways to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Proxy,
    BaseUrl,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Proxy => "proxy",
            Mode::BaseUrl => "base_url",
        }
    }
}

/// A client library with the program that drives it.
struct Kit {
    title: &'static str,
    package: &'static str,
    driver: Driver,
}

enum Driver {
    /// A script and the environment that it runs in.
    Python(&'static str, &'static str),
    Node(&'static str),
}

impl Kit {
    fn version(&self) -> String {
        match self.driver {
            Driver::Python(_, pins) => table::pinned(pins, self.package),
            Driver::Node(_) => table::pinned("tests/interop/node/package.json", self.package),
        }
    }

    /// The command that drives it, if it is installed.
    fn command(&self) -> Option<Vec<PathBuf>> {
        let (program, script) = match self.driver {
            Driver::Python(script, pins) => {
                (python(pins), in_repository("tests/interop/python").join(script))
            }
            Driver::Node(script) => (node(), installed("node").join(script)),
        };
        if program.exists() {
            return Some(vec![program, script]);
        }
        clients::skip(&format!(
            "{} is not installed: run tests/interop/setup.sh",
            self.title
        ));
        None
    }
}

fn installed(name: &str) -> PathBuf {
    in_repository("target/interop").join(name)
}

fn python(pins: &str) -> PathBuf {
    match pins {
        "tests/interop/python/langchain.txt" => installed("langchain/bin/python"),
        "tests/interop/python/litellm.txt" => installed("litellm/bin/python"),
        _ => clients::python(),
    }
}

/// Node as it is installed, with the drivers beside the packages that they import.
fn node() -> PathBuf {
    static COPIED: Once = Once::new();
    COPIED.call_once(|| {
        for entry in std::fs::read_dir(in_repository("tests/interop/node")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "mjs") && installed("node").exists() {
                std::fs::copy(&path, installed("node").join(path.file_name().unwrap())).unwrap();
            }
        }
    });
    installed("runtime/node_modules/.bin/node")
}

async fn started() -> (FakeProvider, Gateway) {
    let fake = play::provider().await;
    let keys = format!("keys = [{{ literal = \"{GATEWAY_KEY}\" }}]\nretry = {{ attempts = 0 }}");
    let gateway = Gateway::start(Settings::in_front_of(&fake).provider(&keys)).await;
    (fake, gateway)
}

/// `command` as its user would start it in `mode`.
pub(crate) fn in_mode(gateway: &Gateway, mode: Mode, command: &[PathBuf]) -> Command {
    let (program, arguments) = command.split_first().unwrap();
    let mut prepared = match mode {
        Mode::Proxy => {
            let mut run = gateway.command();
            run.args(["run", "--"]).arg(program);
            run.env("OPENAI_API_KEY", USER_KEY)
                .env("ANTHROPIC_API_KEY", USER_KEY);
            run
        }
        Mode::BaseUrl => {
            let settings = gateway.cli(&[
                "env",
                "--client",
                "python",
                "--base-url",
                "--shell",
                "json",
                "--show-token",
            ]);
            let mut bare = bare(program);
            for (name, value) in settings["environment"].as_object().unwrap() {
                bare.env(name, value.as_str().unwrap());
            }
            bare
        }
    };
    prepared.args(arguments);
    prepared
}

/// Drives a client in both modes and holds its rows against the documents.
async fn check(kit: &Kit) {
    let Some(command) = kit.command() else { return };
    let version = kit.version();
    for mode in [Mode::Proxy, Mode::BaseUrl] {
        let (fake, gateway) = started().await;
        let tag = format!("{} {}", kit.title, mode.name());
        let mut driven = in_mode(&gateway, mode, &command);
        driven.env("INTEROP_TAG", &tag);
        // It would fetch a list of prices at every start.
        driven
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let output = clients::run(driven).await.expect("the client is installed");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{tag}: {errors}");
        let results: Value =
            serde_json::from_slice(last_line(&output.stdout)).unwrap_or_else(|_| panic!("{errors}"));
        let mut rows = Vec::new();
        for (api, scenarios) in results.as_object().unwrap() {
            let api = Api::named(api);
            understood(&tag, api, scenarios);
            let calls = records::check(&gateway, &fake, &tag, mode, api, scenarios).await;
            rows.push(table::Row::new(
                kit.title, &version, mode, api.name, scenarios, calls,
            ));
        }
        table::documented(&rows);
    }
}

fn last_line(output: &[u8]) -> &[u8] {
    let text = output.trim_ascii_end();
    let begin = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    &text[begin..]
}

/// The client made of each reply what the provider meant.
fn understood(tag: &str, api: &Api, scenarios: &Value) {
    for (scenario, result) in scenarios.as_object().unwrap() {
        let what = format!("{tag} {} {scenario}: {result}", api.name);
        assert!(result["broken"].is_null(), "{what}");
        match scenario.as_str() {
            "error" => {
                assert!(result["message"].as_str().unwrap().contains(REFUSAL), "{what}");
                assert!(result["status"].is_null() || result["status"] == 400, "{what}");
            }
            "abort" => assert_eq!(result["left"], true, "{what}"),
            _ => assert_eq!(result["text"], TEXT, "{what}"),
        }
        if scenario == "tools" {
            assert!(result["call"].as_str().unwrap().contains("weather"), "{what}");
        }
    }
}

const SDKS: &str = "tests/e2e/python/requirements.txt";

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_sdk_for_python_works() {
    check(&Kit {
        title: "OpenAI SDK (Python)",
        package: "openai",
        driver: Driver::Python("openai_sdk.py", SDKS),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anthropic_sdk_for_python_works() {
    check(&Kit {
        title: "Anthropic SDK (Python)",
        package: "anthropic",
        driver: Driver::Python("anthropic_sdk.py", SDKS),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn langchain_works() {
    check(&Kit {
        title: "LangChain (Python)",
        package: "langchain-openai",
        driver: Driver::Python("langchain_sdk.py", "tests/interop/python/langchain.txt"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn litellm_works() {
    check(&Kit {
        title: "LiteLLM (Python)",
        package: "litellm",
        driver: Driver::Python("litellm_sdk.py", "tests/interop/python/litellm.txt"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_sdk_for_node_works() {
    check(&Kit {
        title: "OpenAI SDK (Node)",
        package: "openai",
        driver: Driver::Node("openai_sdk.mjs"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anthropic_sdk_for_node_works() {
    check(&Kit {
        title: "Anthropic SDK (Node)",
        package: "@anthropic-ai/sdk",
        driver: Driver::Node("anthropic_sdk.mjs"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vercel_ai_sdk_works() {
    check(&Kit {
        title: "Vercel AI SDK",
        package: "ai",
        driver: Driver::Node("ai_sdk.mjs"),
    })
    .await;
}
