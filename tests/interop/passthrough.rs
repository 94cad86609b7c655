//! What clients ask for beside inference keeps working: sign-in and token exchange on hosts that nobody claims are
//! tunnelled, and model lists, quotas and settings on claimed hosts pass through unchanged and unrecorded.

use std::path::PathBuf;

use super::{Mode, in_mode, started};
use crate::clients;
use crate::corporate::{Answer, Corporate};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings};

const LIST: &[u8] = br#"{"object":"list","data":[{"id":"gpt-5.2","object":"model","x_unknown":1}]}"#;

/// Paths of real clients, with the hosts that they ask.
const PATHS: [(&str, &str); 6] = [
    ("api.openai.com", "/v1/models?client_version=0.169.0"),
    ("chatgpt.com", "/backend-api/wham/accounts/check"),
    ("chatgpt.com", "/backend-api/wham/usage"),
    ("api.anthropic.com", "/v1/models"),
    ("api.anthropic.com", "/api/oauth/usage"),
    ("api.individual.githubcopilot.com", "/models"),
];

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_quotas_of_claimed_hosts_pass_through_unrecorded() {
    let (fake, gateway) = started().await;
    for (host, path) in PATHS {
        fake.on(path.split('?').next().unwrap(), Reply::json(LIST));
        let url = format!("https://{host}{path}");
        let command: Vec<PathBuf> = [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "-H",
            "authorization: Bearer users-own",
            &url,
        ]
        .map(PathBuf::from)
        .into();
        let output = clients::run(in_mode(&gateway, Mode::Proxy, &command))
            .await
            .unwrap();
        assert_eq!(
            output.stdout,
            LIST,
            "{url}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let seen = fake.last_request();
        assert_eq!((seen.authority.as_str(), seen.path.as_str()), (host, path));
        assert_eq!(
            seen.header("authorization"),
            "Bearer users-own",
            "no key of the gateway's is put in"
        );
    }
    assert!(gateway.list("/api/v1/interceptions").await.is_empty());
}

/// Sign-in and token exchange of Codex and of Copilot, on hosts that no provider claims.
const SIGN_IN: [(&str, &str); 2] = [
    ("auth.openai.com", "/oauth/token"),
    ("api.github.com", "/copilot_internal/v2/token"),
];

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_on_hosts_that_nobody_claims_is_tunnelled_with_their_own_certificate() {
    let (provider, web) = (
        FakeProvider::start(Offers::Both).await,
        FakeProvider::start(Offers::Both).await,
    );
    // The way out, so that no name has to be looked up here.
    let corporate = Corporate::start(Answer::Carry(web.address())).await;
    let way = format!("upstream-proxy = \"http://{}\"", corporate.address());
    let gateway = Gateway::start(Settings::in_front_of(&provider).proxy(&way)).await;
    for (host, path) in SIGN_IN {
        web.on(path, Reply::json(LIST));
        let url = format!("https://{host}{path}");
        let options = [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--data",
            "code=planted",
        ];
        let command: Vec<PathBuf> = options.into_iter().chain([&*url]).map(PathBuf::from).collect();
        let mut curl = in_mode(&gateway, Mode::Proxy, &command);
        // What the user trusts already stays trusted beside the gateway's CA.
        curl.env("CURL_CA_BUNDLE", web.ca_file());
        let output = clients::run(curl).await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, LIST, "{url}: {errors}");
        assert_eq!(web.last_request().body.as_ref(), b"code=planted");
    }
    assert!(provider.requests().is_empty(), "no provider hears of it");
    assert!(gateway.list("/api/v1/interceptions").await.is_empty());
    let tunnels = gateway
        .metric("causeway_connects_total{kind=\"tunnelled\"}")
        .await;
    assert_eq!(tunnels, 2);
}
