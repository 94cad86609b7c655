//! The chain of a process's records, by which a change behind the gateway's back is noticed.
//!
//! Every process has a chain of its own. A link covers one event of an interception (`seal_start`, `seal_end`) or
//! a note of what was deleted on purpose, and the link before it. What the store derives (sessions, threads,
//! results of tool calls, costs) is not covered. A sealed record is read back from its row by the same fields in
//! the same order, so anything added to one of the pairs here must be added to the other.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::content::{Digest, sha256};
use super::rows::InterceptionRow;
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

/// What a link says of a start that is being written.
pub(super) fn seal_start(started: &Started) -> Digest {
    let mut seal = Seal::new();
    seal.bytes(Some(started.id.as_bytes()))
        .bytes(Some(started.request_id.as_bytes()))
        .bytes(started.connect_id.as_ref().map(|id| id.as_bytes().as_slice()))
        .text(Some(&started.user))
        .text(Some(&started.provider))
        .text(Some(&started.kind))
        .text(Some(started.api.as_str()))
        .text(started.model.as_deref())
        .text(Some(&started.client))
        .text(started.client_version.as_deref())
        .text(started.user_agent.as_deref())
        .text(started.agent_id.as_deref())
        .text(started.parent_agent_id.as_deref())
        .text(Some(started.mode.as_str()))
        .text(Some(started.credential.as_str()))
        .text(Some(&started.credential_hint))
        .number(started.stream)
        .number(signed(started.request_bytes))
        .text(Some(&started.started_at.rfc3339()))
        .bytes(
            started
                .prompt
                .as_ref()
                .map(|text| sha256(text.as_bytes()))
                .as_ref()
                .map(Digest::as_slice),
        )
        .number(started.prompt.is_some() && started.prompt_truncated);
    seal.finish()
}

/// What a link must say of the start of a stored interception.
pub(super) fn reseal_start(row: &InterceptionRow) -> Digest {
    let mut seal = Seal::new();
    let (provider, hint) = match &row.asked {
        Some((provider, hint)) => (provider.as_str(), hint.as_str()),
        None => (
            row.provider.as_str(),
            row.credential_hint.as_deref().unwrap_or_default(),
        ),
    };
    seal.bytes(Some(row.id.as_bytes()))
        .bytes(Some(row.request_id.as_bytes()))
        .bytes(row.connect_id.as_ref().map(|id| id.as_bytes().as_slice()))
        .text(Some(&row.user))
        .text(Some(provider))
        .text(Some(&row.kind))
        .text(Some(row.api))
        .text(row.model.as_deref())
        .text(Some(&row.client))
        .text(row.client_version.as_deref())
        .text(row.user_agent.as_deref())
        .text(row.agent_id.as_deref())
        .text(row.parent_agent_id.as_deref())
        .text(Some(row.mode))
        .text(Some(row.credential_kind))
        .text(Some(hint))
        .number(row.stream)
        .number(row.request_bytes)
        .text(Some(&row.started_at))
        .bytes(row.digests.prompt.as_ref().map(Digest::as_slice))
        .number(row.prompt_truncated);
    seal.finish()
}

/// What a link says of an end that is being written.
pub(super) fn seal_end(ended: &Ended) -> Digest {
    let mut seal = Seal::new();
    let facts = ended.facts.as_ref();
    seal.bytes(Some(ended.id.as_bytes()))
        .text(Some(ended.outcome.as_str()))
        .optional(ended.status.map(i64::from))
        .text(ended.error_kind.as_deref())
        .text(ended.error_message.as_deref())
        .text(ended.first_token_at.map(crate::clock::Micros::rfc3339).as_deref())
        .text(Some(&ended.ended_at.rfc3339()))
        .number(signed(ended.overhead_us))
        .number(signed(ended.response_bytes))
        .number(ended.retries)
        .text(ended.answerer.as_ref().map(|answerer| &*answerer.provider))
        .text(
            ended
                .answerer
                .as_ref()
                .map(|answerer| answerer.credential_hint.as_str()),
        )
        .text(facts.and_then(|facts| facts.model.as_deref()))
        .text(facts.and_then(|facts| facts.finish_reason.as_deref()))
        .text(facts.and_then(|facts| facts.response_id.as_deref()));
    let Some(facts) = facts else {
        return seal.number(0).number(0).number(0).bytes(None).finish();
    };
    seal.number(facts.usage.is_some());
    if let Some(usage) = &facts.usage {
        for count in [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
            usage.reasoning,
        ] {
            seal.number(super::write::tokens(count));
        }
        seal.text(super::write::extra(usage).as_deref())
            .text(Some(facts.usage_source.as_str()));
    }
    seal.number(signed(facts.tool_calls.len() as u64));
    for call in &facts.tool_calls {
        seal.text(Some(&call.id))
            .text(Some(&call.name))
            .text(Some(call.kind.as_str()))
            .number(call.truncated)
            .bytes(Some(&sha256(call.arguments.as_bytes())));
    }
    seal.number(signed(facts.thoughts.len() as u64));
    for thought in &facts.thoughts {
        seal.text(Some(thought.source.as_str()))
            .bytes(Some(&sha256(thought.text.as_bytes())));
    }
    let output = facts.output.as_ref().map(|text| sha256(text.as_bytes()));
    seal.bytes(output.as_ref().map(Digest::as_slice)).finish()
}

/// What a link must say of the end of a stored interception.
pub(super) fn reseal_end(row: &InterceptionRow) -> Digest {
    let mut seal = Seal::new();
    seal.bytes(Some(row.id.as_bytes()))
        .text(Some(row.outcome.unwrap_or_default()))
        .optional(row.status.map(i64::from))
        .text(row.error_kind.as_deref())
        .text(row.error_message.as_deref())
        .text(row.first_token_at.as_deref())
        .text(Some(row.ended_at.as_deref().unwrap_or_default()))
        .number(row.overhead_us.unwrap_or(0))
        .number(row.response_bytes.unwrap_or(0))
        .number(row.retries)
        .text(row.asked.as_ref().map(|_| row.provider.as_str()))
        .text(row.asked.as_ref().and(row.credential_hint.as_deref()))
        .text(row.model_answered.as_deref())
        .text(row.finish_reason.as_deref())
        .text(row.response_id.as_deref());
    seal.number(!row.usage.is_empty());
    for usage in &row.usage {
        for count in [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
            usage.reasoning,
        ] {
            seal.number(count);
        }
        seal.text(usage.extra.as_deref().map(RawValue::get))
            .text(Some(usage.source));
    }
    seal.number(signed(row.tool_calls.len() as u64));
    for (call, digest) in row.tool_calls.iter().zip(&row.digests.arguments) {
        seal.text(Some(&call.id))
            .text(Some(&call.name))
            .text(Some(call.kind))
            .number(call.truncated)
            .bytes(Some(digest));
    }
    seal.number(signed(row.thoughts.len() as u64));
    for (thought, digest) in row.thoughts.iter().zip(&row.digests.thoughts) {
        seal.text(Some(thought.source)).bytes(Some(digest));
    }
    seal.bytes(row.digests.output.as_ref().map(Digest::as_slice))
        .finish()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
