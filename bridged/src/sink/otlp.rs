//! What an OpenTelemetry collector gets: one log record an interception, by OTLP/HTTP in its JSON encoding, with the
//! attribute names of the semantic conventions for generative AI (status Development); `causeway.*` is what they lack.
//!
//! Texts, where they go along, are `gen_ai.input.messages` and `gen_ai.output.messages`. Providers have the names
//! of their instances, as in the metrics.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use providers::Api;
use serde_json::{Map, Value, json};

use super::Batch;
use crate::clock::Micros;
use crate::metrics::operation;
use crate::secret::Secret;
use crate::store::InterceptionRow;

/// The conventions' name of an event about one call of a model.
const EVENT: &str = "gen_ai.client.inference.operation.details";
/// Severity numbers of the log data model.
const INFO: u8 = 9;
const WARN: u8 = 13;

/// The headers of a delivery.
pub(super) fn headers(token: Option<&Secret>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok());
    if let Some(mut value) = value {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// The body of a delivery: an `ExportLogsServiceRequest`.
pub(super) fn body(batch: &Batch) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let resource = json!({"service.name": "causeway", "service.version": version});
    let records: Vec<Value> = batch.rows.iter().map(record).collect();
    json!({"resourceLogs": [{
        "resource": {"attributes": pairs(&resource)},
        "scopeLogs": [{
            "scope": {"name": "causeway", "version": version},
            "logRecords": records,
        }],
    }]})
    .to_string()
}

/// What a collector says that it did not take, if it says so. Such records would be refused again.
pub(super) fn complaint(answer: &Bytes) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let rejected = partial.get("rejectedLogRecords")?;
    let count = rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok())?;
    let words = partial
        .get("errorMessage")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let words: String = words.chars().take(200).collect();
    (count > 0).then(|| format!("{count} rejected: {words}"))
}

fn record(row: &InterceptionRow) -> Value {
    let nanos = |date: Option<&str>| {
        date.and_then(Micros::parse)
            .map_or(0, |date| date.0.saturating_mul(1_000))
    };
    let ended = nanos(row.ended_at.as_deref()).max(nanos(Some(&row.started_at)));
    let is_fine = row.outcome == Some("completed");
    json!({
        "timeUnixNano": ended.to_string(),
        "observedTimeUnixNano": ended.to_string(),
        "severityNumber": if is_fine { INFO } else { WARN },
        "severityText": if is_fine { "INFO" } else { "WARN" },
        "eventName": EVENT,
        "body": {"stringValue": summary(row)},
        "attributes": pairs(&attributes(row)),
    })
}

fn summary(row: &InterceptionRow) -> String {
    format!(
        "{} used {} at {}: {}",
        row.user,
        row.model.as_deref().unwrap_or("a model"),
        row.provider,
        row.outcome.unwrap_or("in flight")
    )
}

fn attributes(row: &InterceptionRow) -> Value {
    let mut own = json!({
        "gen_ai.operation.name": Api::parse(row.api).map(operation),
        "gen_ai.provider.name": row.provider,
        "gen_ai.request.model": row.model,
        "gen_ai.request.stream": row.stream,
        "gen_ai.response.model": row.model_answered,
        "gen_ai.response.id": row.response_id,
        "gen_ai.response.finish_reasons": row.finish_reason.as_ref().map(|reason| [reason]),
        "gen_ai.conversation.id": row.session_id,
        "gen_ai.agent.id": row.agent_id,
        "error.type": row.error_kind,
        "http.response.status_code": row.status,
        "user.name": row.user,
        "user_agent.original": row.user_agent,
        "causeway.interception.id": row.id,
        "causeway.request.id": row.request_id,
        "causeway.thread.id": row.thread_root_id,
        "causeway.api": row.api,
        "causeway.client.name": row.client,
        "causeway.client.version": row.client_version,
        "causeway.mode": row.mode,
        "causeway.credential.kind": row.credential_kind,
        "causeway.outcome": row.outcome,
        "causeway.started_at": row.started_at,
        "causeway.duration_ms": row.duration_ms,
        "causeway.overhead_us": row.overhead_us,
        "causeway.retries": row.retries,
        "causeway.usage.source": row.usage_source,
    });
    if let Value::Object(own) = &mut own {
        add_usage(own, row);
        add_texts(own, row);
    }
    own
}

/// Input counts cached tokens too, as the conventions have it.
fn add_usage(own: &mut Map<String, Value>, row: &InterceptionRow) {
    for usage in &row.usage {
        let counts = [
            (
                "gen_ai.usage.input_tokens",
                usage.input + usage.cache_read + usage.cache_write,
            ),
            ("gen_ai.usage.output_tokens", usage.output),
            ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
            ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
        ];
        for (name, count) in counts {
            own.insert(name.to_owned(), count.into());
        }
        own.insert("causeway.cost_micros".to_owned(), usage.cost_micros.into());
    }
    let tools: Vec<&str> = row.tool_calls.iter().map(|call| call.name.as_str()).collect();
    if !tools.is_empty() {
        own.insert("causeway.tools".to_owned(), tools.into());
    }
}

/// The texts, if they are there: the sink's configuration has taken them out otherwise.
fn add_texts(own: &mut Map<String, Value>, row: &InterceptionRow) {
    if let Some(prompt) = &row.prompt {
        let message = json!([{"role": "user", "parts": [{"type": "text", "content": prompt}]}]);
        own.insert("gen_ai.input.messages".to_owned(), message);
    }
    let thoughts = row.thoughts.iter().filter(|thought| !thought.text.is_empty());
    let mut parts: Vec<Value> = thoughts
        .map(|thought| json!({"type": "reasoning", "content": thought.text}))
        .collect();
    parts.extend(
        row.output
            .as_ref()
            .map(|text| json!({"type": "text", "content": text})),
    );
    let calls = row.tool_calls.iter().filter(|call| !call.arguments.is_empty());
    parts.extend(calls.map(
        |call| json!({"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}),
    ));
    if !parts.is_empty() {
        let message = json!([{"role": "assistant", "parts": parts, "finish_reason": row.finish_reason}]);
        own.insert("gen_ai.output.messages".to_owned(), message);
    }
}

/// A JSON object as OTLP has it: a list of keys with typed values, without those that are null.
fn pairs(object: &Value) -> Vec<Value> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| json!({"key": key, "value": typed(value)}))
        .collect()
}

/// A JSON value as an `AnyValue`; whole numbers are texts there (protobuf's JSON mapping of int64).
fn typed(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(truth) => json!({"boolValue": truth}),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({"intValue": whole.to_string()}),
            None => json!({"doubleValue": number}),
        },
        Value::String(text) => json!({"stringValue": text}),
        Value::Array(values) => {
            let values: Vec<Value> = values.iter().map(typed).collect();
            json!({"arrayValue": {"values": values}})
        }
        Value::Object(_) => json!({"kvlistValue": {"values": pairs(value)}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_of_the_protocol() {
        let plain = json!({"a": 1, "b": 1.5, "c": ["x", true], "d": null, "e": {"f": "g"}});
        let want = json!([
            {"key": "a", "value": {"intValue": "1"}},
            {"key": "b", "value": {"doubleValue": 1.5}},
            {"key": "c", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"boolValue": true}]}}},
            {"key": "e", "value": {"kvlistValue": {"values": [{"key": "f", "value": {"stringValue": "g"}}]}}},
        ]);
        assert_eq!(Value::from(pairs(&plain)), want);
    }

    #[test]
    fn a_collector_that_rejects_is_heard() {
        for (answer, want) in [
            ("{}", None),
            ("", None),
            ("{\"partialSuccess\":{\"rejectedLogRecords\":\"0\"}}", None),
            (
                "{\"partialSuccess\":{\"rejectedLogRecords\":\"2\",\"errorMessage\":\"old\"}}",
                Some("2 rejected: old"),
            ),
            (
                "{\"partialSuccess\":{\"rejectedLogRecords\":1}}",
                Some("1 rejected: "),
            ),
        ] {
            let found = complaint(&Bytes::from_static(answer.as_bytes()));
            assert_eq!(found.as_deref(), want, "{answer}");
        }
    }
}
