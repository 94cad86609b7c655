//! The API as callers of every role see it: a whole bridge without its ports, with records that a recorder wrote.
//!
//! Here is what all tests share. Most go over `routes`, so that a new route or parameter without a test fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use providers::{
    Api, ReplyFacts, Thought, ThoughtSource, ToolCall, ToolKind, ToolResult, Usage, UsageSource,
};
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

mod document;
mod input;
mod roles;
mod tables;
mod tokens;

use super::routes;
use crate::app::{App, Running};
use crate::clock::{Clock, Micros};
use crate::config::{Config, Content, File, Problems, ProviderFile, RecordFile, Source};
use crate::record::{Answerer, CredentialKind, Ended, Mode, Outcome, Started};
use crate::store::NewToken;
use crate::token::Role;

/// Who calls in these tests.
const PEOPLE: [(&str, Role); 4] = [
    ("ann", Role::Member),
    ("bob", Role::Member),
    ("audrey", Role::Auditor),
    ("adam", Role::Admin),
];

/// Longest wait for a part of an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge with records.
struct World {
    app: Arc<App>,
    router: super::Router,
    /// The ids and texts of tokens, by user.
    tokens: BTreeMap<&'static str, (Uuid, String)>,
    _folder: tempfile::TempDir,
    _running: Running,
}

/// An answer with its whole body.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The field that a refusal names.
    fn field(&self) -> String {
        self.json()["field"].as_str().unwrap_or_default().to_owned()
    }
}

impl World {
    async fn with(calls: Vec<Call>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let now = Clock::fixed(SystemTime::from(Micros::parse("2026-11-24T12:00:00Z").unwrap()));
        let (app, running) = App::start(config(folder.path()), now.clone(), None)
            .await
            .unwrap();
        let mut tokens = BTreeMap::new();
        for (user, role) in PEOPLE {
            let new = NewToken {
                user: user.to_owned(),
                role,
                created_at: now.micros(),
                expires_at: None,
            };
            let (record, secret) = app.store.create_token(new).await.unwrap();
            tokens.insert(user, (record.id, secret.expose().to_owned()));
        }
        app.tokens.refresh().await;
        let recorder = app.recorder.keeping(*app.recorder.config(), Content::Full);
        for call in calls {
            let ended = call.ended();
            recorder.start(call.started()).await.unwrap();
            if let Some(ended) = ended {
                recorder.end(ended).unwrap().await.unwrap();
            }
        }
        app.store.catch_up().await.unwrap();
        World {
            router: super::router(app.clone()),
            app,
            tokens,
            _folder: folder,
            _running: running,
        }
    }

    /// What `who` is answered; nobody has no token.
    async fn ask(&self, method: Method, path: &str, who: &str, body: Option<&str>) -> Answer {
        self.send(self.request(method, path, who, body)).await
    }

    fn request(&self, method: Method, path: &str, who: &str, body: Option<&str>) -> http::Request<Body> {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some((_, token)) = self.tokens.get(who) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |text| Body::from(text.to_owned()));
        request.body(body).unwrap()
    }

    async fn get(&self, path: &str, who: &str) -> Answer {
        self.ask(Method::GET, path, who, None).await
    }

    /// The whole answer; of an event stream, which has no end, the first event.
    async fn send(&self, request: http::Request<Body>) -> Answer {
        self.send_until(request, "\n\n").await
    }

    /// The whole answer, but an event stream only until it says `last`.
    async fn send_until(&self, request: http::Request<Body>, last: &str) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, mut body) = response.into_parts();
        let is_endless = is_event_stream(&parts.headers);
        let mut text = String::new();
        let frame = async |body: &mut Body| tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
        while let Some(frame) = frame(&mut body).await {
            let bytes = frame.unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&bytes).unwrap());
            if is_endless && text.contains(last) {
                break;
            }
        }
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: text,
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "text/event-stream")
}

fn config(folder: &std::path::Path) -> Config {
    let provider = r#"
        name = "openai"
        keys = [{ literal = "sk-central-0123456789" }]
        fallback = ["backup"]
        breaker = { failures = 1 }
    "#;
    let backup = r#"
        name = "backup"
        kind = "openai"
        base-url = "https://backup.example/v1"
        keys = [{ literal = "sk-backup-0123456789" }]
    "#;
    let disabled = "name = \"chatgpt\"\nenabled = false";
    let read = |text| toml::from_str::<ProviderFile>(text).unwrap();
    let file = File {
        providers: vec![read(provider), read(backup), read(disabled)],
        record: RecordFile {
            content: Some(Content::Full),
            ..RecordFile::default()
        },
        ..File::default()
    };
    let source = Source::read(None, folder, std::iter::empty()).unwrap();
    let mut problems = Problems::default();
    let config = Config::build(&file, &source, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    config
}

/// An interception to be recorded.
#[derive(Clone)]
struct Call {
    number: u128,
    user: &'static str,
    session: &'static str,
    client: &'static str,
    model: Option<&'static str>,
    at: &'static str,
    /// How it ended, if it did.
    outcome: Option<Outcome>,
    answers: Option<&'static str>,
}

impl Call {
    fn id(&self) -> Uuid {
        let millis = u128::try_from(self.at().0 / 1_000).unwrap();
        Uuid::from_u128(millis << 80 | 0x7 << 76 | 0x8 << 60 | self.number)
    }

    fn at(&self) -> Micros {
        Micros::parse(self.at).unwrap()
    }

    fn started(&self) -> Started {
        let result = |id: &str| ToolResult {
            call_id: id.to_owned(),
            is_error: Some(false),
        };
        Started {
            id: self.id(),
            request_id: Uuid::from_u128(1 << 100 | self.number),
            connect_id: Some(Uuid::from_u128(2 << 100 | self.number)),
            user: Arc::from(self.user),
            provider: Arc::from("openai"),
            kind: "openai".into(),
            api: Api::Responses,
            model: self.model.map(str::to_owned),
            client: self.client.into(),
            client_version: Some("1.0".to_owned()),
            user_agent: Some(format!("{}/1.0", self.client)),
            session_id: Some(self.session.to_owned()),
            agent_id: Some("agent".to_owned()),
            parent_agent_id: Some("main".to_owned()),
            mode: Mode::Proxy,
            credential: CredentialKind::Byok,
            credential_hint: format!("sk-{}...1234", self.user),
            credential_fingerprint: Some("0123456789abcdef".to_owned()),
            credential_plan: Some("pro".to_owned()),
            credential_account: Some("acct-1".to_owned()),
            stream: true,
            request_bytes: 100,
            started_at: self.at(),
            prompt: Some(format!("{} asks", self.user)),
            prompt_truncated: false,
            tool_results: self.answers.map(result).into_iter().collect(),
        }
    }

    fn ended(&self) -> Option<Ended> {
        let outcome = self.outcome?;
        let failed = outcome != Outcome::Completed;
        let facts = ReplyFacts {
            response_id: Some(format!("resp_{}", self.number)),
            model: Some("gpt-answered".to_owned()),
            finish_reason: Some("stop".to_owned()),
            usage: Some(Usage {
                input: 10,
                output: 5,
                cache_read: 3,
                cache_write: 2,
                reasoning: 1,
                extra: [("audio".to_owned(), 4)].into(),
            }),
            usage_source: UsageSource::Reported,
            tool_calls: vec![ToolCall {
                id: format!("call_{}", self.user),
                name: format!("tool_{}", self.user),
                arguments: "{}".to_owned(),
                kind: ToolKind::Function,
                server: None,
                truncated: false,
            }],
            thoughts: vec![Thought {
                text: format!("{} may want this", self.user),
                source: ThoughtSource::Thinking,
            }],
            output: Some("Here it is.".to_owned()),
            ..ReplyFacts::default()
        };
        Some(Ended {
            id: self.id(),
            outcome,
            status: Some(if failed { 502 } else { 200 }),
            error_kind: failed.then(|| "connect".to_owned()),
            error_message: failed.then(|| "no connection".to_owned()),
            first_token_at: Some(self.at().plus(Duration::from_millis(100))),
            ended_at: self.at().plus(Duration::from_secs(1)),
            overhead_us: 150,
            response_bytes: 1_000,
            retries: 1,
            answerer: failed.then(|| Answerer {
                provider: Arc::from("backup"),
                credential_hint: "sk-b...1234".to_owned(),
            }),
            facts: (outcome != Outcome::Refused).then_some(facts),
            cost_micros: Some(40),
        })
    }
}

const CALL: Call = Call {
    number: 0,
    user: "ann",
    session: "s-ann",
    client: "Codex",
    model: Some("gpt-5.5"),
    at: "2026-11-20T08:00:00Z",
    outcome: Some(Outcome::Completed),
    answers: None,
};

/// What Ann did: several clients, models, days and ends.
fn anns() -> Vec<Call> {
    let other = Call {
        client: "Zed",
        model: Some("gpt-mini"),
        session: "same",
        ..CALL
    };
    vec![
        CALL,
        // It answers a call of its own, and one that is not Ann's.
        Call {
            number: 1,
            at: "2026-11-20T09:00:00Z",
            answers: Some("call_ann"),
            ..CALL
        },
        Call {
            number: 2,
            at: "2026-11-21T00:00:00Z",
            answers: Some("call_bob"),
            ..other
        },
        Call {
            number: 3,
            at: "2026-11-21T23:59:59Z",
            outcome: Some(Outcome::Failed),
            ..other
        },
        Call {
            number: 4,
            at: "2026-11-22T12:00:00Z",
            outcome: Some(Outcome::Refused),
            model: None,
            ..CALL
        },
        Call {
            number: 5,
            at: "2026-11-22T13:00:00Z",
            outcome: Some(Outcome::Aborted),
            ..other
        },
        Call {
            number: 6,
            at: "2026-11-23T08:00:00Z",
            outcome: None,
            ..CALL
        },
    ]
}

/// What Bob did: the same in part, and what Ann never did.
fn bobs() -> Vec<Call> {
    let bob = Call {
        user: "bob",
        session: "s-bob",
        ..CALL
    };
    let own = Call {
        client: "bobs-client",
        model: Some("bobs-model"),
        session: "same",
        ..bob
    };
    vec![
        Call {
            number: 100,
            at: "2026-11-19T08:00:00Z",
            ..own
        },
        Call {
            number: 101,
            at: "2026-11-20T08:30:00Z",
            ..bob
        },
        Call {
            number: 102,
            at: "2026-11-21T00:00:00Z",
            outcome: Some(Outcome::Failed),
            ..own
        },
        Call {
            number: 103,
            at: "2026-11-22T12:30:00Z",
            outcome: None,
            ..bob
        },
        Call {
            number: 104,
            at: "2026-11-23T09:00:00Z",
            ..own
        },
    ]
}

/// What both did, in the order of time.
fn everyones() -> Vec<Call> {
    let mut calls: Vec<Call> = anns().into_iter().chain(bobs()).collect();
    calls.sort_by_key(Call::at);
    calls
}
