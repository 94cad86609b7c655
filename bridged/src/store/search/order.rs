//! What is looked up first in a segment: what was rarest in those before it. Pure.
//!
//! What is rare leaves little, or nothing, for which the long lists of frequent words would have to be read.

/// How many documents have each thing that is required, among those that were looked at.
#[derive(Debug)]
pub(super) struct Shares(Vec<Share>);

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    found: u64,
    of: u64,
}

/// In which order what is required is looked up in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The numbers of what is required.
    pub(super) numbers: Vec<usize>,
    /// How many of these are looked up at once; the others only for documents that have all of these.
    pub(super) at_once: usize,
}

impl Shares {
    /// Nothing is known yet of so many things.
    pub(super) fn new(required: usize) -> Shares {
        Shares(vec![Share::default(); required])
    }

    /// About `found` documents of so many have the thing of this number.
    pub(super) fn learn(&mut self, number: usize, found: u64, of: u64) {
        if let Some(share) = self.0.get_mut(number) {
            share.found = share.found.saturating_add(found);
            share.of = share.of.saturating_add(of);
        }
    }

    /// The order for a segment of so many documents: everything at once where anything is unknown or where some
    /// document most likely has all of it.
    pub(super) fn order(&self, docs: u64) -> Order {
        let all = self.0.len();
        let mut numbers: Vec<usize> = (0..all).collect();
        if self.0.iter().any(|share| share.of == 0) {
            return Order {
                numbers,
                at_once: all,
            };
        }
        let share = |number: &usize| self.0.get(*number).copied().unwrap_or_default();
        numbers.sort_by(|a, b| {
            let (a, b) = (share(a), share(b));
            let product = |found: u64, of: u64| u128::from(found) * u128::from(of);
            product(a.found, b.of).cmp(&product(b.found, a.of))
        });
        let mut left = docs;
        let enough = numbers.iter().position(|number| {
            let share = share(number);
            left = left.saturating_mul(share.found) / share.of.max(1);
            left == 0
        });
        Order {
            numbers,
            at_once: enough.map_or(all, |place| place + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_come_first_and_alone_if_they_leave_nothing() {
        let mut shares = Shares::new(3);
        let natural = Order {
            numbers: vec![0, 1, 2],
            at_once: 3,
        };
        assert_eq!(shares.order(1_000), natural);
        shares.learn(0, 900, 1_000);
        shares.learn(1, 30, 1_000);
        assert_eq!(shares.order(1_000), natural, "of one nothing is known");
        for _ in 0..2 {
            shares.learn(2, 10, 500);
        }
        for (docs, at_once) in [(1_000, 2), (1_600, 2), (1_700, 3), (10_000, 3), (10, 1)] {
            let want = Order {
                numbers: vec![2, 1, 0],
                at_once,
            };
            assert_eq!(shares.order(docs), want, "{docs}");
        }
        assert_eq!(Shares::new(0).order(9).at_once, 0);
    }
}
