//! The checks of request heads: the verdict on a connection's bytes does not depend on how they are cut.
#![no_main]

use bridged::wire::sound_until;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = sound_until([bytes]);
    assert!(whole <= bytes.len());
    assert_eq!(sound_until(bytes.chunks(usize::from(size) + 1)), whole);
});
