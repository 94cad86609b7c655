//! Tables of clients, versions and sessions.

use super::*;
use http::HeaderName;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

type Headers = &'static [(&'static str, &'static str)];

const CLIENTS: &[(Headers, &str, Option<&str>)] = &[
    (&[], "Unknown", None),
    (&[("user-agent", "my-tool/3.1")], "Unknown", Some("3.1")),
    (&[("user-agent", "Mux/1.0")], "Mux", Some("1.0")),
    (
        &[
            ("user-agent", "claude-cli/2.1.197 (external, sdk-cli)"),
            ("x-stainless-lang", "js"),
        ],
        "Claude Code",
        Some("2.1.197"),
    ),
    (
        &[("user-agent", "codex_exec/0.169.0 (Debian 12; x86_64) xterm")],
        "Codex",
        Some("0.169.0"),
    ),
    (
        &[
            ("user-agent", "codex_cli_rs/0.50.0"),
            ("originator", "codex_cli_rs"),
        ],
        "Codex",
        Some("0.50.0"),
    ),
    (&[("user-agent", "Zed/0.180.2")], "Zed", Some("0.180.2")),
    (
        &[
            ("user-agent", "GitHubCopilotChat/0.40.1"),
            ("editor-version", "vscode/1.110.0"),
        ],
        "GitHub Copilot (VS Code)",
        Some("0.40.1"),
    ),
    (
        &[("user-agent", "copilot/1.0.102 (linux v24) term/unknown")],
        "GitHub Copilot (CLI)",
        Some("1.0.102"),
    ),
    (
        &[
            ("user-agent", "GithubCopilot/1.539.0"),
            ("editor-version", "JetBrains-IU/251.1"),
            ("editor-plugin-version", "copilot-intellij/1.5.59"),
        ],
        "GitHub Copilot (JetBrains)",
        Some("1.5.59"),
    ),
    (
        &[
            ("user-agent", "GithubCopilot/1.539.0"),
            ("editor-version", "vscode/1.110.0"),
        ],
        "GitHub Copilot (VS Code)",
        None,
    ),
    (
        &[("user-agent", "GithubCopilot/1.539.0")],
        "GitHub Copilot (language server)",
        Some("1.539.0"),
    ),
    (&[("user-agent", "Kilo-Code/4.1")], "Kilo Code", Some("4.1")),
    (
        &[("user-agent", "node"), ("originator", "kilo-code")],
        "Kilo Code",
        None,
    ),
    (&[("originator", "roo-code")], "Roo Code", None),
    (
        &[("user-agent", "coder-agents/v2.30.0")],
        "Coder Agents",
        Some("v2.30.0"),
    ),
    (&[("user-agent", "Charm Crush/0.9")], "Charm Crush", Some("0.9")),
    (
        &[
            ("user-agent", "connect-es/1.6"),
            ("x-cursor-client-version", "1.9.1"),
        ],
        "Cursor",
        Some("1.9.1"),
    ),
    (&[("x-cursor-client-version", "")], "Unknown", None),
    (
        &[("user-agent", "opencode/1.18.33 ai-sdk/provider-utils/3")],
        "OpenCode",
        Some("1.18.33"),
    ),
    (
        &[
            ("user-agent", "OpenAI/Python 1.109.1"),
            ("x-stainless-lang", "python"),
            ("x-stainless-package-version", "1.109.1"),
        ],
        "OpenAI SDK (Python)",
        Some("1.109.1"),
    ),
    (
        &[
            ("user-agent", "AsyncAnthropic/Python 0.71.0"),
            ("x-stainless-lang", "python"),
            ("x-stainless-package-version", "0.71.0"),
        ],
        "Anthropic SDK (Python)",
        Some("0.71.0"),
    ),
    (
        &[("user-agent", "Anthropic/JS 0.60.0")],
        "Anthropic SDK (JavaScript)",
        Some("0.60.0"),
    ),
    (
        &[("user-agent", "acme/1"), ("x-stainless-lang", "go")],
        "SDK (Go)",
        None,
    ),
    (
        &[
            ("user-agent", "GithubCopilot/1.155.0"),
            ("editor-version", "Neovim/0.6.1"),
            ("editor-plugin-version", "copilot.vim/1.16.0"),
        ],
        "GitHub Copilot (Neovim)",
        Some("1.16.0"),
    ),
    (
        &[
            ("editor-version", "Zed/0.189.5"),
            ("copilot-integration-id", "vscode-chat"),
        ],
        "Zed",
        None,
    ),
    (
        &[
            ("user-agent", "Cline/3.0.38"),
            ("x-title", "Cline"),
            ("http-referer", "https://cline.bot"),
            ("x-client-type", "cline-cli"),
        ],
        "Cline",
        Some("3.0.38"),
    ),
    (
        &[
            ("user-agent", "OpenAI/JS 5.12.2"),
            ("x-stainless-lang", "js"),
            ("http-referer", "https://cline.bot"),
        ],
        "Cline",
        None,
    ),
    (
        &[("user-agent", "RooCode/3.28.2"), ("x-title", "Roo Code")],
        "Roo Code",
        Some("3.28.2"),
    ),
    (
        &[("x-title", "Kilo Code"), ("x-kilocode-taskid", "t")],
        "Kilo Code",
        None,
    ),
    (
        &[("http-referer", "https://goose-docs.ai"), ("x-title", "goose")],
        "Goose",
        None,
    ),
    (
        &[("http-referer", "https://aider.chat"), ("x-title", "Aider")],
        "Aider",
        None,
    ),
    (&[("user-agent", "litellm/1.80.0")], "LiteLLM", Some("1.80.0")),
    (
        &[("user-agent", "Charm-Crush/0.9.1")],
        "Charm Crush",
        Some("0.9.1"),
    ),
    (&[("user-agent", "Continue-VSCode/1.0")], "Continue", Some("1.0")),
    (&[("user-agent", "Junie/1.2")], "Junie", Some("1.2")),
    (
        &[("user-agent", "GeminiCLI/v0.18.0 (linux; x64)")],
        "Gemini CLI",
        Some("v0.18.0"),
    ),
    (
        &[("user-agent", "langchain-openai/1.1.0")],
        "LangChain",
        Some("1.1.0"),
    ),
    (
        &[("originator", "codex_vscode"), ("user-agent", "reqwest/0.12")],
        "Codex",
        None,
    ),
    (
        &[
            ("user-agent", "OpenAI/Go 3.8.1"),
            ("x-stainless-lang", "go"),
            ("x-stainless-package-version", "3.8.1"),
        ],
        "OpenAI SDK (Go)",
        Some("3.8.1"),
    ),
    (
        &[
            ("user-agent", "Anthropic/Java 2.11.0"),
            ("x-stainless-lang", "java"),
        ],
        "Anthropic SDK (Java)",
        None,
    ),
    (
        &[
            ("user-agent", "OpenAI::Client/Ruby 0.34"),
            ("x-stainless-lang", "ruby"),
        ],
        "OpenAI SDK (Ruby)",
        None,
    ),
    (
        &[
            ("user-agent", "Anthropic/C# 12.0"),
            ("x-stainless-lang", "csharp"),
        ],
        "Anthropic SDK (.NET)",
        None,
    ),
    (&[("user-agent", "curl/8.5.0")], "curl", Some("8.5.0")),
    (
        &[("user-agent", "python-httpx/0.28.1")],
        "python-httpx",
        Some("0.28.1"),
    ),
    (
        &[("user-agent", "Python/3.11 aiohttp/3.9.5")],
        "aiohttp",
        Some("3.11"),
    ),
    (&[("user-agent", "node")], "undici", None),
];

#[test]
fn clients_and_versions_are_recognised() {
    for (pairs, name, version) in CLIENTS {
        let client = detect(&headers(pairs));
        assert_eq!(
            (client.name, client.version.as_deref()),
            (*name, *version),
            "{pairs:?}"
        );
    }
}

#[test]
fn sessions_come_from_the_clients_own_headers() {
    const CODEX: (&str, &str) = ("user-agent", "codex_exec/0.169.0");
    const LONG: &str = concat!(
        "0123456789012345678901234567890123456789012345678901234567890123",
        "01234567890123456789012345678901234567890123456789012345678901234"
    );
    const CLAUDE: (&str, &str) = ("user-agent", "claude-cli/2.1");
    let cases: &[(Headers, Option<&str>)] = &[
        (&[CODEX, ("session_id", "  s-1 ")], Some("s-1")),
        (&[CODEX, ("session-id", "s-2")], Some("s-2")),
        (&[CODEX, ("session_id", ""), ("session-id", "s-2")], Some("s-2")),
        (&[CODEX, ("session_id", "two words")], None),
        (&[CODEX, ("session_id", LONG)], None),
        (&[CODEX, ("x-claude-code-session-id", "s-3")], None),
        (&[CLAUDE, ("x-claude-code-session-id", "s-3")], Some("s-3")),
        (&[CLAUDE, ("session_id", "s-1")], None),
        (&[("user-agent", "mux/1"), ("x-mux-workspace-id", "w")], Some("w")),
        (
            &[("user-agent", "GitHubCopilotChat/1"), ("x-interaction-id", "i")],
            Some("i"),
        ),
        (
            &[("user-agent", "copilot/1"), ("x-client-session-id", "c")],
            Some("c"),
        ),
        (
            &[("originator", "kilo-code"), ("x-kilocode-taskid", "k")],
            Some("k"),
        ),
        (
            &[("user-agent", "coder-agents/1"), ("x-coder-chat-id", "a")],
            Some("a"),
        ),
        (
            &[("user-agent", "Cline/3"), ("x-task-id", "sess-1")],
            Some("sess-1"),
        ),
        (&[("x-title", "Roo Code"), ("x-roo-task-id", "r")], Some("r")),
        (
            &[
                ("user-agent", "opencode/1.18.33"),
                ("x-session-id", "ses_a"),
                ("x-session-affinity", "ses_a"),
            ],
            Some("ses_a"),
        ),
        (&[("x-title", "goose"), ("agent-session-id", "g")], Some("g")),
        (&[("user-agent", "zed/1"), ("session_id", "z")], None),
        (&[("session_id", "z")], None),
    ];
    for (pairs, want) in cases {
        assert_eq!(detect(&headers(pairs)).session_id.as_deref(), *want, "{pairs:?}");
    }
}

#[test]
fn sub_agents_are_told_from_the_agent_that_started_them() {
    const CLAUDE: (&str, &str) = ("user-agent", "claude-cli/2.1");
    const CODEX: (&str, &str) = ("user-agent", "codex_exec/0.169.0");
    type Ids = (Option<&'static str>, Option<&'static str>, Option<&'static str>);
    let cases: &[(Headers, Ids)] = &[
        (
            &[CLAUDE, ("x-claude-code-session-id", "s")],
            (Some("s"), None, None),
        ),
        (
            &[
                CLAUDE,
                ("x-claude-code-session-id", "s"),
                ("x-claude-code-agent-id", "a2"),
                ("x-claude-code-parent-agent-id", "a1"),
            ],
            (Some("s"), Some("a2"), Some("a1")),
        ),
        (
            &[CODEX, ("session-id", "root"), ("thread-id", "root")],
            (Some("root"), None, None),
        ),
        (
            &[
                CODEX,
                ("session-id", "root"),
                ("thread-id", "child"),
                ("x-codex-parent-thread-id", "root"),
                ("x-openai-subagent", "collab_spawn"),
            ],
            (Some("root"), Some("child"), Some("root")),
        ),
        (
            &[
                ("user-agent", "opencode/1.18.33"),
                ("x-session-id", "ses_b"),
                ("x-parent-session-id", "ses_a"),
            ],
            (Some("ses_b"), None, Some("ses_a")),
        ),
        (&[("x-claude-code-agent-id", "a2")], (None, None, None)),
    ];
    for (pairs, want) in cases {
        let client = detect(&headers(pairs));
        let got = (
            client.session_id.as_deref(),
            client.agent_id.as_deref(),
            client.parent_agent_id.as_deref(),
        );
        assert_eq!(got, *want, "{pairs:?}");
    }
}

#[test]
fn odd_header_values_are_ignored() {
    let mut map = HeaderMap::new();
    map.insert(USER_AGENT, http::HeaderValue::from_bytes(b"codex\xff/1").unwrap());
    assert_eq!(detect(&map).name, UNKNOWN);
}

#[test]
fn sub_agents_are_told_by_their_own_clients_headers() {
    let claude = [
        ("user-agent", "claude-cli/2.1.197 (external, cli)"),
        ("x-claude-code-agent-id", "a1"),
        ("x-claude-code-parent-agent-id", "a0"),
    ];
    let client = detect(&headers(&claude));
    assert_eq!(client.agent_id.as_deref(), Some("a1"));
    assert_eq!(client.parent_agent_id.as_deref(), Some("a0"));
    let [_, agent, parent] = claude;
    let other = detect(&headers(&[("user-agent", "codex_exec/0.169.0"), agent, parent]));
    assert_eq!((other.agent_id, other.parent_agent_id), (None, None));
    let long = "x".repeat(129);
    let hostile = detect(&headers(&[claude[0], ("x-claude-code-agent-id", &long)]));
    assert_eq!(hostile.agent_id, None);
}
