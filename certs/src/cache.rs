//! A bounded cache of what a daemon built from leaves. A name, the time and a way to build come in; the built
//! value goes out.
//!
//! For each name at most one caller builds while the others wait for its result, so a burst of connections to
//! a new host costs one signature. The locks are synchronous and are never held over an await; the map's lock
//! is never held while building, and nobody takes it while holding an entry's lock.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::name::LeafName;

/// Values by leaf name, each until it is due for renewal.
pub struct LeafCache<V> {
    capacity: NonZeroUsize,
    entries: Mutex<Entries<V>>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It was in the cache.
    Hit,
    /// It was built by this call.
    Minted,
}

struct Entries<V> {
    by_name: HashMap<LeafName, Entry<V>>,
    /// Counts look-ups; the smallest `used` is the entry that was not asked for the longest.
    clock: u64,
}

struct Entry<V> {
    used: u64,
    slot: Arc<Slot<V>>,
}

/// Locked while its value is being built.
type Slot<V> = Mutex<Option<Fresh<V>>>;

struct Fresh<V> {
    value: V,
    renew_at: SystemTime,
}

impl<V: Clone> LeafCache<V> {
    /// An empty cache for at most `capacity` names.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            entries: Mutex::new(Entries {
                by_name: HashMap::new(),
                clock: 0,
            }),
        }
    }

    /// The value for `name`, built by `make` if there is none or its time to renew has come. `make` also says
    /// when that will be.
    ///
    /// # Errors
    /// Those of `make`; nothing is kept then, and the next caller tries again.
    pub fn get_or_issue<E>(
        &self,
        name: &LeafName,
        now: SystemTime,
        make: impl FnOnce() -> Result<(V, SystemTime), E>,
    ) -> Result<(V, Lookup), E> {
        let slot = self.slot(name);
        let made = {
            let mut current = lock(&slot);
            match current.as_ref() {
                Some(fresh) if now < fresh.renew_at => return Ok((fresh.value.clone(), Lookup::Hit)),
                _ => {}
            }
            make().map(|(value, renew_at)| {
                *current = Some(Fresh {
                    value: value.clone(),
                    renew_at,
                });
                value
            })
        };
        match made {
            Ok(value) => Ok((value, Lookup::Minted)),
            Err(error) => {
                self.forget_unused(name, slot);
                Err(error)
            }
        }
    }

    /// Drops every value, for example because the authority changed. A value that is being built right now
    /// still goes to those who wait for it, but is not kept.
    pub fn clear(&self) {
        lock(&self.entries).by_name.clear();
    }

    /// How many names are held.
    pub fn len(&self) -> usize {
        lock(&self.entries).by_name.len()
    }

    /// Whether no name is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, name: &LeafName) -> Arc<Slot<V>> {
        let mut entries = lock(&self.entries);
        entries.clock += 1;
        let used = entries.clock;
        if let Some(entry) = entries.by_name.get_mut(name) {
            entry.used = used;
            return Arc::clone(&entry.slot);
        }
        if entries.by_name.len() >= self.capacity.get() {
            entries.evict();
        }
        let slot = Arc::new(Mutex::new(None));
        entries.by_name.insert(
            name.clone(),
            Entry {
                used,
                slot: Arc::clone(&slot),
            },
        );
        slot
    }

    /// Removes the entry of a build that failed, unless someone else waits on it and may still succeed.
    fn forget_unused(&self, name: &LeafName, slot: Arc<Slot<V>>) {
        let mut entries = lock(&self.entries);
        let ours = entries
            .by_name
            .get(name)
            .is_some_and(|entry| Arc::ptr_eq(&entry.slot, &slot));
        // Two: the map's and ours. No third can appear while the map is locked.
        let unused = ours && Arc::strong_count(&slot) == 2 && lock(&slot).is_none();
        if unused {
            entries.by_name.remove(name);
        }
        drop(entries);
        drop(slot);
    }
}

impl<V> Entries<V> {
    /// Makes room for one: the longest unused goes, preferably one that nobody waits for.
    fn evict(&mut self) {
        let oldest = self
            .by_name
            .iter()
            .min_by_key(|(_, entry)| (Arc::strong_count(&entry.slot) > 1, entry.used));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.by_name.remove(&name);
        }
    }
}

impl<V> fmt::Debug for LeafCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafCache")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// A build that panicked leaves its entry as it was, so a poisoned lock guards nothing broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
