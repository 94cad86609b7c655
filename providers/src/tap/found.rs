//! What a tap has found so far: the common part of all readers, with every bound in one place.

use super::TapLimits;
use super::counts::{Counting, Counts};
use super::facts::{
    ReplyError, ReplyFacts, TapProblem, Thought, ThoughtSource, ToolCall, Usage, UsageSource,
};
use crate::json::Json;
use crate::text;

/// The facts in the making.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) facts: ReplyFacts,
    pub(super) limits: TapLimits,
    pub(super) saw_output: bool,
    /// The provider's own end of the stream was seen.
    pub(super) terminal: bool,
    /// The reply says that the model has not ended.
    pub(super) under_way: bool,
    /// The reply is whole.
    pub(super) complete: bool,
    /// Tokens that a request not made would use.
    pub(super) counted: Option<u64>,
    status: u16,
    counts: Counts,
    output_bytes: usize,
    /// Bytes of text that may still be kept, over all texts.
    left: usize,
}

/// Texts of the longest length that one reply may fill.
const FULL_TEXTS: usize = 32;

/// The longest error message that is kept, in bytes.
const MESSAGE_MAX: usize = 2048;

/// Bytes of text that make a token, roughly, in the languages and code that models read.
const BYTES_PER_TOKEN: usize = 4;

impl Found {
    pub(super) fn new(status: u16, limits: TapLimits) -> Found {
        Found {
            facts: ReplyFacts::default(),
            limits,
            saw_output: false,
            terminal: false,
            under_way: false,
            complete: false,
            counted: None,
            status,
            counts: Counts::default(),
            output_bytes: 0,
            left: limits.text.saturating_mul(FULL_TEXTS),
        }
    }

    /// Notes a problem. The gravest stays, not the first: which comes first depends on how the bytes are cut.
    pub(super) fn note(&mut self, problem: TapProblem) {
        self.facts.problem = self.facts.problem.max(Some(problem));
    }

    pub(super) fn set_id(&mut self, id: Option<Json<'_>>) {
        set_once(&mut self.facts.response_id, id);
    }

    pub(super) fn set_model(&mut self, model: Option<Json<'_>>) {
        set_once(&mut self.facts.model, model);
    }

    pub(super) fn set_finish(&mut self, reason: Option<Json<'_>>) {
        if let Some(reason) = reason.and_then(Json::text).filter(|reason| !reason.is_empty()) {
            self.facts.finish_reason = Some(text::short(&reason));
        }
    }

    /// Takes the service tier in; the last word counts, because a stream begins with the tier that was asked for.
    pub(super) fn set_tier(&mut self, tier: Option<Json<'_>>) {
        let known = self.facts.service_tier.as_deref().unwrap_or_default();
        // Every chunk of a stream repeats it.
        if let Some(tier) = tier.filter(|tier| !tier.is_text(known)).and_then(Json::text) {
            self.facts.service_tier = Some(text::short(&tier));
        }
    }

    /// Takes a report of usage in; tells whether it was one.
    pub(super) fn add_usage(&mut self, usage: Option<Json<'_>>) -> bool {
        usage.is_some_and(|usage| self.counts.merge(usage))
    }

    /// Whether anybody needs the text of the answer.
    pub(super) fn wants_output(&self) -> bool {
        self.limits.keep_output || self.limits.request_text.is_some()
    }

    /// Counts generated text; tells whether there was any.
    pub(super) fn count_output(&mut self, delta: Option<Json<'_>>) -> bool {
        let length = delta.and_then(Json::inner).map_or(0, <[u8]>::len);
        self.output_bytes = self.output_bytes.saturating_add(length);
        self.saw_output |= length > 0;
        length > 0
    }

    /// Takes a piece of the answer.
    pub(super) fn add_output(&mut self, delta: Option<Json<'_>>) {
        if self.count_output(delta)
            && self.limits.keep_output
            && let Some(delta) = delta.and_then(Json::text)
        {
            self.keep_output(&delta);
        }
    }

    /// Keeps a piece of the answer, if it is to be kept.
    pub(super) fn keep_output(&mut self, piece: &str) {
        if self.limits.keep_output && !piece.is_empty() {
            let mut output = self.facts.output.take().unwrap_or_default();
            self.append_text(&mut output, piece);
            self.facts.output = Some(output);
        }
    }

    /// Appends a piece to a text within the limits; tells whether all of it fitted.
    pub(super) fn append(&mut self, whole: &mut String, piece: Option<Json<'_>>) -> bool {
        match piece.and_then(Json::text) {
            Some(piece) => self.append_text(whole, &piece),
            None => true,
        }
    }

    /// Appends text within the limit of one text and that of all together; tells whether all of it fitted.
    pub(super) fn append_text(&mut self, whole: &mut String, piece: &str) -> bool {
        let before = whole.len();
        let room = self.limits.text.saturating_sub(before).min(self.left);
        let fits = text::append(whole, piece, before + room);
        self.left = self.left.saturating_sub(whole.len() - before);
        fits
    }

    /// The text within the limits, and whether it was cut.
    pub(super) fn text(&mut self, json: Option<Json<'_>>) -> (String, bool) {
        let max = self.limits.text.min(self.left);
        let (text, cut) = json.and_then(|json| json.text_within(max)).unwrap_or_default();
        self.left = self.left.saturating_sub(text.len());
        (text, cut)
    }

    /// The value as it was written, within the limits, and whether it was cut.
    pub(super) fn raw(&mut self, json: Json<'_>) -> (String, bool) {
        let mut raw = String::new();
        let fits = self.append_text(&mut raw, &json.raw());
        (raw, !fits)
    }

    pub(super) fn add_call(&mut self, call: ToolCall) {
        self.saw_output = true;
        if self.facts.tool_calls.len() < self.limits.items {
            self.facts.tool_calls.push(call);
        }
    }

    pub(super) fn add_thought(&mut self, text: String, source: ThoughtSource) {
        if !text.trim().is_empty() && self.facts.thoughts.len() < self.limits.items {
            self.facts.thoughts.push(Thought { text, source });
        }
    }

    /// Notes the first error; `null` is none.
    pub(super) fn add_error(&mut self, error: Option<Json<'_>>) {
        let Some(error) = error.filter(|error| !error.is_null() && self.facts.error.is_none()) else {
            return;
        };
        let [of_type, code, message] = error.members(["type", "code", "message"]);
        let kind = [of_type, code]
            .into_iter()
            .flatten()
            .find_map(word)
            .unwrap_or_default();
        let message = message.or(Some(error)).map(message_text).unwrap_or_default();
        self.facts.error = Some(ReplyError { kind, message });
    }

    /// Notes an error whose members were found on their own.
    pub(super) fn add_flat_error(&mut self, code: Option<Json<'_>>, message: Option<Json<'_>>) {
        let kind = code.and_then(word).unwrap_or_default();
        let message = message
            .filter(|message| !message.is_null())
            .map(message_text)
            .unwrap_or_default();
        self.facts.error.get_or_insert(ReplyError { kind, message });
    }

    /// Makes an error of a body that only its status says is one.
    pub(super) fn read_error_body(&mut self, body: &[u8]) {
        if self.status < 400 || self.facts.error.is_some() {
            return;
        }
        let json = Json::parse(body);
        let [message, detail] = json
            .map(|json| json.members(["message", "detail"]))
            .unwrap_or_default();
        let message = match message.or(detail) {
            Some(message) => message_text(message),
            None => text::prefix(&String::from_utf8_lossy(body), MESSAGE_MAX)
                .trim()
                .to_owned(),
        };
        self.facts.error = Some(ReplyError {
            kind: format!("http_{}", self.status),
            message,
        });
    }

    pub(super) fn into_facts(mut self, counting: Counting) -> ReplyFacts {
        (self.facts.usage, self.facts.usage_source) = match self.usage(counting) {
            Some((usage, source)) => (Some(usage), source),
            None => (None, UsageSource::Unknown),
        };
        self.facts.complete = self.complete;
        self.facts
    }

    fn usage(&mut self, counting: Counting) -> Option<(Usage, UsageSource)> {
        if counting == Counting::Nothing {
            let extra = [("counted_input_tokens".to_owned(), self.counted?)].into();
            let usage = Usage {
                extra,
                ..Usage::default()
            };
            return Some((usage, UsageSource::Reported));
        }
        let counts = std::mem::take(&mut self.counts);
        if !counts.say_something() {
            return Some((self.estimate()?, UsageSource::Estimated));
        }
        let is_whole = self.complete && counts.are_whole(counting);
        let mut usage = counts.into_usage(counting);
        if is_whole {
            return Some((usage, UsageSource::Reported));
        }
        // What had been reported before the break knows little of what was written since.
        if let Some(asked) = self.limits.request_text {
            usage.output = usage.output.max(tokens(self.output_bytes));
            if usage.input == 0 && usage.cache_read == 0 && usage.cache_write == 0 {
                usage.input = tokens(asked);
            }
        }
        Some((usage, UsageSource::Partial))
    }

    /// Counts by the length of the texts, if the model did anything.
    fn estimate(&self) -> Option<Usage> {
        let input = tokens(self.limits.request_text?);
        let has_run = self.saw_output || (self.complete && self.facts.error.is_none());
        has_run.then(|| Usage {
            input,
            output: tokens(self.output_bytes),
            ..Usage::default()
        })
    }
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}

fn set_once(slot: &mut Option<String>, json: Option<Json<'_>>) {
    if slot.is_none() {
        *slot = json
            .and_then(Json::text)
            .filter(|value| !value.is_empty())
            .map(|value| text::short(&value));
    }
}

/// A type or code, which some providers write as a number.
fn word(json: Json<'_>) -> Option<String> {
    let value = json.text().or_else(|| json.number().map(|_| json.raw()))?;
    (!value.is_empty()).then(|| text::short(&value))
}

fn message_text(json: Json<'_>) -> String {
    match json.text_within(MESSAGE_MAX) {
        Some((text, _)) => text,
        None => text::prefix(&json.raw(), MESSAGE_MAX).to_owned(),
    }
}
