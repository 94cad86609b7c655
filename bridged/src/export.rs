//! Interceptions in the forms in which they leave the gateway whole: JSON Lines, one JSON list, CSV.
//!
//! `Format::begin`, then `Format::rows` as often as there are any, then `Format::end`; the texts one after the other
//! are the document. Nothing is kept in between but whether it is the first.

use serde::Serialize;

use crate::api::csv::Csv;
use crate::store::{InterceptionRow, UsageRow};

/// A form of export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// One JSON list.
    Json,
    /// A line an interception, with the names of the columns first.
    Csv,
}

impl Format {
    /// Reads `jsonl`, `json` or `csv`.
    pub fn parse(text: &str) -> Option<Format> {
        match text {
            "jsonl" => Some(Format::Jsonl),
            "json" => Some(Format::Json),
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Jsonl => "application/x-ndjson",
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// What a file's name ends with.
    pub const fn extension(self) -> &'static str {
        match self {
            Format::Jsonl => "jsonl",
            Format::Json => "json",
            Format::Csv => "csv",
        }
    }

    /// What stands before the first interception.
    pub fn begin(self) -> String {
        match self {
            Format::Jsonl => String::new(),
            Format::Json => "[".to_owned(),
            Format::Csv => {
                let mut csv = Csv::default();
                for column in COLUMNS {
                    csv.formed(column);
                }
                csv.end_line();
                csv.into_text()
            }
        }
    }

    /// Some interceptions; `is_first` where none went before.
    pub fn rows<'r>(self, rows: impl IntoIterator<Item = &'r InterceptionRow>, is_first: bool) -> String {
        if self == Format::Csv {
            let mut csv = Csv::default();
            rows.into_iter().for_each(|row| add(&mut csv, row));
            return csv.into_text();
        }
        let mut text = String::new();
        for (place, row) in rows.into_iter().enumerate() {
            if self == Format::Json {
                text.push_str(if is_first && place == 0 { "\n" } else { ",\n" });
            }
            text.push_str(&json(row));
            if self == Format::Jsonl {
                text.push('\n');
            }
        }
        text
    }

    /// What stands behind the last interception.
    pub const fn end(self) -> &'static str {
        match self {
            Format::Jsonl | Format::Csv => "",
            Format::Json => "\n]\n",
        }
    }
}

/// A value as JSON; what the gateway made always has such a form.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

const COLUMNS: [&str; 43] = [
    "id",
    "request_id",
    "connect_id",
    "session_id",
    "thread_root_id",
    "thread_parent_id",
    "user",
    "client",
    "client_version",
    "agent_id",
    "parent_agent_id",
    "provider",
    "kind",
    "api",
    "model",
    "model_answered",
    "mode",
    "credential_kind",
    "credential_hint",
    "status",
    "outcome",
    "error_kind",
    "error_message",
    "started_at",
    "first_token_at",
    "ended_at",
    "duration_ms",
    "overhead_us",
    "request_bytes",
    "response_bytes",
    "stream",
    "finish_reason",
    "response_id",
    "retries",
    "input",
    "output",
    "cache_read",
    "cache_write",
    "reasoning",
    "usage_source",
    "cost_micros",
    "tools",
    "prompt",
];

/// Adds an interception. Of its texts a table has place for the prompt only.
fn add(csv: &mut Csv, row: &InterceptionRow) {
    csv.formed(row.id).formed(row.request_id);
    csv.formed(row.connect_id.map(|id| id.to_string()).unwrap_or_default());
    csv.text(&row.session_id).formed(row.thread_root_id);
    csv.formed(row.thread_parent_id.map(|id| id.to_string()).unwrap_or_default());
    csv.text(&row.user)
        .text(&row.client)
        .optional_text(row.client_version.as_deref())
        .optional_text(row.agent_id.as_deref())
        .optional_text(row.parent_agent_id.as_deref())
        .text(&row.provider)
        .text(&row.kind)
        .text(row.api)
        .optional_text(row.model.as_deref())
        .optional_text(row.model_answered.as_deref())
        .text(row.mode)
        .text(row.credential_kind)
        .optional_text(row.credential_hint.as_deref())
        .plain(row.status.map(i64::from))
        .optional_text(row.outcome)
        .optional_text(row.error_kind.as_deref())
        .optional_text(row.error_message.as_deref())
        .text(&row.started_at)
        .optional_text(row.first_token_at.as_deref())
        .optional_text(row.ended_at.as_deref());
    csv.formed(row.duration_ms.map(|ms| ms.to_string()).unwrap_or_default());
    csv.plain(row.overhead_us)
        .plain(row.request_bytes)
        .plain(row.response_bytes)
        .formed(row.stream)
        .optional_text(row.finish_reason.as_deref())
        .optional_text(row.response_id.as_deref())
        .plain(i64::from(row.retries));
    add_usage(csv, row);
    let tools: Vec<&str> = row.tool_calls.iter().map(|call| call.name.as_str()).collect();
    csv.text(&tools.join(" "))
        .optional_text(row.prompt.as_deref())
        .end_line();
}

fn add_usage(csv: &mut Csv, row: &InterceptionRow) {
    let counts: [fn(&UsageRow) -> i64; 5] = [
        |usage| usage.input,
        |usage| usage.output,
        |usage| usage.cache_read,
        |usage| usage.cache_write,
        |usage| usage.reasoning,
    ];
    for count in counts {
        csv.plain((!row.usage.is_empty()).then(|| row.usage.iter().map(count).sum()));
    }
    csv.optional_text(row.usage_source);
    // Unknown, where any part of it is.
    let cost: Option<i64> = row.usage.iter().map(|usage| usage.cost_micros).sum();
    csv.plain(cost.filter(|_| !row.usage.is_empty()));
}
