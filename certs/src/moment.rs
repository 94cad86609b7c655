//! Conversions between `SystemTime` and the whole seconds that certificates use. None of them can panic: a
//! time outside what a certificate can express is pulled to the nearest end.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last second that a certificate can carry, 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;

pub(crate) fn to_date(time: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(to_unix(time)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(crate) fn from_unix(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(UNIX_EPOCH)
}

pub(crate) fn to_unix(time: SystemTime) -> i64 {
    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(LAST),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(0, |seconds| -seconds),
    };
    seconds.clamp(0, LAST)
}

/// A time as errors print it.
pub(crate) struct Shown(pub(crate) SystemTime);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = to_date(self.0).format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_times_outside_the_range() {
        let year_30000 = UNIX_EPOCH + Duration::from_secs(900_000_000_000);
        assert_eq!(to_date(year_30000).year(), 9999);
        assert_eq!(to_unix(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(from_unix(-86_400), UNIX_EPOCH - Duration::from_secs(86_400));
    }

    #[test]
    fn shows_a_time_as_rfc_3339() {
        assert_eq!(
            Shown(from_unix(1_700_000_000)).to_string(),
            "2023-11-14T22:13:20Z"
        );
    }
}
