//! How many tunnels may be open: in all, and for one caller, so that one runaway client does not take the
//! places of everyone else.

use std::collections::HashMap;
use std::net::IpAddr;
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

/// The places for tunnels.
#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    most_per_caller: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_caller: HashMap<Caller, usize>,
}

impl Slots {
    pub(crate) fn new(most: usize, most_per_caller: usize) -> Arc<Slots> {
        Arc::new(Slots {
            most,
            most_per_caller,
            taken: Mutex::default(),
        })
    }

    /// Takes a place, which is free again when the `Slot` is dropped.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take(self: &Arc<Self>, caller: Caller) -> Result<Slot, SlotError> {
        let mut taken = self.taken();
        if taken.all >= self.most {
            return Err(SlotError::All);
        }
        let own = taken.by_caller.get(&caller).copied().unwrap_or(0);
        if own >= self.most_per_caller {
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

    #[test]
    fn one_caller_leaves_room_for_others() {
        let slots = Slots::new(3, 2);
        let first = slots.take(user("ann")).unwrap();
        let _second = slots.take(user("ann")).unwrap();
        assert_eq!(slots.take(user("ann")).unwrap_err(), SlotError::Caller);
        let _other = slots.take(Caller::Address([192, 0, 2, 1].into())).unwrap();
        assert_eq!(slots.take(user("bob")).unwrap_err(), SlotError::All);
        drop(first);
        assert_eq!(slots.taken().by_caller[&user("ann")], 1);
        assert!(slots.take(user("ann")).is_ok());
    }

    #[test]
    fn callers_without_tunnels_are_forgotten() {
        let slots = Slots::new(10, 10);
        drop((slots.take(user("ann")).unwrap(), slots.take(user("ann")).unwrap()));
        assert!(slots.taken().by_caller.is_empty());
        assert_eq!(slots.taken().all, 0);
    }
}
