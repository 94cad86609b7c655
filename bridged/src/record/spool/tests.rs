//! The spool across restarts, torn tails and limits.

use uuid::Uuid;

use super::*;
use crate::clock::Micros;
use crate::record::{Ended, Outcome};

fn event(number: u32) -> Event {
    Event::End(Box::new(Ended {
        id: Uuid::now_v7(),
        outcome: Outcome::Completed,
        status: Some(200),
        error_kind: None,
        error_message: Some("x".repeat(100)),
        first_token_at: None,
        ended_at: Micros(5),
        overhead_us: 7,
        response_bytes: 1,
        retries: number,
        answerer: None,
        facts: None,
        cost_micros: None,
    }))
}

fn number(event: &Event) -> u32 {
    match event {
        Event::End(ended) => ended.retries,
        Event::Start(_) => panic!("only ends were spooled"),
    }
}

/// Reads the spool to its end, releasing what was read.
fn drain(spool: &mut Spool) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        let portion = spool.read(7).unwrap();
        if portion.events.is_empty() {
            return numbers;
        }
        numbers.extend(portion.events.iter().map(number));
        spool.release(&portion).unwrap();
    }
}

#[test]
fn events_come_back_in_order_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
    for number in 0..20 {
        spool
            .append(&[event(2 * number), event(2 * number + 1)], 0)
            .unwrap();
    }
    let portion = spool.read(7).unwrap();
    spool.release(&portion).unwrap();
    drop(spool);
    let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
    assert_eq!(spool.events(), 40, "what was not deleted comes again");
    spool.append(&[event(40)], 0).unwrap();
    assert_eq!(drain(&mut spool), (0..41).collect::<Vec<_>>());
    assert_eq!((spool.events(), spool.bytes()), (0, 0));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing stays on disk"
    );
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
    spool.append(&[event(1), event(2)], 0).unwrap();
    let whole = spool.bytes() as usize;
    let path = spool.path(1);
    drop(spool);
    let bytes = fs::read(&path).unwrap();
    let second = whole / 2;
    for torn in [whole - 1, whole - 50, second + HEAD, second + 3, second] {
        fs::write(&path, &bytes[..torn]).unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(spool.events(), 1, "torn at {torn}");
        spool.append(&[event(3)], 0).unwrap();
        assert_eq!(drain(&mut spool), [1, 3], "torn at {torn}");
        fs::write(&path, &bytes).unwrap();
    }
    let mut changed = bytes.clone();
    changed[whole - 10] ^= 1;
    fs::write(&path, &changed).unwrap();
    assert_eq!(
        Spool::open(folder.path(), 1 << 20).unwrap().events(),
        1,
        "a changed entry is none"
    );
}

#[test]
fn a_full_spool_refuses_and_takes_again_what_was_released() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1_000).unwrap();
    let mut kept = 0;
    while spool.append(&[event(kept)], 0).is_ok() {
        kept += 1;
    }
    assert!((1..10).contains(&kept), "{kept}");
    assert!(matches!(spool.append(&[event(9)], 0), Err(SpoolError::Full)));
    spool.append(&[event(kept)], 1_000).unwrap();
    assert_eq!(drain(&mut spool).len() as u32, kept + 1);
    spool.append(&[event(9)], 0).unwrap();
}

#[test]
fn segments_are_closed_at_their_length_and_deleted_when_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
    let events: Vec<Event> = (0..1_000).map(event).collect();
    while spool.segments.len() < 3 {
        spool.append(&events, 0).unwrap();
    }
    let count = spool.events() as usize;
    let files = || fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files(), 3);
    assert_eq!(drain(&mut spool).len(), count);
    assert_eq!(files(), 0);
}
