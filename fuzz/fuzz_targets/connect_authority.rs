//! The target of a CONNECT: whatever it is, reading it neither panics nor accepts what is not written plainly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd::authority::Authority;

fuzz_target!(|text: &str| {
    if let Ok(authority) = Authority::parse(text) {
        let again = Authority::parse(&authority.to_string()).expect("what was read can be written and read again");
        assert_eq!(again, authority);
        assert!(authority.is_named_by(&authority.to_string()));
    }
});
