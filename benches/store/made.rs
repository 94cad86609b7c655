//! Made-up interceptions that are spread as real ones are.

use std::sync::Arc;

use bridged::clock::Micros;
use bridged::record::{CredentialKind, Ended, Mode, Outcome, Started};
use providers::{Api, ReplyFacts, ToolCall, ToolKind, Usage, UsageSource};
use uuid::Uuid;

use crate::words::Vocabulary;

const USERS: u64 = 40;
const MODELS: u64 = 30;
const CLIENTS: [&str; 12] = [
    "Codex",
    "Claude Code",
    "Copilot CLI",
    "VS Code",
    "JetBrains",
    "Cursor",
    "Zed",
    "Aider",
    "Goose",
    "curl",
    "Python",
    "Node",
];
const PROVIDERS: [&str; 6] = [
    "openai",
    "chatgpt",
    "copilot",
    "copilot-business",
    "anthropic",
    "local",
];
pub(crate) fn user(number: u64) -> String {
    format!("user{:02}@example.org", number % USERS)
}

pub(crate) fn client(number: u64) -> &'static str {
    CLIENTS[(number % CLIENTS.len() as u64) as usize]
}

pub(crate) fn provider(number: u64) -> &'static str {
    PROVIDERS[(number % PROVIDERS.len() as u64) as usize]
}

pub(crate) fn model(number: u64) -> String {
    format!("model-{}", number % MODELS)
}

/// Makes one after the other, by a random generator of its own that gives the same in each run.
pub(crate) struct Maker {
    random: u64,
    made: u64,
    /// The date of the next one, in microseconds.
    date: i64,
    words: Vocabulary,
}

impl Maker {
    /// For `rows` interceptions, ten seconds apart, of which the last is in the year 2026.
    pub(crate) fn new(rows: u64) -> Maker {
        Maker {
            random: 0x9E37_79B9_7F4A_7C15,
            made: 0,
            date: 1_795_000_000_000_000 - 10_000_000 * i64::try_from(rows).unwrap(),
            words: Vocabulary::new(),
        }
    }

    /// The date of the last one, in microseconds.
    pub(crate) fn date(&self) -> i64 {
        self.date
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// The id of a session that there is; 0.7 an interception.
    pub(crate) fn session(&self, number: u64) -> String {
        format!("session-{}", number % (self.made * 7 / 10).max(1))
    }

    /// The date before which this many hundredths of the interceptions began.
    pub(crate) fn date_of(&self, hundredths: u64) -> Micros {
        let made = 10_000_000 * i64::try_from(self.made).unwrap();
        Micros(self.date - made + made / 100 * i64::try_from(hundredths).unwrap())
    }

    /// The word of this rank.
    pub(crate) fn word(&self, rank: usize) -> &str {
        self.words.ranked(rank)
    }

    /// A name of two words, as there are few.
    pub(crate) fn name(&self) -> String {
        format!("{}_{}", self.word(700), self.word(1_400))
    }

    pub(crate) fn next(&mut self) -> (Started, Ended) {
        self.date += 10_000_000;
        self.made += 1;
        let session = self.made * 7 / 10;
        let id = uuid(self.date, self.random(u64::MAX));
        // What belongs to a session is its user's and mostly of one client.
        let spread = |number: u64| session.wrapping_mul(0x2545_F491_4F6C_DD1D) >> number;
        let chosen = spread(17) + u64::from(self.random(10) == 0);
        let started = Started {
            id,
            request_id: id,
            connect_id: Some(uuid(self.date, self.random(u64::MAX))),
            user: Arc::from(user(spread(7))),
            provider: Arc::from(provider(chosen)),
            kind: "openai".into(),
            api: Api::Responses,
            model: Some(model(chosen)),
            client: client(spread(29)).into(),
            client_version: Some(format!("1.{}", spread(40) % 20)),
            user_agent: Some(format!("{}/1.{}", client(spread(29)), spread(40) % 20)),
            session_id: Some(format!("session-{session}")),
            agent_id: None,
            parent_agent_id: None,
            mode: Mode::Proxy,
            credential: CredentialKind::Byok,
            credential_hint: "sk-u...6789".to_owned(),
            credential_fingerprint: Some("0123456789abcdef".to_owned()),
            credential_plan: None,
            credential_account: None,
            stream: true,
            request_bytes: 9_000,
            started_at: Micros(self.date),
            prompt: Some(self.text(2_048)),
            prompt_truncated: false,
            tool_results: Vec::new(),
        };
        let ended = self.end(id);
        (started, ended)
    }

    fn end(&mut self, id: Uuid) -> Ended {
        let calls = u64::from(self.random(3) == 0);
        let call = |number| ToolCall {
            id: format!("call_{}_{number}", id.simple()),
            name: "shell".to_owned(),
            server: None,
            arguments: "{\"command\":[\"cargo\",\"test\"]}".to_owned(),
            kind: ToolKind::Function,
            truncated: false,
        };
        let facts = ReplyFacts {
            response_id: Some(format!("resp_{}", id.simple())),
            finish_reason: Some("stop".to_owned()),
            usage: Some(Usage {
                input: self.random(20_000),
                output: self.random(2_000),
                cache_read: self.random(50_000),
                ..Usage::default()
            }),
            usage_source: UsageSource::Reported,
            tool_calls: (0..calls).map(call).collect(),
            ..ReplyFacts::default()
        };
        Ended {
            id,
            outcome: if self.random(50) == 0 {
                Outcome::Failed
            } else {
                Outcome::Completed
            },
            status: Some(200),
            error_kind: None,
            error_message: None,
            first_token_at: Some(Micros(self.date + 400_000)),
            ended_at: Micros(self.date + 5_000_000),
            overhead_us: 130,
            response_bytes: 4_000,
            retries: 0,
            answerer: None,
            facts: Some(facts),
            cost_micros: Some(1_250),
        }
    }

    fn text(&mut self, length: usize) -> String {
        let mut text = String::with_capacity(length + 32);
        while text.len() < length {
            let draw = self.random(u64::MAX);
            text.push_str(self.words.drawn(draw));
            // One in twelve is a name as programs have them; most of these are rare.
            if draw >> 32 & 0xfff < 0x155 {
                let second = self.random(u64::MAX);
                text.push('_');
                text.push_str(self.words.drawn(second));
            }
            text.push(' ');
        }
        text
    }
}

/// An id of this date.
fn uuid(date: i64, random: u64) -> Uuid {
    let millis = u128::try_from(date / 1_000).unwrap();
    let version = 0x7000_u128 << 64 | 0x8000_u128 << 48;
    Uuid::from_u128(millis << 80 | version | u128::from(random & 0x3fff_ffff_ffff))
}
