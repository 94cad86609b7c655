//! Days of the calendar as numbers: prices begin on a day, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Days since 1970-01-01.
pub(super) type Day = i64;

/// The day of a date.
pub(super) fn of(now: SystemTime) -> Day {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs());
    i64::try_from(seconds / 86_400).unwrap_or(i64::MAX)
}

/// Reads `2026-11-22`.
pub(super) fn parse(text: &str) -> Option<Day> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let plausible = text.len() == 10
        && (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day);
    plausible.then(|| days_from_civil(year, month, day))
}

/// Years are counted from March, so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> Day {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (text, want) in [
            ("1970-01-01", 0),
            ("1970-03-01", 59),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2026-11-22", 20_779),
        ] {
            assert_eq!(parse(text), Some(want), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-13-01",
            "26-01-01",
            "2026-1-01",
            "2026-11-22T00:00",
            "x-y-z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(of(UNIX_EPOCH + Duration::from_secs(86_399)), 0);
        assert_eq!(of(UNIX_EPOCH + Duration::from_secs(86_400)), 1);
    }
}
