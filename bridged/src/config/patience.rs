//! `[breaker]` and `[retry]`: how much trouble an upstream may make, for all instances or, as tables of a
//! `[[provider]]`, for one.

use std::time::Duration;

use serde::Deserialize;

use super::scalar::Span;
use super::source::Problems;
use crate::breaker::Rules;

/// `[breaker]`: when an upstream in trouble is left alone, and for how long.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BreakerFile {
    /// `false`: never.
    pub enabled: Option<bool>,
    /// Failures in a row that open it.
    pub failures: Option<u32>,
    /// The share of failures within the window that opens it.
    pub ratio: Option<f64>,
    /// Requests within the window below which the share says nothing.
    pub min_requests: Option<u32>,
    /// The length of the sliding window.
    pub window: Option<Span>,
    /// How long it stays open the first time.
    pub open_for: Option<Span>,
    /// The longest it stays open.
    pub max_open: Option<Span>,
    /// Requests that try whether the upstream has recovered.
    pub probes: Option<u32>,
}

/// `[retry]`: what is sent again when an upstream fails before its reply has begun.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RetryFile {
    /// Attempts beyond the first.
    pub attempts: Option<u32>,
    /// Whether requests with the user's own credential are sent again too.
    pub byok: Option<bool>,
    /// The longest wait before an attempt.
    pub longest_wait: Option<Span>,
}

/// What is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Attempts beyond the first.
    pub attempts: u32,
    /// Whether requests with the user's own credential are sent again too.
    pub byok: bool,
    /// The longest wait before an attempt; an upstream that asks for more gets no other.
    pub longest_wait: Duration,
}

/// Most retries of one request: more only adds to the trouble.
const MOST_RETRIES: u32 = 5;

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            enabled: true,
            // Five in a row are no accident; fewer may be one client's odd requests.
            failures: 5,
            ratio: 0.5,
            least: 20,
            window: Duration::from_secs(30),
            // Overload lasts seconds; what lasts longer doubles its way up to the cap.
            open_for: Duration::from_secs(10),
            max_open: Duration::from_secs(300),
            probes: 3,
        }
    }
}

impl Default for RetryConfig {
    fn default() -> RetryConfig {
        RetryConfig {
            attempts: 2,
            // Clients repeat by themselves, with the user watching.
            byok: false,
            longest_wait: Duration::from_secs(10),
        }
    }
}

/// Lays `[breaker]`, at `key`, over `base`.
pub(super) fn rules(file: &BreakerFile, base: Rules, key: &str, problems: &mut Problems) -> Rules {
    let span = |text: Option<Span>, base| text.map_or(base, Span::duration);
    let rules = Rules {
        enabled: file.enabled.unwrap_or(base.enabled),
        failures: file.failures.unwrap_or(base.failures),
        ratio: file.ratio.unwrap_or(base.ratio),
        least: file.min_requests.unwrap_or(base.least),
        window: span(file.window, base.window),
        open_for: span(file.open_for, base.open_for),
        max_open: span(file.max_open, base.max_open),
        probes: file.probes.unwrap_or(base.probes),
    };
    for (name, number) in [
        ("failures", rules.failures),
        ("min-requests", rules.least),
        ("probes", rules.probes),
    ] {
        if number == 0 {
            problems.add(&format!("{key}.{name}"), "must be at least 1");
        }
    }
    for (name, length) in [("window", rules.window), ("open-for", rules.open_for)] {
        if length.is_zero() {
            problems.add(&format!("{key}.{name}"), "must be longer than nothing");
        }
    }
    if !(rules.ratio > 0.0 && rules.ratio <= 1.0) {
        problems.add(&format!("{key}.ratio"), "must be above 0 and at most 1, e.g. 0.5");
    }
    if rules.max_open < rules.open_for || rules.max_open > MOST_OPEN {
        problems.add(
            &format!("{key}.max-open"),
            "must be at least `open-for` and at most 1d",
        );
    }
    rules
}

/// The longest that any breaker may stay open.
const MOST_OPEN: Duration = Duration::from_secs(86_400);

/// Lays `[retry]`, at `key`, over `base`.
pub(super) fn retry(file: &RetryFile, base: RetryConfig, key: &str, problems: &mut Problems) -> RetryConfig {
    let retry = RetryConfig {
        attempts: file.attempts.unwrap_or(base.attempts),
        byok: file.byok.unwrap_or(base.byok),
        longest_wait: file.longest_wait.map_or(base.longest_wait, Span::duration),
    };
    if retry.attempts > MOST_RETRIES {
        problems.add(
            &format!("{key}.attempts"),
            format!("must be at most {MOST_RETRIES}"),
        );
    }
    retry
}
