//! Replies in which nothing is said: embeddings, and the counting of tokens.
//!
//! Of embeddings only the usage matters, the vectors are skipped. A count of tokens is itself no usage: it is kept
//! as `counted_input_tokens` beside counts that are truly zero.

use super::facts::TapProblem;
use super::found::Found;
use crate::json::{Cursor, Json};

/// What the numbers mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tally {
    /// Tokens that were used.
    Used,
    /// Tokens that a request would use.
    Counted,
}

impl Tally {
    /// Reads the one document; tells whether it was whole.
    pub(super) fn document(self, data: &[u8], found: &mut Found) -> bool {
        let mut cursor = Cursor::new(data);
        let is_object = cursor.object(|cursor, key| match (self, key) {
            (Tally::Used, b"id") => found.set_id(cursor.value()),
            (Tally::Used, b"model") => found.set_model(cursor.value()),
            (Tally::Used, b"usage") => {
                found.add_usage(cursor.value());
            }
            (Tally::Counted, b"input_tokens") => found.counted = cursor.value().and_then(Json::number),
            (_, b"error") => found.add_error(cursor.value()),
            _ => {}
        });
        let whole = is_object && !cursor.is_broken();
        if !whole {
            found.note(TapProblem::Malformed);
        }
        whole
    }
}
