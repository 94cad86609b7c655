//! The cache's promises, one per test; the values are numbers so that a rebuilt one is told from an old one.

use std::convert::Infallible;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn cache(capacity: usize) -> LeafCache<u32> {
    LeafCache::new(NonZeroUsize::new(capacity).unwrap())
}

fn host(number: usize) -> LeafName {
    LeafName::Dns(format!("host-{number}.example"))
}

fn put(cache: &LeafCache<u32>, number: usize, value: u32) -> (u32, Lookup) {
    cache
        .get_or_issue(&host(number), at(0), || Ok::<_, Infallible>((value, at(100))))
        .unwrap()
}

#[test]
fn builds_once_and_then_hits() {
    let cache = cache(4);
    assert_eq!(put(&cache, 1, 10), (10, Lookup::Minted));
    assert_eq!(put(&cache, 1, 11), (10, Lookup::Hit));
    assert_eq!(put(&cache, 2, 20), (20, Lookup::Minted));
    assert_eq!(cache.len(), 2);
}

#[test]
fn rebuilds_what_is_due_for_renewal() {
    let cache = cache(4);
    put(&cache, 1, 10);
    let ask = |now| {
        cache
            .get_or_issue(&host(1), at(now), || Ok::<_, Infallible>((11, at(200))))
            .unwrap()
    };
    assert_eq!(ask(99), (10, Lookup::Hit));
    assert_eq!(ask(100), (11, Lookup::Minted));
    assert_eq!(ask(199), (11, Lookup::Hit));
}

#[test]
fn sixteen_threads_build_one_value() {
    let cache = cache(4);
    let (builds, start) = (AtomicUsize::new(0), Barrier::new(16));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                let make = || {
                    builds.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                    Ok::<_, Infallible>((7, at(100)))
                };
                assert_eq!(cache.get_or_issue(&host(1), at(0), make).unwrap().0, 7);
            });
        }
    });
    assert_eq!(builds.into_inner(), 1);
}

#[test]
fn other_names_do_not_wait_for_a_build() {
    let cache = cache(4);
    let make = || {
        assert_eq!(put(&cache, 2, 20), (20, Lookup::Minted));
        Ok::<_, Infallible>((10, at(100)))
    };
    assert_eq!(
        cache.get_or_issue(&host(1), at(0), make).unwrap(),
        (10, Lookup::Minted)
    );
}

#[test]
fn holds_no_more_than_its_capacity() {
    let cache = cache(8);
    for number in 0..100 {
        put(&cache, number, 1);
        assert!(cache.len() <= 8);
    }
    assert_eq!(cache.len(), 8);
}

#[test]
fn the_longest_unused_name_goes_first() {
    let cache = cache(2);
    put(&cache, 1, 10);
    put(&cache, 2, 20);
    put(&cache, 1, 11);
    put(&cache, 3, 30);
    assert_eq!(put(&cache, 1, 12), (10, Lookup::Hit));
    assert_eq!(put(&cache, 2, 21), (21, Lookup::Minted));
}

#[test]
fn a_failed_build_is_not_kept() {
    let cache = cache(2);
    let failed = cache.get_or_issue(&host(1), at(0), || Err::<(u32, SystemTime), _>("no"));
    assert_eq!(failed, Err("no"));
    assert!(cache.is_empty());
    assert_eq!(put(&cache, 1, 10), (10, Lookup::Minted));
}

#[test]
fn a_panic_while_building_leaves_the_name_usable() {
    let cache = cache(2);
    let panicked = thread::scope(|scope| {
        scope
            .spawn(|| {
                cache.get_or_issue(&host(1), at(0), || -> Result<_, Infallible> {
                    panic!("on purpose")
                })
            })
            .join()
    });
    assert!(panicked.is_err());
    assert_eq!(put(&cache, 1, 10), (10, Lookup::Minted));
}

#[test]
fn a_value_built_across_a_clear_is_not_kept() {
    let cache = cache(2);
    let make = || {
        cache.clear();
        Ok::<_, Infallible>((10, at(100)))
    };
    assert_eq!(
        cache.get_or_issue(&host(1), at(0), make).unwrap(),
        (10, Lookup::Minted)
    );
    assert!(
        cache.is_empty(),
        "it may be signed by the authority that was just replaced"
    );
}
