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

/// Who asked by what: a user, and one of that user's clients and models.
pub(crate) struct Habit {
    pub(crate) user: String,
    pub(crate) client: &'static str,
    pub(crate) provider: &'static str,
    pub(crate) model: String,
}

impl Habit {
    /// One that there is: users have one to three clients and two to four models. Models have one provider each.
    pub(crate) fn new(user: u64, client: u64, model: u64) -> Habit {
        let user = user % USERS;
        let client = user + client % (1 + user % 3) * 5;
        let model = user + model % (2 + user / 3 % 3) * 7;
        Habit::odd(user, client, model)
    }

    /// Any user with any client and model.
    fn odd(user: u64, client: u64, model: u64) -> Habit {
        let model = model % MODELS;
        Habit {
            user: format!("user{user:02}@example.org"),
            client: CLIENTS[(client % CLIENTS.len() as u64) as usize],
            provider: PROVIDERS[(model % PROVIDERS.len() as u64) as usize],
            model: format!("model-{model}"),
        }
    }

    /// That of a session: the busiest of forty users has sixteen sessions in a hundred, the laziest one. One session in
    /// five hundred is of somebody who tries another client and model. `other` says which request uses another model.
    fn of_session(session: u64, other: u64) -> Habit {
        let spread = |salt: u64| mixed(session ^ salt << 56);
        let share = (spread(1) % 65_536) as f64 / 65_536.0;
        let user = (share * share * USERS as f64) as u64;
        if spread(2) % 500 == 0 {
            Habit::odd(user, spread(3), spread(4))
        } else {
            Habit::new(user, spread(3) % 1_000, spread(4) % 1_000 + other)
        }
    }
}

/// A number that looks drawn by chance.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// When the last one begins, in microseconds: in November 2026.
const END: i64 = 1_795_000_000_000_000;

/// Makes one after the other, and the same in each run, wherever it begins.
pub(crate) struct Maker {
    rows: u64,
    made: u64,
    random: u64,
    /// Microseconds from one to the next.
    pace: i64,
    words: Vocabulary,
}

impl Maker {
    /// For `rows` interceptions, of which so many were made before.
    pub(crate) fn new(rows: u64, made: u64) -> Maker {
        // A million in 60 days, ten million in 400: who has used AI for longer uses more of it.
        let days = 60.0 * (rows as f64 / 1_000_000.0).powf(0.824);
        Maker {
            rows,
            made,
            random: 0,
            pace: (days * 86_400_000_000.0 / rows as f64) as i64,
            words: Vocabulary::new(),
        }
    }

    /// When the last of all rows begins, in microseconds.
    pub(crate) fn end() -> i64 {
        END
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// The id of a session that there is; 0.7 an interception.
    pub(crate) fn session(&self, number: u64) -> String {
        format!("session-{}", number % (self.rows * 7 / 10).max(1))
    }

    fn date(&self, number: u64) -> i64 {
        END - self.pace * (self.rows as i64 - number as i64)
    }

    /// The date before which this many hundredths of the interceptions began.
    pub(crate) fn date_of(&self, hundredths: u64) -> Micros {
        Micros(self.date(self.rows * hundredths / 100))
    }

    /// The word of this rank.
    pub(crate) fn word(&self, rank: usize) -> &str {
        self.words.ranked(rank)
    }

    /// A name of two words of these ranks.
    pub(crate) fn name(&self, first: usize, second: usize) -> String {
        format!("{}_{}", self.word(first), self.word(second))
    }

    pub(crate) fn next(&mut self) -> (Started, Ended) {
        self.made += 1;
        self.random = mixed(self.made) | 1;
        let date = self.date(self.made);
        let session = self.made * 7 / 10;
        let habit = Habit::of_session(session, u64::from(self.random(10) == 0));
        let version = mixed(session) % 20;
        let id = uuid(date, self.random(u64::MAX));
        let started = Started {
            id,
            request_id: id,
            connect_id: Some(uuid(date, self.random(u64::MAX))),
            user: Arc::from(habit.user),
            provider: Arc::from(habit.provider),
            kind: "openai".into(),
            api: Api::Responses,
            model: Some(habit.model),
            client: habit.client.into(),
            client_version: Some(format!("1.{version}")),
            user_agent: Some(format!("{}/1.{version}", habit.client)),
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
            started_at: Micros(date),
            prompt: Some(self.text(2_048)),
            prompt_truncated: false,
            tool_results: Vec::new(),
        };
        let ended = self.end_of(id, date);
        (started, ended)
    }

    fn end_of(&mut self, id: Uuid, date: i64) -> Ended {
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
            first_token_at: Some(Micros(date + 400_000)),
            ended_at: Micros(date + 5_000_000),
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
