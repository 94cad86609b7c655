//! Editors and their extensions.

use super::{BaseUrl, Client, File, PLAIN, Test, Variable};

pub(super) static EDITORS: &[Client] = &[
    Client {
        name: "vscode",
        title: "VS Code with GitHub Copilot",
        about: "VS Code takes its proxy from its settings, or from the variables of the shell that starts it \
                (`code .`). It trusts the system's store; NODE_EXTRA_CA_CERTS adds to that for extensions. Over \
                Remote-SSH and in containers the settings belong to the remote side.",
        trust: &["NODE_EXTRA_CA_CERTS"],
        system_store: true,
        files: &[File {
            path: "settings.json (Preferences: Open User Settings (JSON))",
            format: "json",
            text: r#"{
  "http.proxy": "{proxy_url}",
  "http.proxySupport": "override",
  "http.systemCertificates": true
}
"#,
        }],
        steps: &[
            "Put the CA into the system's store: `causeway ca install` tells how. Then start VS Code anew.",
        ],
        base_url: Some(BaseUrl {
            variables: &[],
            files: &[File {
                path: "chatLanguageModels.json (Chat: Manage Language Models)",
                format: "json",
                text: r#"[
  {
    "name": "Causeway",
    "vendor": "customendpoint",
    "apiType": "responses",
    "apiKey": "{token}",
    "models": [
      {
        "id": "gpt-5.5",
        "name": "GPT-5.5",
        "url": "{bridge_url}/openai/v1/responses",
        "toolCalling": true,
        "vision": true,
        "maxInputTokens": 200000,
        "maxOutputTokens": 32000
      }
    ]
  }
]
"#,
            }],
            steps: &[
                "This is a model of your own in the chat, not GitHub's models and not inline completions.",
            ],
        }),
        test: Test {
            command: "causeway sessions --client \"GitHub Copilot (VS Code)\"",
            shows: "a session, after a question in the chat; `GitHub Copilot: Collect Diagnostics` lists the hosts as \
                    reachable",
        },
        undo: &[
            "Take the three settings out again (or the model out of chatLanguageModels.json).",
            "Remove the CA from the system's store; its SHA-256 is shown by `causeway ca show`.",
        ],
        ..PLAIN
    },
    Client {
        name: "jetbrains",
        title: "JetBrains IDEs with GitHub Copilot or AI Assistant",
        about: "JetBrains IDEs keep proxy and certificates in their own settings and ask for the proxy's password \
                once. The language server of Copilot gets the IDE's proxy, and NODE_EXTRA_CA_CERTS of the shell that \
                starts the IDE.",
        follows_variables: false,
        trust: &["NODE_EXTRA_CA_CERTS"],
        files: &[File {
            path: "options/proxy.settings.xml in the IDE's configuration folder",
            format: "xml",
            text: r#"<application>
  <component name="HttpConfigurable">
    <option name="USE_HTTP_PROXY" value="true" />
    <option name="PROXY_HOST" value="{proxy_host}" />
    <option name="PROXY_PORT" value="{proxy_port}" />
    <option name="PROXY_AUTHENTICATION" value="true" />
    <option name="PROXY_EXCEPTIONS" value="localhost,127.0.0.1" />
  </component>
</application>
"#,
        }],
        steps: &[
            "Or by hand: Settings > Appearance & Behavior > System Settings > HTTP Proxy > Manual, HTTP, \
             {proxy_host}, {proxy_port}, Proxy authentication with any login and the token as password.",
            "Settings > Tools > Server Certificates > Accepted certificates > +, and choose {ca}.",
        ],
        test: Test {
            command: "causeway sessions --client \"GitHub Copilot (JetBrains)\"",
            shows: "a session, after a question in the chat; `Check connection` in the proxy's settings succeeds for \
                    https://api.openai.com",
        },
        undo: &[
            "Settings > … > HTTP Proxy > No proxy, and `Clear passwords`.",
            "Remove the certificate under Settings > Tools > Server Certificates.",
        ],
        ..PLAIN
    },
    Client {
        name: "neovim",
        title: "Neovim with copilot.vim, copilot.lua and others",
        about: "copilot.vim and copilot.lua follow the proxy variables of the shell (g:copilot_proxy goes before \
                them); their language server is a Node program and adds the CA in NODE_EXTRA_CA_CERTS. Plug-ins that \
                call curl take CURL_CA_BUNDLE.",
        trust: &["NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"],
        files: &[File {
            path: "~/.config/nvim/init.vim (only if Neovim is not started from such a shell)",
            format: "vim",
            text: "let g:copilot_proxy = '{proxy_url}'\nlet $NODE_EXTRA_CA_CERTS = '{ca}'\n",
        }],
        test: Test {
            command: "nvim +\"Copilot status\"",
            shows: "that Copilot is ready, and completions in `causeway sessions`",
        },
        undo: &["Take the two lines out of init.vim again, if you put them there."],
        ..PLAIN
    },
    Client {
        name: "zed",
        title: "Zed",
        about: "Zed takes `proxy` from its settings, else the proxy variables of the shell that starts it. It trusts \
                the system's store, for which SSL_CERT_FILE stands on Linux.",
        trust: &["SSL_CERT_FILE"],
        system_store: true,
        files: &[File {
            path: "~/.config/zed/settings.json",
            format: "json",
            text: "{\n  \"proxy\": \"{proxy_url}\"\n}\n",
        }],
        steps: &["Put the CA into the system's store: `causeway ca install` tells how."],
        base_url: Some(BaseUrl {
            variables: &[
                Variable("OPENAI_API_KEY", "{token}"),
                Variable("ANTHROPIC_API_KEY", "{token}"),
            ],
            files: &[File {
                path: "~/.config/zed/settings.json",
                format: "json",
                text: r#"{
  "language_models": {
    "openai": { "api_url": "{bridge_url}/openai/v1" },
    "anthropic": { "api_url": "{bridge_url}/anthropic" }
  }
}
"#,
            }],
            steps: &[
                "Instead of the variables, the token can be entered as key under Agent Settings > LLM Providers.",
            ],
        }),
        test: Test {
            command: "causeway sessions --client Zed",
            shows: "a session, after a question in the agent panel",
        },
        undo: &["Take the lines out of settings.json again, and the CA out of the system's store."],
        ..PLAIN
    },
    Client {
        name: "cline",
        title: "Cline",
        about: "The extension uses the proxy and the trust of VS Code (see there). The command line and the JetBrains \
                plug-in follow the proxy variables and add the CA in NODE_EXTRA_CA_CERTS.",
        trust: &["NODE_EXTRA_CA_CERTS"],
        base_url: Some(BaseUrl {
            variables: &[],
            files: &[],
            steps: &[
                "API Provider: OpenAI Compatible. Base URL: {bridge_url}/openai/v1. API Key: the gateway token.",
                "API Provider: Anthropic, Use custom base URL: {bridge_url}/anthropic. API Key: the gateway token.",
            ],
        }),
        test: Test {
            command: "cline \"Say hello\"",
            shows: "a session in `causeway sessions`",
        },
        undo: &["Choose the old provider in Cline's settings, or undo the settings of VS Code."],
        ..PLAIN
    },
];
