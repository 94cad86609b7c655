//! The chain of a process's records, by which a change behind the gateway's back is noticed.
//!
//! Every process has a chain of its own. A link covers one event of an interception (`seal_start`, `seal_end`) or
//! a note of what was deleted on purpose, and the link before it. What the store derives (sessions, threads,
//! results of tool calls, costs) is not covered. `Start` and `End` are what is sealed: both the event and the row that
//! it became are seen through them, so that one order of fields serves for sealing and for checking.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::content::{Digest, sha256};
use super::rows::InterceptionRow;
use super::write::{counts, extra};
use crate::clock::Micros;
use crate::record::{Ended, Started};

/// What a link covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkKind {
    Start,
    End,
    Note,
}

impl LinkKind {
    pub(super) const fn code(self) -> u8 {
        match self {
            LinkKind::Start => 1,
            LinkKind::End => 2,
            LinkKind::Note => 3,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<LinkKind> {
        match code {
            1 => Some(LinkKind::Start),
            2 => Some(LinkKind::End),
            3 => Some(LinkKind::Note),
            _ => None,
        }
    }
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Links so far.
    pub(super) n: i64,
    pub(super) hash: Digest,
}

impl Head {
    /// The beginning of the chain of the process named `instance`.
    pub(super) fn new(instance: Uuid) -> Head {
        Head {
            n: 0,
            hash: sha256(instance.as_bytes()),
        }
    }

    /// The head after one more link.
    pub(super) fn then(self, kind: LinkKind, id: Option<Uuid>, seal: &Digest) -> Head {
        let n = self.n + 1;
        let mut context = Context::new(&SHA256);
        context.update(&self.hash);
        context.update(&n.to_be_bytes());
        context.update(&[kind.code()]);
        context.update(id.unwrap_or_default().as_bytes());
        context.update(seal);
        Head {
            n,
            hash: finish(context),
        }
    }
}

fn finish(context: Context) -> Digest {
    let mut sum = Digest::default();
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

/// Hashes fields one after the other, each so that it cannot be mistaken for parts of its neighbours.
struct Seal(Vec<u8>);

impl Seal {
    fn new() -> Seal {
        Seal(Vec::with_capacity(512))
    }

    fn text(&mut self, text: Option<&str>) -> &mut Seal {
        self.bytes(text.map(str::as_bytes))
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) -> &mut Seal {
        match bytes {
            None => self.0.push(0),
            Some(bytes) => {
                self.0.push(1);
                self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
                self.0.extend_from_slice(bytes);
            }
        }
        self
    }

    fn number(&mut self, number: impl Into<i64>) -> &mut Seal {
        self.bytes(Some(&number.into().to_be_bytes()))
    }

    fn optional(&mut self, number: Option<i64>) -> &mut Seal {
        self.bytes(number.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    fn finish(&self) -> Digest {
        sha256(&self.0)
    }
}

/// What a link says of a start: made of the start itself when it is written, and of its row when that is checked.
struct Start<'a> {
    ids: (&'a Uuid, &'a Uuid, Option<&'a Uuid>),
    user: &'a str,
    provider: &'a str,
    kind: &'a str,
    api: &'a str,
    model: Option<&'a str>,
    client: &'a str,
    client_version: Option<&'a str>,
    user_agent: Option<&'a str>,
    agents: [Option<&'a str>; 2],
    mode: &'a str,
    credential: &'a str,
    credential_hint: &'a str,
    /// Fingerprint, plan and account.
    marks: [Option<&'a str>; 3],
    stream: bool,
    request_bytes: i64,
    started_at: &'a str,
    prompt: Option<&'a Digest>,
    prompt_truncated: bool,
}

impl Start<'_> {
    fn seal(&self) -> Digest {
        let mut seal = Seal::new();
        let (id, request, connect) = self.ids;
        seal.bytes(Some(id.as_bytes()))
            .bytes(Some(request.as_bytes()))
            .bytes(connect.map(|id| id.as_bytes().as_slice()))
            .text(Some(self.user))
            .text(Some(self.provider))
            .text(Some(self.kind))
            .text(Some(self.api))
            .text(self.model)
            .text(Some(self.client))
            .text(self.client_version)
            .text(self.user_agent);
        self.agents.iter().for_each(|agent| {
            seal.text(*agent);
        });
        seal.text(Some(self.mode))
            .text(Some(self.credential))
            .text(Some(self.credential_hint))
            .number(self.stream)
            .number(self.request_bytes)
            .text(Some(self.started_at))
            .bytes(self.prompt.map(Digest::as_slice))
            .number(self.prompt_truncated);
        // Records from before there were marks are sealed without them.
        if self.marks.iter().any(Option::is_some) {
            self.marks.iter().for_each(|mark| {
                seal.text(*mark);
            });
        }
        seal.finish()
    }
}

/// What a link says of a start that is being written.
pub(super) fn seal_start(started: &Started) -> Digest {
    let prompt = started.prompt.as_ref().map(|text| sha256(text.as_bytes()));
    Start {
        ids: (&started.id, &started.request_id, started.connect_id.as_ref()),
        user: &started.user,
        provider: &started.provider,
        kind: &started.kind,
        api: started.api.as_str(),
        model: started.model.as_deref(),
        client: &started.client,
        client_version: started.client_version.as_deref(),
        user_agent: started.user_agent.as_deref(),
        agents: [started.agent_id.as_deref(), started.parent_agent_id.as_deref()],
        mode: started.mode.as_str(),
        credential: started.credential.as_str(),
        credential_hint: &started.credential_hint,
        marks: [
            started.credential_fingerprint.as_deref(),
            started.credential_plan.as_deref(),
            started.credential_account.as_deref(),
        ],
        stream: started.stream,
        request_bytes: signed(started.request_bytes),
        started_at: &started.started_at.rfc3339(),
        prompt: prompt.as_ref(),
        prompt_truncated: started.prompt.is_some() && started.prompt_truncated,
    }
    .seal()
}

/// What a link must say of the start of a stored interception.
pub(super) fn reseal_start(row: &InterceptionRow) -> Digest {
    let (provider, hint) = match &row.asked {
        Some((provider, hint)) => (provider.as_str(), hint.as_str()),
        None => (
            row.provider.as_str(),
            row.credential_hint.as_deref().unwrap_or_default(),
        ),
    };
    Start {
        ids: (&row.id, &row.request_id, row.connect_id.as_ref()),
        user: &row.user,
        provider,
        kind: &row.kind,
        api: row.api,
        model: row.model.as_deref(),
        client: &row.client,
        client_version: row.client_version.as_deref(),
        user_agent: row.user_agent.as_deref(),
        agents: [row.agent_id.as_deref(), row.parent_agent_id.as_deref()],
        mode: row.mode,
        credential: row.credential_kind,
        credential_hint: hint,
        marks: [
            row.credential_fingerprint.as_deref(),
            row.credential_plan.as_deref(),
            row.credential_account.as_deref(),
        ],
        stream: row.stream,
        request_bytes: row.request_bytes,
        started_at: &row.started_at,
        prompt: row.digests.prompt.as_ref(),
        prompt_truncated: row.prompt_truncated,
    }
    .seal()
}

/// What a link says of an end, but for the parts of the reply; made of either, as `Start`.
struct End<'a> {
    id: &'a Uuid,
    outcome: &'a str,
    status: Option<u16>,
    error: [Option<&'a str>; 2],
    first_token_at: Option<&'a str>,
    ended_at: &'a str,
    overhead_us: i64,
    response_bytes: i64,
    retries: u32,
    /// Provider and credential hint of who answered, if that is not who was asked first.
    answerer: [Option<&'a str>; 2],
    /// Model, reason of the end, and id.
    reply: [Option<&'a str>; 3],
}

/// The counts of a usage, what else was counted, and the source of all that.
type Counts<'a> = ([i64; 5], Option<&'a str>, &'a str);
/// A tool call: id, name, kind, whether its arguments were cut, and their digest.
type Call<'a> = (&'a str, &'a str, &'a str, bool, Digest);
/// A thought: its source and its text's digest.
type Thought<'a> = (&'a str, Digest);

impl End<'_> {
    fn seal<'p>(
        &self,
        usage: Option<Counts<'p>>,
        calls: impl ExactSizeIterator<Item = Call<'p>>,
        thoughts: impl ExactSizeIterator<Item = Thought<'p>>,
        output: Option<Digest>,
    ) -> Digest {
        let mut seal = Seal::new();
        let [error_kind, error_message] = self.error;
        let [provider, hint] = self.answerer;
        let [model, finish_reason, response_id] = self.reply;
        seal.bytes(Some(self.id.as_bytes()))
            .text(Some(self.outcome))
            .optional(self.status.map(i64::from))
            .text(error_kind)
            .text(error_message)
            .text(self.first_token_at)
            .text(Some(self.ended_at))
            .number(self.overhead_us)
            .number(self.response_bytes)
            .number(self.retries)
            .text(provider)
            .text(hint)
            .text(model)
            .text(finish_reason)
            .text(response_id)
            .number(usage.is_some());
        if let Some((counts, extra, source)) = usage {
            counts.iter().for_each(|count| {
                seal.number(*count);
            });
            seal.text(extra).text(Some(source));
        }
        seal.number(signed(calls.len() as u64));
        for (id, name, kind, truncated, arguments) in calls {
            seal.text(Some(id))
                .text(Some(name))
                .text(Some(kind))
                .number(truncated)
                .bytes(Some(&arguments));
        }
        seal.number(signed(thoughts.len() as u64));
        for (source, text) in thoughts {
            seal.text(Some(source)).bytes(Some(&text));
        }
        seal.bytes(output.as_ref().map(Digest::as_slice)).finish()
    }
}

/// What a link says of an end that is being written.
pub(super) fn seal_end(ended: &Ended) -> Digest {
    let facts = ended.facts.as_ref();
    let answerer = ended.answerer.as_ref();
    let first_token_at = ended.first_token_at.map(Micros::rfc3339);
    let end = End {
        id: &ended.id,
        outcome: ended.outcome.as_str(),
        status: ended.status,
        error: [ended.error_kind.as_deref(), ended.error_message.as_deref()],
        first_token_at: first_token_at.as_deref(),
        ended_at: &ended.ended_at.rfc3339(),
        overhead_us: signed(ended.overhead_us),
        response_bytes: signed(ended.response_bytes),
        retries: ended.retries,
        answerer: [
            answerer.map(|answerer| &*answerer.provider),
            answerer.map(|answerer| answerer.credential_hint.as_str()),
        ],
        reply: [
            facts.and_then(|facts| facts.model.as_deref()),
            facts.and_then(|facts| facts.finish_reason.as_deref()),
            facts.and_then(|facts| facts.response_id.as_deref()),
        ],
    };
    let extra = facts.and_then(|facts| extra(facts.usage.as_ref()?));
    let usage = facts.and_then(|facts| {
        let usage = facts.usage.as_ref()?;
        Some((counts(usage), extra.as_deref(), facts.usage_source.as_str()))
    });
    let calls = facts.map_or(&[][..], |facts| &facts.tool_calls);
    let calls = calls.iter().map(|call| {
        let arguments = sha256(call.arguments.as_bytes());
        let kind = call.kind.as_str();
        (
            call.id.as_str(),
            call.name.as_str(),
            kind,
            call.truncated,
            arguments,
        )
    });
    let thoughts = facts.map_or(&[][..], |facts| &facts.thoughts);
    let thoughts = thoughts
        .iter()
        .map(|thought| (thought.source.as_str(), sha256(thought.text.as_bytes())));
    let output = facts.and_then(|facts| Some(sha256(facts.output.as_ref()?.as_bytes())));
    end.seal(usage, calls, thoughts, output)
}

/// What a link must say of the end of a stored interception.
pub(super) fn reseal_end(row: &InterceptionRow) -> Digest {
    let moved = row.asked.is_some();
    let end = End {
        id: &row.id,
        outcome: row.outcome.unwrap_or_default(),
        status: row.status,
        error: [row.error_kind.as_deref(), row.error_message.as_deref()],
        first_token_at: row.first_token_at.as_deref(),
        ended_at: row.ended_at.as_deref().unwrap_or_default(),
        overhead_us: row.overhead_us.unwrap_or(0),
        response_bytes: row.response_bytes.unwrap_or(0),
        retries: row.retries,
        answerer: [
            moved.then_some(row.provider.as_str()),
            row.credential_hint.as_deref().filter(|_| moved),
        ],
        reply: [
            row.model_answered.as_deref(),
            row.finish_reason.as_deref(),
            row.response_id.as_deref(),
        ],
    };
    let usage = row.usage.first().map(|usage| {
        let counts = [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
            usage.reasoning,
        ];
        (counts, usage.extra.as_deref().map(RawValue::get), usage.source)
    });
    let calls = row.tool_calls.iter().zip(&row.digests.arguments);
    let calls = calls.map(|(call, arguments)| {
        (
            call.id.as_str(),
            call.name.as_str(),
            call.kind,
            call.truncated,
            *arguments,
        )
    });
    let thoughts = row.thoughts.iter().zip(&row.digests.thoughts);
    let thoughts = thoughts.map(|(thought, text)| (thought.source, *text));
    end.seal(usage, calls, thoughts, row.digests.output)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
