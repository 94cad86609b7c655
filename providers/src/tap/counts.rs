//! Usage as reported: a bounded, flat map of counts, and its translation into [`Usage`].
//!
//! Providers report cumulative counts, often more than once; a later count replaces an earlier one, except that a
//! zero never replaces what was known. Counts that have no place of their own go into `extra`, a total only
//! if it is not the sum of the others.

use std::collections::BTreeMap;

use super::facts::Usage;
use crate::json::{Cursor, Json};

/// Counts by path, nested ones joined by a dot.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<String, u64>);

/// Which dialect the counts are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// Input includes cached tokens.
    OpenAi,
    /// Input, cache reads and cache writes stand side by side.
    Anthropic,
    /// As OpenAI counts, where nothing is written.
    InputOnly,
    /// Not at all: the reply uses no tokens.
    Nothing,
}

/// The most counts that are kept, and the longest path of one.
const MOST: usize = 64;
const PATH_MAX: usize = 96;

/// How deep counts may be nested.
const DEPTH: usize = 2;

/// The names that some counts get in `extra`; others keep their path.
const EXTRA_NAMES: &[(&str, &str)] = &[
    (
        "input_tokens_details.cache_write_tokens_details.ttl_30m_tokens",
        "cache_write_ttl_30m",
    ),
    (
        "input_tokens_details.cache_write_tokens_details.ttl_12h_tokens",
        "cache_write_ttl_12h",
    ),
    (
        "prompt_tokens_details.cache_write_tokens_details.ttl_30m_tokens",
        "cache_write_ttl_30m",
    ),
    (
        "prompt_tokens_details.cache_write_tokens_details.ttl_12h_tokens",
        "cache_write_ttl_12h",
    ),
    ("prompt_tokens_details.audio_tokens", "prompt_audio"),
    ("completion_tokens_details.audio_tokens", "completion_audio"),
    (
        "completion_tokens_details.accepted_prediction_tokens",
        "completion_accepted_prediction",
    ),
    (
        "completion_tokens_details.rejected_prediction_tokens",
        "completion_rejected_prediction",
    ),
    (
        "cache_creation.ephemeral_5m_input_tokens",
        "cache_ephemeral_5m_input",
    ),
    (
        "cache_creation.ephemeral_1h_input_tokens",
        "cache_ephemeral_1h_input",
    ),
    ("server_tool_use.web_search_requests", "web_search_requests"),
    ("server_tool_use.web_fetch_requests", "web_fetch_requests"),
];

impl Counts {
    /// Whether anything was counted: a report of zeros alone says nothing.
    pub(super) fn say_something(&self) -> bool {
        self.0.values().any(|count| *count > 0)
    }

    /// Whether both sides of the exchange were counted, as far as the dialect has them.
    pub(super) fn are_whole(&self, counting: Counting) -> bool {
        let has = |paths: [&str; 2]| paths.iter().any(|path| self.0.contains_key(*path));
        let input = has(["prompt_tokens", "input_tokens"]);
        input && (counting == Counting::InputOnly || has(["completion_tokens", "output_tokens"]))
    }

    /// Takes another report in; tells whether it says something.
    pub(super) fn merge(&mut self, usage: Json<'_>) -> bool {
        self.merge_below(&mut Cursor::new(usage.bytes()), b"", DEPTH) && self.say_something()
    }

    /// Takes in the counts of the object at hand, whose path ends in a dot unless it is empty.
    fn merge_below(&mut self, cursor: &mut Cursor<'_>, path: &[u8], depth: usize) -> bool {
        cursor.object(|cursor, key| {
            if cursor.peek() != Some(b'{') {
                let count = cursor.value().and_then(Json::number);
                self.set(&[path, key], count);
            } else if depth > 0 && path.len() + key.len() <= PATH_MAX {
                self.merge_below(cursor, &[path, key, b"."].concat(), depth - 1);
            }
        })
    }

    fn set(&mut self, path: &[&[u8]], count: Option<u64>) {
        let (Some(count), Ok(path)) = (count, String::from_utf8(path.concat())) else {
            return;
        };
        if let Some(known) = self.0.get_mut(&path) {
            if count > 0 {
                *known = count;
            }
        } else if self.0.len() < MOST && path.len() <= PATH_MAX {
            self.0.insert(path, count);
        }
    }

    /// Takes the first count of those paths that is not zero; the others are dropped.
    fn take(&mut self, paths: &[&str]) -> u64 {
        paths
            .iter()
            .filter_map(|path| self.0.remove(*path))
            .fold(0, |first, count| if first > 0 { first } else { count })
    }

    pub(super) fn into_usage(mut self, counting: Counting) -> Usage {
        let mut usage = match counting {
            Counting::OpenAi | Counting::InputOnly => self.openai(),
            Counting::Anthropic => self.anthropic(),
            Counting::Nothing => Usage::default(),
        };
        let sum = [usage.input, usage.output, usage.cache_read, usage.cache_write];
        if self.0.get("total_tokens") == Some(&sum.into_iter().fold(0, u64::saturating_add)) {
            self.0.remove("total_tokens");
        }
        for (path, count) in self.0.into_iter().filter(|(_, count)| *count > 0) {
            let name = EXTRA_NAMES
                .iter()
                .find(|(known, _)| *known == path)
                .map(|(_, name)| (*name).to_owned());
            usage.extra.insert(name.unwrap_or(path), count);
        }
        usage
    }

    fn openai(&mut self) -> Usage {
        let total_input = self.take(&["prompt_tokens", "input_tokens"]);
        let mut output = self.take(&["completion_tokens", "output_tokens"]);
        let cache_read = self.take(&[
            "prompt_tokens_details.cached_tokens",
            "input_tokens_details.cached_tokens",
            "prompt_cache_hit_tokens",
            "cached_tokens",
            "cache_read_input_tokens",
        ]);
        let cache_write = self.take(&[
            "prompt_tokens_details.cache_write_tokens",
            "input_tokens_details.cache_write_tokens",
            "prompt_tokens_details.cache_creation_tokens",
            "cache_creation_input_tokens",
        ]);
        let reasoning = self.take(&[
            "completion_tokens_details.reasoning_tokens",
            "output_tokens_details.reasoning_tokens",
        ]);
        // What a cache did not hold is `input` again.
        self.take(&["prompt_cache_miss_tokens"]);
        let total = self.0.get("total_tokens").copied().unwrap_or(0);
        let apart = total_input.saturating_add(output).saturating_add(reasoning);
        if reasoning > 0 && total == apart {
            // Some providers count reasoning beside the completion; the total shows it.
            output = output.saturating_add(reasoning);
        }
        let input = total_input.saturating_sub(cache_read).saturating_sub(cache_write);
        Usage {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
            extra: BTreeMap::new(),
        }
    }

    fn anthropic(&mut self) -> Usage {
        Usage {
            input: self.take(&["input_tokens"]),
            output: self.take(&["output_tokens"]),
            cache_read: self.take(&["cache_read_input_tokens"]),
            cache_write: self.take(&["cache_creation_input_tokens"]),
            reasoning: self.take(&[
                "output_tokens_details.thinking_tokens",
                "output_tokens_details.reasoning_tokens",
            ]),
            extra: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(counting: Counting, reports: &[&str]) -> Usage {
        let mut counts = Counts::default();
        for report in reports {
            counts.merge(Json::parse(report.as_bytes()).unwrap());
        }
        counts.into_usage(counting)
    }

    fn plain(input: u64, output: u64, cache_read: u64, cache_write: u64, reasoning: u64) -> Usage {
        Usage {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
            extra: BTreeMap::new(),
        }
    }

    #[test]
    fn dialects_are_translated() {
        let cases: &[(&str, Usage)] = &[
            (
                r#"{"prompt_tokens":60,"completion_tokens":15,"prompt_tokens_details":null}"#,
                plain(60, 15, 0, 0, 0),
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":64}}"#,
                plain(36, 20, 64, 0, 0),
            ),
            (
                r#"{"input_tokens":100,"output_tokens":20,"input_tokens_details":{"cached_tokens":64,"cache_write_tokens":30},"output_tokens_details":{"reasoning_tokens":9}}"#,
                plain(6, 20, 64, 30, 9),
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}"#,
                plain(6, 5, 4, 0, 0),
            ),
            (
                r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9}}"#,
                plain(0, 0, 9, 0, 0),
            ),
            (
                r#"{"prompt_tokens":"5","completion_tokens":-1,"x":[1,{"y":2}],"z":{"very":{"deep":{"a":1}}}}"#,
                plain(0, 0, 0, 0, 0),
            ),
        ];
        for (report, want) in cases {
            assert_eq!(usage(Counting::OpenAi, &[report]), *want, "{report}");
        }
    }

    #[test]
    fn nested_counts_are_kept_by_name() {
        let report = r#"{"input_tokens":50,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":30,"cache_write_tokens_details":{"ttl_12h_tokens":20,"ttl_30m_tokens":10,"deeper":{"x":1}}},"output_tokens":1,"total_tokens":51}"#;
        let got = usage(Counting::OpenAi, &[report]);
        assert_eq!((got.input, got.cache_write), (20, 30));
        assert_eq!(
            got.extra,
            [
                ("cache_write_ttl_12h".to_owned(), 20),
                ("cache_write_ttl_30m".to_owned(), 10)
            ]
            .into()
        );
    }

    #[test]
    fn reasoning_beside_the_completion_joins_the_output() {
        let apart = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":22,"completion_tokens_details":{"reasoning_tokens":7}}"#;
        let within = r#"{"prompt_tokens":10,"completion_tokens":12,"total_tokens":22,"completion_tokens_details":{"reasoning_tokens":7}}"#;
        assert_eq!(usage(Counting::OpenAi, &[apart]).output, 12);
        assert_eq!(usage(Counting::OpenAi, &[within]).output, 12);
    }

    #[test]
    fn cumulative_reports_do_not_add_up() {
        let got = usage(
            Counting::Anthropic,
            &[
                r#"{"input_tokens":10,"cache_read_input_tokens":100,"cache_creation_input_tokens":7,"output_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":7,"ephemeral_5m_input_tokens":0},"service_tier":"standard"}"#,
                r#"{"output_tokens":30,"input_tokens":0}"#,
                r#"{"output_tokens":61,"server_tool_use":{"web_search_requests":2}}"#,
            ],
        );
        let mut want = plain(10, 61, 100, 7, 0);
        want.extra = [
            ("cache_ephemeral_1h_input".to_owned(), 7),
            ("web_search_requests".to_owned(), 2),
        ]
        .into();
        assert_eq!(got, want);
    }

    #[test]
    fn hostile_reports_are_bounded() {
        let many: Vec<String> = (0..10_000).map(|i| format!("\"k{i}\":1")).collect();
        let report = format!("{{{}}}", many.join(","));
        assert!(usage(Counting::OpenAi, &[&report]).extra.len() <= MOST);
        let long = format!("{{\"{}\":1}}", "k".repeat(1000));
        assert!(usage(Counting::OpenAi, &[&long]).extra.is_empty());
    }
}
