//! Agents in the terminal.

use super::{BaseUrl, Client, File, PLAIN, Test, Variable};

/// The question of every test.
macro_rules! hello {
    ($before:literal) => {
        concat!($before, " \"Say hello\"")
    };
}

pub(super) static AGENTS: &[Client] = &[
    Client {
        name: "codex",
        title: "Codex CLI",
        about: "Codex follows the proxy variables. It trusts the system's store and, beside it, the file in \
                CODEX_CA_CERTIFICATE (else that in SSL_CERT_FILE); the git that it starts needs GIT_SSL_CAINFO.",
        trust: &["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", "GIT_SSL_CAINFO"],
        system_store: true,
        base_url: Some(BaseUrl {
            variables: &[Variable("CAUSEWAY_TOKEN", "{token}")],
            files: &[File {
                path: "~/.codex/config.toml",
                format: "toml",
                text: r#"model_provider = "causeway"

[model_providers.causeway]
name = "Causeway"
base_url = "{bridge_url}/openai/v1"
env_key = "CAUSEWAY_TOKEN"
wire_api = "responses"
"#,
            }],
            steps: &[
                "This uses the gateway's own OpenAI key (`keys` of the provider). For a key of your own, write \
                 requires_openai_auth = true instead of env_key, and env_http_headers = { \
                 \"X-Coder-AI-Governance-Token\" = \"CAUSEWAY_TOKEN\" } beside it.",
            ],
        }),
        test: Test {
            command: hello!("codex exec --skip-git-repo-check"),
            shows: "a session of the client Codex in `causeway sessions`",
        },
        undo: &["Take model_provider and [model_providers.causeway] out of ~/.codex/config.toml again."],
        ..PLAIN
    },
    Client {
        name: "claude",
        aliases: &["claude-code"],
        title: "Claude Code",
        about: "Claude Code follows the proxy variables and adds the CA in NODE_EXTRA_CA_CERTS to its own list and \
                the system's. The same variables can stand under `env` in its settings.",
        trust: &["NODE_EXTRA_CA_CERTS"],
        system_store: true,
        files: &[File {
            path: "~/.claude/settings.json",
            format: "json",
            text: r#"{
  "env": {
    "HTTPS_PROXY": "{proxy_url}",
    "NODE_EXTRA_CA_CERTS": "{ca}"
  }
}
"#,
        }],
        base_url: Some(BaseUrl {
            variables: &[
                Variable("ANTHROPIC_BASE_URL", "{bridge_url}/anthropic"),
                Variable("ANTHROPIC_AUTH_TOKEN", "{token}"),
            ],
            files: &[],
            steps: &[
                "This uses the gateway's own Anthropic key. For your own key or subscription, leave \
                 ANTHROPIC_AUTH_TOKEN out and set ANTHROPIC_CUSTOM_HEADERS to \"X-Coder-AI-Governance-Token: \
                 TOKEN\".",
                "Proxy mode keeps what Claude Code switches off behind a base URL of another host, such as \
                 fine-grained streaming of tool calls.",
            ],
        }),
        test: Test {
            command: hello!("claude -p"),
            shows: "a session of the client Claude Code in `causeway sessions`",
        },
        undo: &["Take the two lines out of ~/.claude/settings.json again, if you put them there."],
        ..PLAIN
    },
    Client {
        name: "copilot-cli",
        aliases: &["copilot"],
        title: "GitHub Copilot CLI",
        about: "Copilot CLI follows the proxy variables and adds the CA in NODE_EXTRA_CA_CERTS to its own list and \
                the system's. GitHub's models are reached in proxy mode only.",
        trust: &["NODE_EXTRA_CA_CERTS"],
        system_store: true,
        base_url: Some(BaseUrl {
            variables: &[
                Variable("COPILOT_PROVIDER_TYPE", "openai"),
                Variable("COPILOT_PROVIDER_BASE_URL", "{bridge_url}/openai/v1"),
                Variable("COPILOT_PROVIDER_WIRE_API", "responses"),
                Variable("COPILOT_PROVIDER_API_KEY", "{token}"),
                Variable("COPILOT_MODEL", "gpt-5.5"),
            ],
            files: &[],
            steps: &[
                "This is Copilot with a provider of your own, the gateway's OpenAI key, not GitHub's models.",
            ],
        }),
        test: Test {
            command: hello!("copilot -p"),
            shows: "a session of the client GitHub Copilot (CLI) in `causeway sessions`",
        },
        ..PLAIN
    },
    Client {
        name: "opencode",
        title: "opencode",
        about: "opencode follows the proxy variables and adds the CA in NODE_EXTRA_CA_CERTS. Its terminal talks to a \
                server on this machine, so NO_PROXY must name localhost and 127.0.0.1.",
        trust: &["NODE_EXTRA_CA_CERTS"],
        system_store: true,
        base_url: Some(BaseUrl {
            variables: &[Variable("CAUSEWAY_TOKEN", "{token}")],
            files: &[File {
                path: "~/.config/opencode/opencode.json",
                format: "json",
                text: r#"{
  "$schema": "https://opencode.ai/config.json",
  "provider": {
    "openai": {
      "options": { "baseURL": "{bridge_url}/openai/v1", "apiKey": "{env:CAUSEWAY_TOKEN}" }
    },
    "anthropic": {
      "options": { "baseURL": "{bridge_url}/anthropic/v1", "apiKey": "{env:CAUSEWAY_TOKEN}" }
    }
  }
}
"#,
            }],
            steps: &[],
        }),
        test: Test {
            command: hello!("opencode run"),
            shows: "a session of the client OpenCode in `causeway sessions`",
        },
        undo: &["Take the two providers out of opencode.json again, if you put them there."],
        ..PLAIN
    },
    Client {
        name: "aider",
        title: "aider",
        about: "aider is a Python program: it follows the proxy variables, and SSL_CERT_FILE and REQUESTS_CA_BUNDLE \
                replace what it trusts, so they name the bundle with the system's roots.",
        trust: &["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"],
        base_url: Some(BaseUrl {
            variables: &[
                Variable("OPENAI_API_BASE", "{bridge_url}/openai/v1"),
                Variable("OPENAI_API_KEY", "{token}"),
                Variable("ANTHROPIC_API_BASE", "{bridge_url}/anthropic"),
                Variable("ANTHROPIC_API_KEY", "{token}"),
            ],
            files: &[],
            steps: &[],
        }),
        test: Test {
            command: hello!("aider --no-git --yes --message"),
            shows: "a session in `causeway sessions`",
        },
        ..PLAIN
    },
    Client {
        name: "goose",
        title: "goose",
        about: "goose follows the proxy variables. It trusts the system's store and, beside it, the CA in \
                GOOSE_CA_CERT_PATH; on Linux SSL_CERT_FILE stands for the system's store.",
        trust: &["GOOSE_CA_CERT_PATH", "SSL_CERT_FILE"],
        system_store: true,
        base_url: Some(BaseUrl {
            variables: &[
                Variable("OPENAI_HOST", "{bridge_url}/openai"),
                Variable("OPENAI_BASE_PATH", "v1/chat/completions"),
                Variable("OPENAI_API_KEY", "{token}"),
                Variable("ANTHROPIC_HOST", "{bridge_url}/anthropic"),
                Variable("ANTHROPIC_API_KEY", "{token}"),
            ],
            files: &[],
            steps: &[],
        }),
        test: Test {
            command: hello!("goose run --no-session -t"),
            shows: "a session in `causeway sessions`",
        },
        ..PLAIN
    },
];
