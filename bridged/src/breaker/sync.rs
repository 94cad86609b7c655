//! The lock, the counter and the time of a breaker: the system's, and in tests a model's where one runs.
//!
//! A model check (`model`) runs the very code of the breaker in every order in which threads can come, and moves its
//! time by hand. That is decided when a lock is made, so that tests without a model keep the system's.

#[cfg(not(test))]
pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};

#[cfg(not(test))]
pub(super) fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
pub(super) use modelled::{AtomicU64, Mutex, MutexGuard, Time, now};

#[cfg(test)]
mod modelled {
    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::Ordering;
    use std::sync::{LockResult, PoisonError};
    use std::time::{Duration, Instant};

    thread_local! {
        /// The time of the model that runs on this thread. All threads of a model are one thread of the system.
        static TIME: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    fn is_modelled() -> bool {
        TIME.get().is_some()
    }

    pub(in super::super) fn now() -> Instant {
        TIME.get()
            .unwrap_or_else(|| tokio::time::Instant::now().into_std())
    }

    /// The time of a model, until it is dropped.
    #[derive(Debug)]
    pub(in super::super) struct Time(());

    impl Time {
        pub(in super::super) fn begin() -> Time {
            TIME.set(Some(Instant::now()));
            Time(())
        }

        pub(in super::super) fn pass(&self, length: Duration) {
            TIME.set(TIME.get().map(|now| now + length));
        }
    }

    impl Drop for Time {
        fn drop(&mut self) {
            TIME.set(None);
        }
    }

    #[derive(Debug)]
    pub(in super::super) enum Mutex<T> {
        Real(std::sync::Mutex<T>),
        Model(shuttle::sync::Mutex<T>),
    }

    #[derive(Debug)]
    pub(in super::super) enum MutexGuard<'a, T> {
        Real(std::sync::MutexGuard<'a, T>),
        Model(shuttle::sync::MutexGuard<'a, T>),
    }

    impl<T> Mutex<T> {
        pub(in super::super) fn new(value: T) -> Mutex<T> {
            if is_modelled() {
                Mutex::Model(shuttle::sync::Mutex::new(value))
            } else {
                Mutex::Real(std::sync::Mutex::new(value))
            }
        }

        pub(in super::super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            match self {
                Mutex::Real(lock) => lock
                    .lock()
                    .map(MutexGuard::Real)
                    .map_err(|error| PoisonError::new(MutexGuard::Real(error.into_inner()))),
                Mutex::Model(lock) => lock
                    .lock()
                    .map(MutexGuard::Model)
                    .map_err(|error| PoisonError::new(MutexGuard::Model(error.into_inner()))),
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            match self {
                MutexGuard::Real(guard) => guard,
                MutexGuard::Model(guard) => guard,
            }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            match self {
                MutexGuard::Real(guard) => guard,
                MutexGuard::Model(guard) => guard,
            }
        }
    }

    #[derive(Debug)]
    pub(in super::super) enum AtomicU64 {
        Real(std::sync::atomic::AtomicU64),
        Model(shuttle::sync::atomic::AtomicU64),
    }

    impl AtomicU64 {
        pub(in super::super) fn new(value: u64) -> AtomicU64 {
            if is_modelled() {
                AtomicU64::Model(shuttle::sync::atomic::AtomicU64::new(value))
            } else {
                AtomicU64::Real(std::sync::atomic::AtomicU64::new(value))
            }
        }

        pub(in super::super) fn load(&self, order: Ordering) -> u64 {
            match self {
                AtomicU64::Real(counter) => counter.load(order),
                AtomicU64::Model(counter) => counter.load(order),
            }
        }

        pub(in super::super) fn store(&self, value: u64, order: Ordering) {
            match self {
                AtomicU64::Real(counter) => counter.store(value, order),
                AtomicU64::Model(counter) => counter.store(value, order),
            }
        }
    }
}
