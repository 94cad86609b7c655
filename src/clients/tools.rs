//! Languages and tools that AI clients are built with.

use super::{BaseUrl, Client, File, PLAIN, Test, Variable};

/// What the official SDKs read.
const SDK: BaseUrl = BaseUrl {
    variables: &[
        Variable("OPENAI_BASE_URL", "{bridge_url}/openai/v1"),
        Variable("OPENAI_API_KEY", "{token}"),
        Variable("ANTHROPIC_BASE_URL", "{bridge_url}/anthropic"),
        Variable("ANTHROPIC_API_KEY", "{token}"),
    ],
    files: &[],
    steps: &[
        "This uses the gateway's own keys. For a key of your own, keep it where it is and add the header \
         X-Coder-AI-Governance-Token with the token (`default_headers` or `defaultHeaders` of the SDK).",
    ],
};

pub(super) static TOOLS: &[Client] = &[
    Client {
        name: "curl",
        title: "curl",
        about: "curl follows the proxy variables (`http_proxy` in lower case only). CURL_CA_BUNDLE replaces what it \
                trusts, so it names the bundle with the system's roots.",
        trust: &["CURL_CA_BUNDLE"],
        system_store: true,
        base_url: Some(BaseUrl {
            variables: &[Variable("CAUSEWAY_TOKEN", "{token}")],
            files: &[],
            steps: &["curl -H \"Authorization: Bearer $CAUSEWAY_TOKEN\" {bridge_url}/openai/v1/models"],
        }),
        test: Test {
            command: "curl -sS -o /dev/null -w '%{http_code} %{ssl_verify_result}\\n' https://api.openai.com/v1/models",
            shows: "`401 0`: the certificate is trusted, and OpenAI misses its key",
        },
        ..PLAIN
    },
    Client {
        name: "python",
        title: "Python (OpenAI and Anthropic SDKs, httpx, requests, pip)",
        about: "Python's clients follow the proxy variables. SSL_CERT_FILE (ssl, httpx, the SDKs), \
                REQUESTS_CA_BUNDLE (requests) and PIP_CERT (pip) replace what they trust, so they name the bundle \
                with the system's roots.",
        trust: &["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"],
        base_url: Some(SDK),
        test: Test {
            command: "python3 -c 'import urllib.request as u; u.urlopen(\"https://api.openai.com/v1/models\")'",
            shows: "`HTTP Error 401: Unauthorized`: the certificate is trusted, and OpenAI misses its key",
        },
        ..PLAIN
    },
    Client {
        name: "node",
        title: "Node.js (OpenAI and Anthropic SDKs, Vercel AI SDK, npm)",
        about: "Node's own fetch follows the proxy variables only with NODE_USE_ENV_PROXY=1 (Node 24, or 22.21 and \
                later); older ones need a dispatcher in the program. NODE_EXTRA_CA_CERTS adds the CA; npm has its own \
                npm_config_cafile.",
        trust: &["NODE_EXTRA_CA_CERTS", "npm_config_cafile"],
        variables: &[Variable("NODE_USE_ENV_PROXY", "1")],
        base_url: Some(SDK),
        test: Test {
            command: "node -e 'fetch(\"https://api.openai.com/v1/models\").then((r) => console.log(r.status))'",
            shows: "`401`: the certificate is trusted, and OpenAI misses its key",
        },
        ..PLAIN
    },
    Client {
        name: "java",
        title: "Java",
        about: "Java reads no proxy variables and has its own store of CAs. Credentials for a proxy come from the \
                program (an Authenticator, or the client's own option), and Basic must be allowed for tunnels. Where \
                the program can be given a base URL, that is easier.",
        follows_variables: false,
        variables: &[Variable(
            "JAVA_TOOL_OPTIONS",
            "-Dhttps.proxyHost={proxy_host} -Dhttps.proxyPort={proxy_port} -Dhttp.proxyHost={proxy_host} \
             -Dhttp.proxyPort={proxy_port} -Dhttp.nonProxyHosts=localhost|127.* \
             -Djdk.http.auth.tunneling.disabledSchemes= -Djavax.net.ssl.trustStore={data_dir}/cacerts \
             -Djavax.net.ssl.trustStorePassword=changeit",
        )],
        steps: &[
            "Make a store of CAs with this one added: cp \"$JAVA_HOME/lib/security/cacerts\" '{data_dir}/cacerts' && \
             keytool -importcert -noprompt -alias causeway -storepass changeit -file '{ca}' -keystore \
             '{data_dir}/cacerts'",
            "In the program: Authenticator.setDefault, or HttpClient.newBuilder().authenticator(…), with any user and \
             the token as password.",
        ],
        base_url: Some(SDK),
        test: Test {
            command: "keytool -list -alias causeway -storepass changeit -keystore '{data_dir}/cacerts'",
            shows: "`trustedCertEntry`, and after a request of the program a session in `causeway sessions`",
        },
        undo: &["rm '{data_dir}/cacerts'"],
        ..PLAIN
    },
    Client {
        name: "go",
        title: "Go",
        about: "Go programs follow the proxy variables. On Linux SSL_CERT_FILE stands for the system's store; on macOS \
                and Windows the CA must be in that store.",
        trust: &["SSL_CERT_FILE"],
        system_store: true,
        base_url: Some(SDK),
        test: Test {
            command: "causeway sessions",
            shows: "a session, after a request of the program",
        },
        ..PLAIN
    },
    Client {
        name: "git",
        title: "git",
        about: "git follows the proxy variables; it asks first without credentials and again with them, as it should. \
                GIT_SSL_CAINFO replaces what it trusts, so it names the bundle with the system's roots. AI agents \
                start git for their plug-ins.",
        trust: &["GIT_SSL_CAINFO"],
        system_store: true,
        files: &[File {
            path: "~/.gitconfig (instead of the variables)",
            format: "ini",
            text: "[http]\n\tproxy = {proxy_url}\n\tsslCAInfo = {bundle}\n",
        }],
        test: Test {
            command: "git ls-remote https://github.com/git/git HEAD",
            shows: "a commit's id",
        },
        undo: &["git config --global --unset http.proxy; git config --global --unset http.sslCAInfo"],
        ..PLAIN
    },
    Client {
        name: "docker",
        title: "Programs in Docker containers",
        about: "Docker's client hands its `proxies` to every container and build as proxy variables. The container \
                must reach the gateway (with --network host, or with proxy.listen on an address that it sees) and \
                needs the CA and its variables.",
        files: &[File {
            path: "~/.docker/config.json",
            format: "json",
            text: r#"{
  "proxies": {
    "default": {
      "httpProxy": "{proxy_url}",
      "httpsProxy": "{proxy_url}",
      "noProxy": "localhost,127.0.0.1,::1"
    }
  }
}
"#,
        }],
        steps: &[
            "docker run --network host -v '{ca}:/causeway/ca.pem:ro' -v '{bundle}:/causeway/bundle.pem:ro' -e \
             NODE_EXTRA_CA_CERTS=/causeway/ca.pem -e SSL_CERT_FILE=/causeway/bundle.pem -e \
             REQUESTS_CA_BUNDLE=/causeway/bundle.pem -e NODE_USE_ENV_PROXY=1 IMAGE",
            "In an image of your own: COPY ca.pem /usr/local/share/ca-certificates/causeway.crt and RUN \
             update-ca-certificates. Never put the token into an image.",
        ],
        test: Test {
            command: "docker run --rm --network host -v '{bundle}:/b.pem:ro' -e SSL_CERT_FILE=/b.pem python:3 python \
                      -c 'import urllib.request as u; u.urlopen(\"https://api.openai.com/v1/models\")'",
            shows: "`HTTP Error 401: Unauthorized`: the certificate is trusted, and OpenAI misses its key",
        },
        undo: &["Take `proxies` out of ~/.docker/config.json again."],
        ..PLAIN
    },
];
