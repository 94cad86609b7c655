//! Wall time as a value that `App` hands out, so that tests decide what "now" is.
//!
//! Elapsed time is measured with `tokio::time::Instant`; this is only for dates that leave the process
//! (records, certificates, tokens).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where the date comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where the system clock is read"
        )]
        Clock(Arc::new(SystemTime::now))
    }

    /// A clock that stands still.
    pub fn fixed(at: SystemTime) -> Clock {
        Clock(Arc::new(move || at))
    }

    /// The current date.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// The current date in microseconds since the Unix epoch, the unit of every stored time.
    pub fn micros(&self) -> Micros {
        Micros::from(self.now())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A date in microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub i64);

impl Micros {
    /// This date moved later by `span`.
    pub fn plus(self, span: Duration) -> Micros {
        Micros(
            self.0
                .saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// RFC 3339 in UTC with microseconds, e.g. `2026-11-22T08:30:00.000001Z`.
    pub fn rfc3339(self) -> String {
        let seconds = self.0.div_euclid(1_000_000);
        let micros = self.0.rem_euclid(1_000_000);
        let Ok(date) = time::OffsetDateTime::from_unix_timestamp(seconds) else {
            return String::new();
        };
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{micros:06}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second(),
        )
    }

    /// Reads an RFC 3339 date, or a plain date (`2026-11-22`, midnight UTC).
    pub fn parse(text: &str) -> Option<Micros> {
        use time::format_description::well_known::Rfc3339;
        let full = if text.len() == 10 {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        let date = time::OffsetDateTime::parse(&full, &Rfc3339).ok()?;
        i64::try_from(date.unix_timestamp_nanos() / 1_000)
            .ok()
            .map(Micros)
    }
}

impl From<Micros> for SystemTime {
    fn from(date: Micros) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(u64::try_from(date.0).unwrap_or_default())
    }
}

impl From<SystemTime> for Micros {
    fn from(date: SystemTime) -> Micros {
        let since = date.duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_a_round_trip() {
        for text in ["2026-11-22T08:30:00.000001Z", "1970-01-01T00:00:00.000000Z"] {
            let date = Micros::parse(text).unwrap();
            assert_eq!(date.rfc3339(), text);
        }
        assert_eq!(
            Micros::parse("2026-11-22").unwrap().rfc3339(),
            "2026-11-22T00:00:00.000000Z"
        );
        assert_eq!(Micros::parse("yesterday"), None);
    }
}
