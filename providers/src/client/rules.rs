//! The table of clients. Order matters: an application stands before the library it is built with.

/// How one client is recognised and what else its headers tell.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Any of these is enough.
    pub(super) marks: &'static [Mark],
    /// Headers that carry the session id, the best first.
    pub(super) sessions: &'static [&'static str],
    /// Headers that name the sub-agent which asks.
    pub(super) agents: &'static [&'static str],
    /// Headers that name who started it.
    pub(super) parents: &'static [&'static str],
    /// The header that carries the version, if the user agent does not.
    pub(super) version_header: Option<&'static str>,
}

/// One sign of a client; header names are lower-case, values compare without case.
pub(super) enum Mark {
    /// The user agent begins so.
    Agent(&'static str),
    /// A header is there and not empty.
    Header(&'static str),
    /// A header has this value.
    HeaderIs(&'static str, &'static str),
    /// A header begins so.
    HeaderStarts(&'static str, &'static str),
}

use Mark::{Agent, Header, HeaderIs, HeaderStarts};

const fn rule(name: &'static str, marks: &'static [Mark], sessions: &'static [&'static str]) -> Rule {
    Rule {
        name,
        marks,
        sessions,
        agents: &[],
        parents: &[],
        version_header: None,
    }
}

/// A client that tells its sub-agents apart.
const fn agents(rule: Rule, agents: &'static [&'static str], parents: &'static [&'static str]) -> Rule {
    Rule {
        agents,
        parents,
        ..rule
    }
}

const fn versioned(name: &'static str, marks: &'static [Mark], header: &'static str) -> Rule {
    Rule {
        name,
        marks,
        sessions: &[],
        agents: &[],
        parents: &[],
        version_header: Some(header),
    }
}

pub(super) static RULES: &[Rule] = &[
    rule("Mux", &[Agent("mux/")], &["x-mux-workspace-id"]),
    agents(
        rule("Claude Code", &[Agent("claude")], &["x-claude-code-session-id"]),
        &["x-claude-code-agent-id"],
        &["x-claude-code-parent-agent-id"],
    ),
    // A sub-agent is a thread of its own; the main one is named as the session.
    agents(
        rule(
            "Codex",
            &[Agent("codex"), HeaderStarts("originator", "codex")],
            &["session_id", "session-id"],
        ),
        &["thread-id"],
        &["x-codex-parent-thread-id"],
    ),
    rule(
        "Zed",
        &[Agent("zed/"), HeaderStarts("editor-version", "zed/")],
        &[],
    ),
    rule(
        "GitHub Copilot (VS Code)",
        &[Agent("githubcopilotchat/")],
        &["x-interaction-id"],
    ),
    rule(
        "GitHub Copilot (CLI)",
        &[
            Agent("copilot/"),
            HeaderIs("copilot-integration-id", "copilot-developer-cli"),
        ],
        &["x-client-session-id"],
    ),
    versioned(
        "GitHub Copilot (VS Code)",
        &[HeaderStarts("editor-version", "vscode/")],
        "editor-plugin-version",
    ),
    versioned(
        "GitHub Copilot (JetBrains)",
        &[HeaderStarts("editor-version", "jetbrains")],
        "editor-plugin-version",
    ),
    versioned(
        "GitHub Copilot (Visual Studio)",
        &[
            HeaderStarts("editor-version", "visualstudio"),
            HeaderStarts("editor-version", "vs/"),
        ],
        "editor-plugin-version",
    ),
    versioned(
        "GitHub Copilot (Xcode)",
        &[HeaderStarts("editor-version", "xcode")],
        "editor-plugin-version",
    ),
    versioned(
        "GitHub Copilot (Neovim)",
        &[
            HeaderStarts("editor-version", "neovim"),
            HeaderStarts("editor-version", "vim"),
        ],
        "editor-plugin-version",
    ),
    versioned(
        "GitHub Copilot (Eclipse)",
        &[HeaderStarts("editor-version", "eclipse")],
        "editor-plugin-version",
    ),
    rule(
        "GitHub Copilot (language server)",
        &[Agent("githubcopilot/")],
        &[],
    ),
    rule(
        "Kilo Code",
        &[
            Agent("kilo-code/"),
            HeaderIs("originator", "kilo-code"),
            HeaderIs("x-title", "kilo code"),
        ],
        &["x-kilocode-taskid"],
    ),
    rule(
        "Roo Code",
        &[
            Agent("roo-code/"),
            Agent("roocode/"),
            HeaderIs("originator", "roo-code"),
            HeaderIs("x-title", "roo code"),
        ],
        &["x-roo-task-id", "session_id"],
    ),
    rule("Coder Agents", &[Agent("coder-agents/")], &["x-coder-chat-id"]),
    rule(
        "Charm Crush",
        &[Agent("charm crush/"), Agent("charm-crush/"), Agent("crush/")],
        &[],
    ),
    versioned(
        "Cursor",
        &[Header("x-cursor-client-version")],
        "x-cursor-client-version",
    ),
    agents(
        rule(
            "OpenCode",
            &[Agent("opencode"), HeaderIs("originator", "opencode")],
            &[
                "x-opencode-session",
                "x-session-id",
                "x-session-affinity",
                "session_id",
            ],
        ),
        &[],
        &["x-parent-session-id"],
    ),
    rule(
        "Cline",
        &[
            Agent("cline/"),
            HeaderIs("x-title", "cline"),
            HeaderIs("http-referer", "https://cline.bot"),
        ],
        &["x-task-id", "session_id"],
    ),
    rule("Continue", &[Agent("continue/"), Agent("continue-")], &[]),
    rule(
        "Aider",
        &[
            Agent("aider/"),
            HeaderIs("x-title", "aider"),
            HeaderStarts("http-referer", "https://aider.chat"),
        ],
        &[],
    ),
    rule("Qwen Code", &[Agent("qwencode/"), Agent("qwen-code/")], &[]),
    rule("Gemini CLI", &[Agent("geminicli/"), Agent("gemini-cli/")], &[]),
    rule(
        "Pi",
        &[
            Agent("pi/"),
            Agent("pi-coding-agent/"),
            HeaderIs("originator", "pi"),
        ],
        &[],
    ),
    rule(
        "Goose",
        &[Agent("goose/"), HeaderIs("x-title", "goose")],
        &["agent-session-id"],
    ),
    rule("Amp", &[Agent("amp/"), Agent("amp-cli/")], &[]),
    rule("Windsurf", &[Agent("windsurf/")], &[]),
    rule("Junie", &[Agent("junie/")], &[]),
    rule("Factory Droid", &[Agent("factory-cli/"), Agent("droid/")], &[]),
    rule("AI SDK", &[Agent("ai/"), Agent("ai-sdk/")], &[]),
    rule("LiteLLM", &[Agent("litellm/")], &[]),
    rule("LangChain", &[Agent("langchain")], &[]),
    rule("llm", &[Agent("llm/")], &[]),
];

/// SDKs and HTTP libraries: what is left when no application names itself.
pub(super) static LIBRARIES: &[Rule] = &[
    rule(
        "OpenAI SDK (Python)",
        &[Agent("openai/python"), Agent("asyncopenai/python")],
        &[],
    ),
    rule("OpenAI SDK (JavaScript)", &[Agent("openai/js")], &[]),
    rule("OpenAI SDK (Go)", &[Agent("openai/go")], &[]),
    rule("OpenAI SDK (Java)", &[Agent("openai/java")], &[]),
    rule(
        "OpenAI SDK (.NET)",
        &[Agent("openai/dotnet"), Agent("openai/.net")],
        &[],
    ),
    rule(
        "Anthropic SDK (Python)",
        &[Agent("anthropic/python"), Agent("asyncanthropic/python")],
        &[],
    ),
    rule("Anthropic SDK (JavaScript)", &[Agent("anthropic/js")], &[]),
    rule("Anthropic SDK (Go)", &[Agent("anthropic/go")], &[]),
    rule("Anthropic SDK (Java)", &[Agent("anthropic/java")], &[]),
    rule("curl", &[Agent("curl/")], &[]),
    rule("Wget", &[Agent("wget/")], &[]),
    rule("HTTPie", &[Agent("httpie/")], &[]),
    rule("Postman", &[Agent("postmanruntime/")], &[]),
    rule("python-httpx", &[Agent("python-httpx/")], &[]),
    rule("python-requests", &[Agent("python-requests/")], &[]),
    rule("aiohttp", &[Agent("python/3"), Agent("aiohttp/")], &[]),
    rule("urllib", &[Agent("python-urllib/")], &[]),
    rule("axios", &[Agent("axios/")], &[]),
    rule(
        "undici",
        &[Agent("undici"), Agent("node-fetch"), Agent("node")],
        &[],
    ),
    rule("Bun", &[Agent("bun/")], &[]),
    rule("Deno", &[Agent("deno/")], &[]),
    rule("Go", &[Agent("go-http-client/")], &[]),
    rule("reqwest", &[Agent("reqwest/")], &[]),
    rule("OkHttp", &[Agent("okhttp/")], &[]),
    rule("Java", &[Agent("java-http-client/"), Agent("java/")], &[]),
    rule("Ruby", &[Agent("ruby"), Agent("faraday")], &[]),
    rule("Browser", &[Agent("mozilla/")], &[]),
];

/// The names of one language's generated SDKs.
pub(super) struct Sdk {
    pub(super) lang: &'static str,
    pub(super) openai: &'static str,
    pub(super) anthropic: &'static str,
    pub(super) other: &'static str,
}

const fn sdk(lang: &'static str, openai: &'static str, anthropic: &'static str, other: &'static str) -> Sdk {
    Sdk {
        lang,
        openai,
        anthropic,
        other,
    }
}

/// By the value of `x-stainless-lang`, which the SDKs of both vendors send.
pub(super) static SDKS: &[Sdk] = &[
    sdk(
        "python",
        "OpenAI SDK (Python)",
        "Anthropic SDK (Python)",
        "SDK (Python)",
    ),
    sdk(
        "js",
        "OpenAI SDK (JavaScript)",
        "Anthropic SDK (JavaScript)",
        "SDK (JavaScript)",
    ),
    sdk("go", "OpenAI SDK (Go)", "Anthropic SDK (Go)", "SDK (Go)"),
    sdk("java", "OpenAI SDK (Java)", "Anthropic SDK (Java)", "SDK (Java)"),
    sdk(
        "kotlin",
        "OpenAI SDK (Java)",
        "Anthropic SDK (Java)",
        "SDK (Java)",
    ),
    sdk("ruby", "OpenAI SDK (Ruby)", "Anthropic SDK (Ruby)", "SDK (Ruby)"),
    sdk(
        "csharp",
        "OpenAI SDK (.NET)",
        "Anthropic SDK (.NET)",
        "SDK (.NET)",
    ),
    sdk("php", "OpenAI SDK (PHP)", "Anthropic SDK (PHP)", "SDK (PHP)"),
];
