//! Counts over a sliding length of time, in a fixed number of buckets.

use std::time::{Duration, Instant};

const BUCKETS: usize = 10;

/// How many requests of late, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: u32,
    pub(super) failures: u32,
}

/// The counts of the last so many seconds, to a tenth.
#[derive(Debug)]
pub(super) struct Window {
    /// The length of one bucket.
    width: Duration,
    /// When the newest bucket began.
    began: Instant,
    /// The newest first.
    buckets: [Counts; BUCKETS],
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Window {
        let width = length / u32::try_from(BUCKETS).unwrap_or(u32::MAX);
        Window {
            width: width.max(Duration::from_millis(1)),
            began: now,
            buckets: [Counts::default(); BUCKETS],
        }
    }

    pub(super) fn add(&mut self, now: Instant, failed: bool) {
        self.slide(now);
        if let Some(newest) = self.buckets.first_mut() {
            newest.all = newest.all.saturating_add(1);
            newest.failures = newest.failures.saturating_add(u32::from(failed));
        }
    }

    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.slide(now);
        let sum = |sum: Counts, next: &Counts| Counts {
            all: sum.all.saturating_add(next.all),
            failures: sum.failures.saturating_add(next.failures),
        };
        self.buckets.iter().fold(Counts::default(), sum)
    }

    /// Drops what is too old.
    fn slide(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed < self.width {
            return;
        }
        let steps = passed.as_nanos() / self.width.as_nanos();
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        if steps >= BUCKETS {
            *self = Window {
                width: self.width,
                began: now,
                buckets: [Counts::default(); BUCKETS],
            };
            return;
        }
        self.buckets.rotate_right(steps);
        self.buckets
            .iter_mut()
            .take(steps)
            .for_each(|bucket| *bucket = Counts::default());
        self.began += self.width * u32::try_from(steps).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(Duration::from_secs(10), start);
        window.add(at(0), true);
        window.add(at(4), false);
        window.add(at(9), true);
        assert_eq!(window.counts(at(9)), Counts { all: 3, failures: 2 });
        assert_eq!(window.counts(at(10)), Counts { all: 2, failures: 1 });
        assert_eq!(window.counts(at(14)), Counts { all: 1, failures: 1 });
        assert_eq!(window.counts(at(1_000)), Counts::default());
        window.add(at(5), true);
        assert_eq!(
            window.counts(at(1_000)),
            Counts { all: 1, failures: 1 },
            "time never goes back"
        );
    }
}
