//! Who writes next, where only one can: the threads of this process take turns, in the order in which they came.
//!
//! SQLite has nobody wait in a line. Who finds another writing tries again after pauses that grow to 100 ms, and in
//! vain if somebody is writing again by then, so that one who writes often keeps off who only wants to once.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The line of those who want to write.
#[derive(Debug, Default)]
pub(super) struct Turns {
    line: Mutex<Line>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    /// Those who wait, behind the one whose turn it is.
    numbers: VecDeque<u64>,
    /// The number of who comes next.
    next: u64,
}

/// A place in the line, which is left when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// Waits for one's turn; nothing if it does not come within `patience`.
    pub(super) fn wait(self: &Arc<Turns>, patience: Duration) -> Option<Turn> {
        let turn = self.join();
        let is_behind = |line: &mut Line| line.numbers.front() != Some(&turn.number);
        let (line, waited) = self
            .moved
            .wait_timeout_while(self.line(), patience, is_behind)
            .unwrap_or_else(PoisonError::into_inner);
        drop(line);
        (!waited.timed_out()).then_some(turn)
    }

    fn join(self: &Arc<Turns>) -> Turn {
        let mut line = self.line();
        let number = line.next;
        line.next += 1;
        line.numbers.push_back(number);
        Turn {
            turns: Arc::clone(self),
            number,
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.line().numbers.retain(|number| *number != self.number);
        self.turns.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Waits until so many are in the line.
    fn wait_for(turns: &Turns, count: usize) {
        while turns.line().numbers.len() < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn turns_come_in_order_to_all_who_have_the_patience() {
        let turns = Arc::<Turns>::default();
        let served = Mutex::new(Vec::new());
        let first = turns.wait(LONG).unwrap();
        std::thread::scope(|scope| {
            for (place, patience) in [LONG, Duration::ZERO, LONG, LONG].into_iter().enumerate() {
                let (waiting, turns, served) = (turns.line().numbers.len(), &turns, &served);
                scope.spawn(move || {
                    let turn = turns.wait(patience);
                    served.lock().unwrap().push((place, turn.is_some()));
                });
                if patience == LONG {
                    wait_for(turns, waiting + 1);
                } else {
                    while served.lock().unwrap().is_empty() {
                        std::thread::yield_now();
                    }
                }
            }
            // Who comes again stands behind those who wait.
            drop(first);
            let again = turns.wait(LONG);
            served.lock().unwrap().push((9, again.is_some()));
        });
        let served = served.into_inner().unwrap();
        assert_eq!(served, [(1, false), (0, true), (2, true), (3, true), (9, true)]);
        assert!(turns.line().numbers.is_empty());
    }
}
