//! When to ask again: what a reply's head says about waiting, and which error words mean overload.
//!
//! In come a reply's headers and the date, out comes a length of time. Values that cannot be read count as absent;
//! nothing here has an upper bound, so callers cap what they wait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// What a limit is counted in, as it stands in the names of rate limit headers: what remains, and when it is full.
///
/// The first two are OpenAI's and many others', the next Anthropic's, the last GitHub's.
const LIMITS: &[(&str, &str)] = &[
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
    (
        "anthropic-ratelimit-unified-remaining",
        "anthropic-ratelimit-unified-reset",
    ),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
];

/// Seconds since the epoch begin here; a smaller number is a length of time. It is a day in 2001.
const EPOCH_SECONDS: f64 = 1e9;

/// The wait that a reply asks for: `retry-after-ms`, else `Retry-After` in seconds or as a date. A date that has
/// passed is a wait of zero.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let millis = text(headers, "retry-after-ms").and_then(number);
    let millis = millis.and_then(|millis| span(millis / 1000.0));
    millis.or_else(|| {
        let value = text(headers, RETRY_AFTER.as_str())?;
        number(value).and_then(span).or_else(|| {
            let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
            Some(until(date, now))
        })
    })
}

/// The wait after a 429: what `retry_after` finds, else the longest reset among the limits that are used up, else
/// the shortest reset of any.
#[must_use]
pub fn rate_limit_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    retry_after(headers, now).or_else(|| {
        let resets = || {
            LIMITS.iter().filter_map(|(remaining, reset)| {
                let wait = reset_in(text(headers, reset)?, now)?;
                let left = text(headers, remaining).and_then(number);
                Some((left.is_some_and(|left| left <= 0.0), wait))
            })
        };
        let used_up = resets().filter(|(used_up, _)| *used_up).map(|(_, wait)| wait);
        used_up.max().or_else(|| resets().map(|(_, wait)| wait).min())
    })
}

/// Whether an error inside a reply says that the upstream is overloaded, in the words of the APIs.
#[must_use]
pub fn is_overload(kind: &str) -> bool {
    [
        "overloaded_error",
        "overloaded",
        "server_is_overloaded",
        "engine_overloaded",
        "engine_overloaded_error",
        "slow_down",
        "service_unavailable",
        "service_unavailable_error",
    ]
    .contains(&kind)
}

/// Whether a status says that the upstream is in trouble, as opposed to the request or the credential.
#[must_use]
pub fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504 | 529)
}

/// Whether the same request may well succeed in a moment.
#[must_use]
pub fn is_transient(status: u16) -> bool {
    matches!(status, 502 | 503 | 504 | 529)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

fn span(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// A reset as a date, as seconds since the epoch, or as a length of time such as `6m0s`.
fn reset_in(text: &str, now: SystemTime) -> Option<Duration> {
    if let Some(number) = number(text) {
        return match number {
            0.0..EPOCH_SECONDS => span(number),
            _ => span(number).map(|since| since.saturating_sub(since_epoch(now))),
        };
    }
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(date) => Some(until(date, now)),
        Err(_) => units(text),
    }
}

/// A length of time in Go's form: `1h2m3.5s`, `20ms`.
fn units(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        seconds += number(count)?
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = after;
    }
    (!text.is_empty()).then(|| span(seconds)).flatten()
}

fn until(date: OffsetDateTime, now: SystemTime) -> Duration {
    let nanos = u64::try_from(date.unix_timestamp_nanos()).unwrap_or(0);
    Duration::from_nanos(nanos).saturating_sub(since_epoch(now))
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    type Lines<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn every_form_of_a_wait_is_read() {
        let cases: &[(Lines<'_>, Option<u64>)] = &[
            (&[("retry-after-ms", "1500"), ("retry-after", "9")], Some(1_500)),
            (&[("retry-after-ms", "soon"), ("retry-after", "9")], Some(9_000)),
            (&[("retry-after", "0")], Some(0)),
            (&[("retry-after", "1.5")], Some(1_500)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], Some(60_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "tomorrow")], None),
            (&[("retry-after", "1e400")], None),
            (
                &[("retry-after", "99999999999999999999999999999999999999999")],
                None,
            ),
            (&[], None),
        ];
        for (lines, want) in cases {
            let want = want.map(Duration::from_millis);
            assert_eq!(retry_after(&map(lines), now()), want, "{lines:?}");
            assert_eq!(rate_limit_wait(&map(lines), now()), want, "{lines:?}");
        }
    }

    #[test]
    fn a_limit_that_is_used_up_decides_over_those_that_are_not() {
        let cases: &[(Lines<'_>, Option<u64>)] = &[
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1m30s"),
                    ("x-ratelimit-remaining-tokens", "12"),
                    ("x-ratelimit-reset-tokens", "6h"),
                ],
                Some(90_000),
            ),
            (
                &[
                    ("x-ratelimit-reset-requests", "2s"),
                    ("x-ratelimit-reset-tokens", "20ms"),
                ],
                Some(20),
            ),
            (
                &[
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-reset", "1994-11-06T08:49:47Z"),
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:40Z"),
                ],
                Some(10_000),
            ),
            (&[("anthropic-ratelimit-unified-reset", "1000000000")], {
                Some((1_000_000_000 - NOW) * 1_000)
            }),
            (&[("x-ratelimit-reset", "30")], Some(30_000)),
            (&[("x-ratelimit-reset-tokens", "soon")], None),
            (&[("x-ratelimit-reset-tokens", "5")], Some(5_000)),
            (&[("x-ratelimit-reset-tokens", "5x")], None),
        ];
        for (lines, want) in cases {
            let want = want.map(Duration::from_millis);
            assert_eq!(rate_limit_wait(&map(lines), now()), want, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_of_a_header_panics(value in "[ -~]{0,40}", digits in "[0-9.]{0,40}[a-z]{0,2}") {
            for text in [value.as_str(), digits.as_str()] {
                for (_, reset) in LIMITS {
                    let _ = rate_limit_wait(&map(&[(reset, text)]), now());
                }
                let _ = rate_limit_wait(&map(&[("retry-after", text)]), now());
                let _ = rate_limit_wait(&map(&[("retry-after-ms", text)]), now());
            }
        }
    }
}
