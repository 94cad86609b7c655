//! JSON web tokens of an issuer prove who asks: with its own keys, for this audience, at this time, and never to a
//! provider.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::cases::{self, CHAT};
use crate::client::{Ask, Http, base_url};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings};

const KEYS: &str = "/keys";
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// A signing key of an issuer.
pub(crate) struct Signer {
    id: &'static str,
    key: EncodingKey,
}

impl Signer {
    pub(crate) fn new(id: &'static str) -> Self {
        let document = EcdsaKeyPair::generate_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &aws_lc_rs::rand::SystemRandom::new(),
        );
        let key = EncodingKey::from_ec_der(document.unwrap().as_ref());
        Self { id, key }
    }

    /// The public half as issuers publish it.
    fn published(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn json_reply(value: &Value) -> Reply {
    Reply::json(Vec::leak(value.to_string().into_bytes()))
}

/// A provider that is an issuer too, under its own name.
pub(crate) struct Issuer {
    pub(crate) fake: FakeProvider,
    pub(crate) url: String,
}

impl Issuer {
    pub(crate) async fn start(signers: &[&Signer]) -> Self {
        let fake = FakeProvider::answering(Offers::Http1, &cases::ALL).await;
        let url = format!("https://localhost:{}", fake.address().port());
        fake.on(
            DISCOVERY,
            json_reply(&json!({ "issuer": url, "jwks_uri": format!("{url}{KEYS}") })),
        );
        let issuer = Self { fake, url };
        issuer.publish(signers);
        issuer
    }

    /// Beside the keys stands one of a kind that nobody knows yet.
    fn publish(&self, signers: &[&Signer]) {
        let mut keys = vec![json!({ "kty": "XYZ", "kid": "future" })];
        keys.extend(signers.iter().map(|signer| signer.published()));
        self.fake.on(KEYS, json_reply(&json!({ "keys": keys })));
    }

    fn fetches(&self) -> usize {
        let requests = self.fake.requests();
        requests.iter().filter(|seen| seen.path == KEYS).count()
    }

    /// Claims that the gateway believes.
    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": self.url, "aud": ["other", "causeway"], "exp": now() + 600, "nbf": now() - 5,
            "email": "ann@example.test", "groups": ["staff", "interns"],
            "realm_access": { "roles": ["ai-auditors"] },
        })
    }

    async fn gateway(&self) -> Gateway {
        let text = format!(
            r#"
            [identity.oidc]
            issuer = "{}"
            audience = "causeway"
            user-claim = "email"
            groups-claim = "groups"
            roles-claim = "realm_access.roles"
            roles = {{ ai-auditors = "auditor" }}
            [[policy.rule]]
            groups = ["interns"]
            deny = ["claude-*"]
            "#,
            self.url
        );
        Gateway::start(Settings::in_front_of(&self.fake).more(&text).log("trace")).await
    }
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut changed = claims.clone();
    changed[name] = value;
    changed
}

async fn me(gateway: &Gateway, token: &str) -> (u16, Value) {
    let ask = Ask::get("/api/v1/me").header("authorization", format!("Bearer {token}"));
    let answer = base_url(gateway.bridge()).await.send(ask).await;
    (answer.status, answer.json().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_issuer_is_an_identity_with_role_and_groups_on_every_way_in() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(&[&signer]).await;
    let gateway = issuer.gateway().await;
    let token = signer.sign(&issuer.claims());

    let (status, found) = me(&gateway, &token).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["user"], "ann@example.test");
    assert_eq!(found["role"], "auditor");
    assert_eq!(found["groups"], json!(["staff", "interns"]));

    let case = CHAT;
    let own = case.key_header("sk-user");
    let ask = |path: String| Ask::post(path, case.request).header(own.0, own.1.clone());
    let base = || format!("/openai{}", case.path);
    let mut session = gateway.client_of(&token).open(case.host, Http::V2).await;
    // A client may send it where it does not belong, too.
    let proxied = session
        .send(ask(case.path.to_owned()).header("x-extra", format!("a {token};b")))
        .await;
    let header = ask(base()).header("x-coder-ai-governance-token", &token);
    let header = base_url(gateway.bridge()).await.send(header).await;
    for answer in [proxied, header] {
        assert_eq!(answer.status, 200);
        let id = answer.request_id();
        answer.bytes().await;
        assert_eq!(gateway.record(&id).await["user"], "ann@example.test");
        let seen = issuer.fake.last_request();
        assert_eq!(seen.header("authorization"), "Bearer sk-user");
    }
    let denied = gateway
        .client_of(&token)
        .open(cases::MESSAGES.host, Http::V1)
        .await;
    let mut denied = denied;
    let ask = Ask::post(cases::MESSAGES.path, cases::MESSAGES.request).header("x-api-key", "sk-user");
    assert_eq!(denied.send(ask).await.status, 400);
    // In the place of a key, it is no key: there is nothing to send upstream.
    let before = issuer.fake.requests().len();
    let alone = Ask::post(base(), case.request).header("authorization", format!("Bearer {token}"));
    let answer = base_url(gateway.bridge()).await.send(alone).await;
    assert_eq!(answer.header("x-causeway-reason"), "no_credential");
    assert_eq!(issuer.fake.requests().len(), before);

    let signature = token.rsplit('.').next().unwrap();
    for seen in issuer.fake.requests() {
        assert!(
            !format!("{seen:?}").contains(signature),
            "{} got the token",
            seen.path
        );
    }
    let mut places = vec![gateway.stderr(), gateway.metrics().await.into_bytes()];
    places.extend(gateway.files().into_iter().map(|(_, bytes)| bytes));
    for bytes in places {
        let found = bytes
            .windows(signature.len())
            .any(|part| part == signature.as_bytes());
        assert!(!found, "the token is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_quite_right_is_no_identity() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("one"));
    let issuer = Issuer::start(&[&signer]).await;
    let gateway = issuer.gateway().await;
    let good = issuer.claims();
    let unsigned = {
        let token = signer.sign(&good);
        let claims = token.split('.').nth(1).unwrap();
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{claims}.")
    };
    let symmetric = {
        let secret = serde_json::to_vec(&signer.published()).unwrap();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("one".to_owned());
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(&secret)).unwrap()
    };
    let mut forever = good.clone();
    forever.as_object_mut().unwrap().remove("exp");
    for (what, token) in [
        ("another's key", stranger.sign(&good)),
        ("no signature", unsigned),
        ("a symmetric signature", symmetric),
        (
            "another issuer",
            signer.sign(&with(&good, "iss", json!("https://else.test"))),
        ),
        (
            "several issuers",
            signer.sign(&with(&good, "iss", json!([issuer.url]))),
        ),
        (
            "another audience",
            signer.sign(&with(&good, "aud", json!("else"))),
        ),
        ("over", signer.sign(&with(&good, "exp", json!(now() - 61)))),
        ("no end", signer.sign(&forever)),
        ("an odd end", signer.sign(&with(&good, "exp", json!("tomorrow")))),
        ("not yet", signer.sign(&with(&good, "nbf", json!(now() + 120)))),
        ("no user", signer.sign(&with(&good, "email", json!("")))),
    ] {
        assert_eq!(me(&gateway, &token).await.0, 401, "{what}");
        let (head, _) = gateway.client_of(&token).connect("api.openai.com:443").await;
        assert_eq!(head.status, 407, "{what}");
    }
    assert_eq!(me(&gateway, &signer.sign(&good)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_fetched_once_and_a_failed_fetch_keeps_the_old_ones() {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let issuer = Issuer::start(&[&one]).await;
    let gateway = issuer.gateway().await;
    assert_eq!(me(&gateway, &one.sign(&issuer.claims())).await.0, 200);
    let before = issuer.fetches();
    // Keys that nobody knows do not make a flood of fetches.
    for _ in 0..20 {
        assert_eq!(me(&gateway, &two.sign(&issuer.claims())).await.0, 401);
    }
    assert!(issuer.fetches() <= before + 1, "{} fetches", issuer.fetches());

    issuer.publish(&[&one, &two]);
    crate::harness::eventually("the new key", async || {
        (me(&gateway, &two.sign(&issuer.claims())).await.0 == 200).then_some(())
    })
    .await;
    issuer.fake.on(KEYS, Reply::json(b"{}").status(500));
    assert_eq!(
        me(&gateway, &Signer::new("three").sign(&issuer.claims())).await.0,
        401
    );
    assert_eq!(
        me(
            &gateway,
            &one.sign(&with(&issuer.claims(), "email", json!("b@x")))
        )
        .await
        .0,
        200
    );
}
