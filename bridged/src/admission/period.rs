//! Days, weeks and months in UTC, as budgets count them. Weeks begin on Monday (ISO 8601).

use serde::Deserialize;
use time::{Date, Duration, Month, OffsetDateTime, Time};

use crate::clock::Micros;

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday.
    Week,
    /// From the first to the last.
    Month,
}

impl Period {
    /// For sentences: "50.00 a month".
    pub const fn describe(self) -> &'static str {
        match self {
            Period::Day => "a day",
            Period::Week => "a week",
            Period::Month => "a month",
        }
    }

    /// When the period that `at` lies in began, and when the next one begins.
    pub fn bounds(self, at: Micros) -> (Micros, Micros) {
        let seconds = at.0.div_euclid(1_000_000);
        let day = OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MIN, OffsetDateTime::date);
        let (first, next) = match self {
            Period::Day => (day, day.next_day()),
            Period::Week => {
                let monday = day - Duration::days(i64::from(day.weekday().number_days_from_monday()));
                (monday, monday.checked_add(Duration::days(7)))
            }
            Period::Month => {
                let first = day.replace_day(1).unwrap_or(day);
                let (year, month) = match first.month() {
                    Month::December => (first.year() + 1, Month::January),
                    month => (first.year(), month.next()),
                };
                (first, Date::from_calendar_date(year, month, 1).ok())
            }
        };
        (begin(first), begin(next.unwrap_or(Date::MAX)))
    }
}

fn begin(day: Date) -> Micros {
    Micros(day.with_time(Time::MIDNIGHT).assume_utc().unix_timestamp() * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_and_end_at_midnight_utc() {
        for (period, at, from, to) in [
            (
                Period::Day,
                "2026-11-22T23:59:59.999999Z",
                "2026-11-22",
                "2026-11-23",
            ),
            (Period::Day, "2026-11-23T00:00:00Z", "2026-11-23", "2026-11-24"),
            // A Sunday.
            (Period::Week, "2026-11-22T12:00:00Z", "2026-11-16", "2026-11-23"),
            (Period::Week, "2026-12-31T12:00:00Z", "2026-12-28", "2027-01-04"),
            (Period::Month, "2026-12-31T23:00:00Z", "2026-12-01", "2027-01-01"),
            (Period::Month, "2028-02-29T00:00:00Z", "2028-02-01", "2028-03-01"),
        ] {
            let date = |text| Micros::parse(text).unwrap();
            assert_eq!(period.bounds(date(at)), (date(from), date(to)), "{period:?} {at}");
        }
    }
}
