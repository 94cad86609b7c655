//! Any chunking and any encoding of a reply gives the same facts.

use proptest::prelude::*;

use crate::cases::{EVERYTHING, cases};
use crate::encode::encode;

const CODINGS: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip"];

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![prop::collection::vec(1_usize..40, 0..400), Just(vec![1; 20_000])]
}

/// Cuts a body; what is left over is the last chunk.
fn cut<'a>(body: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = body;
    let mut chunks = Vec::new();
    for size in sizes {
        let (chunk, tail) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk);
        rest = tail;
    }
    chunks.push(rest);
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_chunking_gives_the_same_facts(sizes in sizes()) {
        for case in cases() {
            let got = case.read_in(&cut(&case.reply, &sizes), None, EVERYTHING);
            prop_assert_eq!(got, case.read(EVERYTHING), "{}", case);
        }
    }

    #[test]
    fn any_chunking_of_encoded_replies_gives_the_same_facts(sizes in sizes(), at in 0..CODINGS.len()) {
        let coding = CODINGS[at];
        for case in cases() {
            let encoded = encode(coding, &case.reply);
            let got = case.read_in(&cut(&encoded, &sizes), Some(coding), EVERYTHING);
            prop_assert_eq!(got, case.read(EVERYTHING), "{} {}", coding, case);
        }
    }
}
