//! What clients ask for beside inference keeps working: sign-in and token exchange on hosts that nobody claims are
//! tunnelled, and model lists, quotas and settings on claimed hosts pass through unchanged and unrecorded.

use std::path::PathBuf;

use super::{Mode, in_mode, started};
use crate::clients;
use crate::fake::Reply;

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
