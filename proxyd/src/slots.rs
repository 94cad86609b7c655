//! How many connections may be open, and how many tunnels: in all, and for one caller, so that one runaway client
//! does not take the places of everyone else. The caps come with each question: they may change at any time, and what
//! is open then stays open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose tunnel it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A known user.
    User(Arc<str>),
    /// Whoever is at this address, where policy asks for no token.
    Address(IpAddr),
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SlotError {
    /// `max-tunnels`.
    #[error("all tunnels of this proxy are in use")]
    All,
    /// `max-tunnels-per-user`.
    #[error("all tunnels that one user may have are in use")]
    Caller,
}

/// The caps of tunnels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// `max-tunnels`.
    pub(crate) all: usize,
    /// `max-tunnels-per-user`.
    pub(crate) of_one_caller: usize,
}

/// The places for connections.
#[derive(Debug, Default)]
pub(crate) struct Places(AtomicUsize);

impl Places {
    /// Takes one of `most` places, which is free again when the `Place` is dropped.
    pub(crate) fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let more = |taken| (taken < most).then_some(taken + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Place(self.clone()))
    }
}

/// A connection's place.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The places for tunnels.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_caller: HashMap<Caller, usize>,
}

impl Slots {
    /// Takes a place, which is free again when the `Slot` is dropped.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take(self: &Arc<Self>, caller: Caller, most: Most) -> Result<Slot, SlotError> {
        let mut taken = self.taken();
        if taken.all >= most.all {
            return Err(SlotError::All);
        }
        let own = taken.by_caller.get(&caller).copied().unwrap_or(0);
        if own >= most.of_one_caller {
            return Err(SlotError::Caller);
        }
        taken.all += 1;
        taken.by_caller.insert(caller.clone(), own + 1);
        drop(taken);
        Ok(Slot {
            slots: self.clone(),
            caller,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    caller: Caller,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.all -= 1;
        match taken.by_caller.get_mut(&self.caller) {
            Some(own @ 2..) => *own -= 1,
            // Callers without tunnels are forgotten.
            _ => drop(taken.by_caller.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Caller {
        Caller::User(Arc::from(name))
    }

    const fn most(all: usize, of_one_caller: usize) -> Most {
        Most { all, of_one_caller }
    }

    #[test]
    fn one_caller_leaves_room_for_others() {
        let slots = Arc::new(Slots::default());
        let take = |caller| slots.take(caller, most(3, 2));
        let first = take(user("ann")).unwrap();
        let _second = take(user("ann")).unwrap();
        assert_eq!(take(user("ann")).unwrap_err(), SlotError::Caller);
        let _other = take(Caller::Address([192, 0, 2, 1].into())).unwrap();
        assert_eq!(take(user("bob")).unwrap_err(), SlotError::All);
        drop(first);
        assert_eq!(slots.taken().by_caller[&user("ann")], 1);
        assert!(take(user("ann")).is_ok());
    }

    #[test]
    fn callers_without_tunnels_are_forgotten() {
        let slots = Arc::new(Slots::default());
        let take = |caller| slots.take(caller, most(10, 10)).unwrap();
        drop((take(user("ann")), take(user("ann"))));
        assert!(slots.taken().by_caller.is_empty());
        assert_eq!(slots.taken().all, 0);
    }

    #[test]
    fn a_lower_cap_takes_no_place_away_and_gives_none() {
        let (slots, places) = (Arc::new(Slots::default()), Arc::new(Places::default()));
        let open: Vec<_> = (0..3)
            .map(|_| slots.take(user("ann"), most(3, 3)).unwrap())
            .collect();
        assert_eq!(slots.take(user("bob"), most(2, 2)).unwrap_err(), SlotError::All);
        drop(open);
        assert!(slots.take(user("bob"), most(2, 2)).is_ok());

        let mut open: Vec<_> = (0..3).map(|_| places.take(3).unwrap()).collect();
        assert!(places.take(2).is_none() && places.take(3).is_none());
        open.truncate(1);
        assert!(places.take(2).is_some());
    }
}
