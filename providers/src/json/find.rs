//! The next of two bytes, fast when it is near and when it is far.
//!
//! Most strings of a protocol are short and escapes come in crowds, where calling a vectorised search costs more
//! than it saves; prompts are long and plain. So the first bytes are looked at in words, the rest by memchr.

/// Bytes that are looked at in words.
const NEAR: usize = 64;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where the first of the two bytes is.
#[inline]
pub(super) fn either(bytes: &[u8], one: u8, two: u8) -> Option<usize> {
    let (near, far) = bytes.split_at_checked(NEAR).unwrap_or((bytes, &[]));
    let (words, rest) = near.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let hits = zero_bytes(word ^ (ONES * u64::from(one))) | zero_bytes(word ^ (ONES * u64::from(two)));
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    if let Some(offset) = rest.iter().position(|byte| *byte == one || *byte == two) {
        return Some(at + offset);
    }
    memchr::memchr2(one, two, far).map(|offset| NEAR + offset)
}

/// Sets the high bit of the first zero byte; bits above it may be set too.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_search(bytes in prop::collection::vec(prop_oneof![9 => 0x20_u8..0x24, 1 => any::<u8>()], 0..200), one: u8, pad in 0_usize..150) {
            let bytes = [vec![b'x'; pad], bytes].concat();
            for (one, two) in [(b'"', b'\\'), (one, b'!'), (one, one)] {
                let want = bytes.iter().position(|byte| *byte == one || *byte == two);
                prop_assert_eq!(either(&bytes, one, two), want);
            }
        }
    }
}
