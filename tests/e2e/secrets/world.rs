//! A gateway that knows secrets of every kind, with every neighbour that could learn one.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Mutex;

use ::bytes::Bytes;
use serde_json::{Value, json};

use super::planted::Planted;
use crate::cases::{CHAT, Case};
use crate::client::{Ask, Head, Http, ProxyClient, base_url, basic};
use crate::corporate::{Answer, Corporate};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};
use crate::oidc::{Issuer, Signer};
use crate::raw::RawProvider;

/// The secrets of a world.
pub(super) struct Secrets {
    /// A good gateway token.
    pub(super) token: Planted,
    pub(super) revoked: Planted,
    pub(super) expired: Planted,
    pub(super) unknown: Planted,
    /// The gateway's tokens of users whom budgets, limits and rules meet.
    pub(super) poor: Planted,
    pub(super) slow: Planted,
    pub(super) banned: Planted,
    /// Good and bad tokens of the issuer for the gateway.
    pub(super) jwt: Planted,
    pub(super) bad_jwt: Planted,
    pub(super) old_jwt: Planted,
    /// A user's own credentials for providers.
    pub(super) byok: Planted,
    pub(super) oauth: Planted,
    /// The gateway's own keys, each for one instance.
    pub(super) openai: Planted,
    pub(super) anthropic: Planted,
    pub(super) elsewhere: Planted,
    /// The password of the organisation's proxy.
    pub(super) proxy: Planted,
}

impl Secrets {
    fn all(&self) -> [&Planted; 16] {
        [
            &self.token,
            &self.revoked,
            &self.expired,
            &self.unknown,
            &self.poor,
            &self.slow,
            &self.banned,
            &self.jwt,
            &self.bad_jwt,
            &self.old_jwt,
            &self.byok,
            &self.oauth,
            &self.openai,
            &self.anthropic,
            &self.elsewhere,
            &self.proxy,
        ]
    }

    /// What only the gateway may know: no provider ever sees it.
    fn of_the_gateway(&self) -> impl Iterator<Item = &Planted> {
        let of_providers = ["byok", "oauth", "openai", "anthropic", "elsewhere"];
        self.all()
            .into_iter()
            .filter(move |secret| !of_providers.contains(&secret.name))
    }
}

/// Everything that runs.
pub(super) struct World {
    pub(super) gateway: Gateway,
    pub(super) secrets: Secrets,
    pub(super) fake: FakeProvider,
    /// A provider whose certificate is not trusted.
    pub(super) stranger: FakeProvider,
    /// A provider that answers as the test says, or not at all.
    pub(super) raw: RawProvider,
    pub(super) corporate: Corporate,
    /// What clients and people were told, by path.
    told: Mutex<Vec<(String, Vec<u8>)>>,
}

/// The configuration beside listeners and providers.
const RULES: &str = r#"
[breaker]
enabled = false
[retry]
attempts = 1
longest-wait = "20ms"
[[policy.rule]]
users = ["banned"]
deny = ["*"]
[[limit]]
per = "user"
requests-per-second = 1000
[[budget]]
name = "tiny"
users = ["poor"]
period = "month"
tokens = 1
"#;

/// Keys as providers make them: of a user, and of the gateway's own.
const BYOK: &str = "sk-proj-planted-byok-4f1c7Qz0Xw93_8Rb";
const OPENAI: &str = "sk-svcacct-planted-central-Zx81Hn_5cV";
const ANTHROPIC: &str = "sk-ant-api03-planted-9Kd2-Lq7_Vx5Tn8s";
const ELSEWHERE: &str = "sk-planted-elsewhere-2mB7yT0pQe";

/// The settings beside providers: an issuer at `url`, and a way out through `corporate` with a password.
fn settings(fake: &FakeProvider, url: &str, corporate: &Corporate) -> Settings {
    let way = format!(
        "http://corp:hunter2-p%40ss%2Fw%3Ard%2Bplanted@{}",
        corporate.address()
    );
    Settings::in_front_of(fake)
        .log("trace")
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy("head-timeout = \"2s\"")
        .proxy(&format!("upstream-proxy = \"{way}\""))
        .proxy("deny-hosts = [\"denied.example\"]")
        .bridge("max-body = \"64KiB\"")
        .env("PLANTED_KEY", ANTHROPIC.to_owned())
        .more(RULES)
        .more(&format!(
            "[identity.oidc]\nissuer = \"{url}\"\naudience = \"causeway\"\nuser-claim = \"email\""
        ))
}

impl Secrets {
    /// Makes what is made by `gateway` and by the issuer at `url`, whose key is the one of `signers`.
    fn of(gateway: &Gateway, url: &str, [signer, foreign]: [&Signer; 2]) -> Self {
        let claims = |email: &str, life: i64| {
            let now = i64::try_from(crate::oidc::now()).unwrap();
            json!({"iss": url, "aud": "causeway", "exp": now + life, "email": email, "plan": "pro"})
        };
        let made = |user: &str| Planted::new("token of a user", gateway.new_token(user).1);
        let (revoked_id, revoked) = gateway.new_token("leaver");
        gateway.run(&["token", "revoke", &revoked_id]);
        let oauth = foreign.sign(&json!({"sub": "user-planted", "plan": "plus"}));
        Self {
            token: Planted::new("token", gateway.token()),
            revoked: Planted::new("revoked token", revoked),
            expired: Planted::new("expired token", expired_token(gateway)),
            unknown: Planted::new("unknown token", format!("cw_{}", "5a17b3c9".repeat(6))),
            poor: made("poor"),
            slow: made("slow"),
            banned: made("banned"),
            jwt: Planted::new("jwt", signer.sign(&claims("ann@example.test", 600))),
            bad_jwt: Planted::new("bad jwt", foreign.sign(&claims("eve@example.test", 600))),
            old_jwt: Planted::new("old jwt", signer.sign(&claims("old@example.test", -600))),
            byok: Planted::new("byok", BYOK),
            oauth: Planted::new("oauth", oauth),
            openai: Planted::new("openai", OPENAI),
            anthropic: Planted::new("anthropic", ANTHROPIC),
            elsewhere: Planted::new("elsewhere", ELSEWHERE),
            proxy: Planted::new("password of the proxy", "hunter2-p@ss/w:rd+planted"),
        }
    }
}

impl World {
    pub(super) async fn start() -> Self {
        let (signer, foreign) = (Signer::new("one"), Signer::new("one"));
        let Issuer { fake, url } = Issuer::start(&[&signer]).await;
        let stranger = FakeProvider::start(Offers::Both).await;
        let raw = RawProvider::start().await;
        let corporate = Corporate::start(Answer::Say(
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        ))
        .await;
        let mut gateway = Gateway::configured(settings(&fake, &url, &corporate));
        gateway.configure(&with_providers(&gateway, &fake, &stranger, &raw));
        gateway.restart().await;
        Self {
            secrets: Secrets::of(&gateway, &url, [&signer, &foreign]),
            gateway,
            fake,
            stranger,
            raw,
            corporate,
            told: Mutex::default(),
        }
    }

    /// A client behind the proxy, with `secret` as its token.
    pub(super) fn client(&self, secret: &Planted) -> ProxyClient {
        ProxyClient::new(
            self.gateway.proxy(),
            basic(secret.text()),
            &self.gateway.ca_file(),
        )
    }

    /// The answer to a request in an intercepted connection: status and body.
    pub(super) async fn through(&self, case: &Case, ask: Ask) -> u16 {
        let mut session = self.client(&self.secrets.token).open(case.host, Http::V1).await;
        self.answered(session.send(ask).await).await
    }

    /// The answer to a request at the bridge's own address.
    pub(super) async fn at_bridge(&self, ask: Ask) -> u16 {
        self.answered(base_url(self.gateway.bridge()).await.send(ask).await)
            .await
    }

    async fn answered(&self, answer: crate::client::Answer) -> u16 {
        let status = answer.status;
        let head = format!("{:?}", answer.headers).into_bytes();
        self.hears(&[head, answer.bytes().await.to_vec()].concat());
        status
    }

    /// Reads what a CONNECT is answered.
    pub(super) fn connected(&self, head: &Head) -> u16 {
        self.hears(format!("{head:?}").as_bytes());
        head.status
    }

    /// Runs a command of the program; whether it succeeded.
    pub(super) fn runs(&self, arguments: &[&str], environment: &[(&str, &str)]) -> bool {
        let mut command = self.gateway.command();
        command.args(["--log", "trace"]).args(arguments);
        command.envs(environment.iter().copied());
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        self.hears(&[stdout, stderr].concat());
        status.success()
    }

    /// Keeps what somebody was told.
    pub(super) fn hears(&self, bytes: &[u8]) {
        self.told
            .lock()
            .unwrap()
            .push(("what was told".to_owned(), bytes.to_vec()));
    }

    /// A call of the user's own, with their own key, in base-URL mode at `instance`.
    pub(super) fn own(&self, instance: &str, body: impl Into<Bytes>) -> Ask {
        self.central(instance, body)
            .header("authorization", format!("Bearer {}", self.secrets.byok.text()))
    }

    /// A call that needs the key of the gateway's for `instance`.
    pub(super) fn central(&self, instance: &str, body: impl Into<Bytes>) -> Ask {
        Ask::post(format!("/{instance}{}", CHAT.path), body)
            .header("x-coder-ai-governance-token", self.secrets.token.text())
    }

    /// Fails if a secret is where it must not be; `path` is what was done last.
    pub(super) fn check_log(&self, path: &str, from: usize) -> usize {
        let log = self.gateway.stderr();
        self.check(&format!("the log after `{path}`"), &log[from..]);
        for (place, bytes) in self.told.lock().unwrap().drain(..) {
            self.check(&format!("{place} by `{path}`"), &bytes);
        }
        log.len()
    }

    fn check(&self, place: &str, bytes: &[u8]) {
        for secret in self.secrets.all() {
            if !secret.is_in(bytes) {
                continue;
            }
            let line = bytes.split(|byte| *byte == b'\n').find(|line| secret.is_in(line));
            let line = String::from_utf8_lossy(line.unwrap_or(bytes)).into_owned();
            panic!(
                "{place}: {} in {}",
                secret.name,
                line.chars().take(2_000).collect::<String>()
            );
        }
    }

    /// Fails if a secret is in metrics, records, files, or at the wrong neighbour.
    pub(super) async fn check_places(&self) {
        let gateway = &self.gateway;
        self.check("/metrics", gateway.metrics().await.as_bytes());
        for path in [
            "providers",
            "troubles",
            "sessions?limit=1000",
            "interceptions?limit=1000",
            "me",
        ] {
            let path = format!("/api/v1/{path}");
            self.check(&path, &gateway.answer_of(&path).await);
        }
        for record in gateway.list("/api/v1/interceptions?limit=1000").await {
            let path = format!("/api/v1/interceptions/{}", record["id"].as_str().unwrap());
            self.check(&path, &gateway.answer_of(&path).await);
        }
        for (path, bytes) in gateway.files() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name != "token" {
                self.check(&format!("the file {name}"), &bytes);
            }
        }
        self.check_neighbours();
    }

    fn check_neighbours(&self) {
        for seen in self.fake.requests() {
            let text = format!("{:?} {:?} {:?}", seen.path, seen.headers, seen.body);
            let at = |host: &str| seen.authority.starts_with(host);
            let central = [
                (&self.secrets.openai, "api.openai.com"),
                (&self.secrets.anthropic, "api.anthropic.com"),
                (&self.secrets.oauth, "chatgpt.com"),
            ];
            for (secret, host) in central {
                assert!(
                    at(host) || !secret.is_in(text.as_bytes()),
                    "{} at {}",
                    secret.name,
                    seen.authority
                );
            }
            assert!(
                !self.secrets.elsewhere.is_in(text.as_bytes()),
                "elsewhere at {}",
                seen.authority
            );
            for secret in self.secrets.of_the_gateway() {
                assert!(
                    !secret.is_in(text.as_bytes()),
                    "{} at {}",
                    secret.name,
                    seen.authority
                );
            }
        }
        assert!(
            self.stranger.requests().is_empty(),
            "who is not trusted hears nothing"
        );
        let heads = self.corporate.heads();
        assert!(
            heads.iter().any(|head| self.secrets.proxy.is_in(head.as_bytes())),
            "it knows its own password"
        );
        for secret in self
            .secrets
            .all()
            .into_iter()
            .filter(|one| one.name != self.secrets.proxy.name)
        {
            let knows = heads.iter().any(|head| secret.is_in(head.as_bytes()));
            assert!(!knows, "{} at the organisation's proxy", secret.name);
        }
    }
}

/// A token whose time is over.
fn expired_token(gateway: &Gateway) -> String {
    let arguments = ["token", "create", "--user", "late", "--expires", "1ms"];
    String::from_utf8(gateway.cli_output(&arguments))
        .unwrap()
        .trim()
        .to_owned()
}

/// The configuration with the gateway's own keys, and with instances that fail each in its own way.
fn with_providers(
    gateway: &Gateway,
    fake: &FakeProvider,
    stranger: &FakeProvider,
    raw: &RawProvider,
) -> String {
    let keyed = |name: &str, keys: &str| {
        (
            format!("name = \"{name}\"\n"),
            format!("name = \"{name}\"\nkeys = [{keys}]\n"),
        )
    };
    let mut text = gateway.configuration();
    for (from, to) in [
        keyed("openai", &format!("{{ literal = \"{OPENAI}\" }}")),
        keyed("anthropic", "{ env = \"PLANTED_KEY\" }"),
        (
            "[upstream]\n".to_owned(),
            "[upstream]\nconnect-timeout = \"1s\"\nresponse-timeout = \"1s\"\nidle-timeout = \"1s\"\n"
                .to_owned(),
        ),
        (
            format!("{:?}]", fake.ca_file()),
            format!("{:?}, {:?}]", fake.ca_file(), raw.ca_file()),
        ),
    ] {
        assert!(text.contains(&from), "{from}");
        text = text.replace(&from, &to);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (name, address, more) in [
        ("refused", closed, ""),
        (
            "fragile",
            closed,
            "breaker = { enabled = true, failures = 2, open-for = \"1m\" }\n",
        ),
        ("stranger", stranger.address(), ""),
        ("raw", raw.address(), ""),
    ] {
        text += &instance(name, address, ELSEWHERE, more);
    }
    text
}

fn instance(name: &str, address: SocketAddr, key: &str, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"{name}\"\nkind = \"openai\"\nbase-url = \"https://localhost/v1\"\n\
         hosts = [\"{name}.test\"]\nconnect-to = \"{address}\"\nkeys = [{{ literal = \"{key}\" }}]\n{more}\n"
    )
}

/// A request's body for `model`.
pub(super) fn chat(model: &str, stream: bool) -> String {
    let message: Value = json!({"role": "user", "content": "Hello"});
    json!({"model": model, "stream": stream, "messages": [message]}).to_string()
}
