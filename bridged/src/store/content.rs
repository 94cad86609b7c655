//! Texts that users and models wrote, as they lie in the store.
//!
//! A body begins with a byte that says how the rest is to be read: as it is, compressed, or as the SHA-256 of a
//! text that was erased. The digest of a body is the same before and after its erasure, which is what the chain
//! of records relies on.

use std::cell::RefCell;

use aws_lc_rs::digest;

use super::StoreError;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const ERASED: u8 = 2;

/// Below this a text does not become smaller.
const COMPRESSED_FROM: usize = 256;
const LEVEL: i32 = 1;
/// Longest text that is read from a body, in bytes; far more than is ever recorded.
const LONGEST: u64 = 256 << 20;

/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Erased(Digest),
}

impl Content {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Content, StoreError> {
        match body.split_first() {
            Some((&PLAIN, text)) => Ok(Content::Text(String::from_utf8_lossy(text).into_owned())),
            Some((&ZSTD, packed)) => unpack(packed).map(Content::Text),
            Some((&ERASED, digest)) => {
                let digest = digest.try_into().map_err(|_| StoreError::Unreadable)?;
                Ok(Content::Erased(digest))
            }
            _ => Err(StoreError::Unreadable),
        }
    }

    /// The digest of the text, also when it was erased.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Content::Text(text) => sha256(text.as_bytes()),
            Content::Erased(digest) => *digest,
        }
    }

    /// The text, if it is still there.
    pub(super) fn text(self) -> Option<String> {
        match self {
            Content::Text(text) => Some(text),
            Content::Erased(_) => None,
        }
    }
}

/// Makes bodies. Keeps the compressor's memory from one text to the next.
#[derive(Default)]
pub(super) struct Packer(RefCell<Option<zstd::bulk::Compressor<'static>>>);

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packer")
    }
}

impl Packer {
    /// The body of `text`.
    pub(super) fn body(&self, text: &str) -> Vec<u8> {
        if text.len() >= COMPRESSED_FROM
            && let Some(packed) = self.pack(text)
            && packed.len() < text.len()
        {
            return packed;
        }
        let mut plain = Vec::with_capacity(text.len() + 1);
        plain.push(PLAIN);
        plain.extend_from_slice(text.as_bytes());
        plain
    }

    fn pack(&self, text: &str) -> Option<Vec<u8>> {
        let mut slot = self.0.borrow_mut();
        let packer = match slot.take() {
            Some(packer) => packer,
            None => zstd::bulk::Compressor::new(LEVEL).ok()?,
        };
        let mut packed = slot.insert(packer).compress(text.as_bytes()).ok()?;
        packed.insert(0, ZSTD);
        Some(packed)
    }
}

/// What stays of a body when its text is erased.
pub(super) fn erased(body: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut rest = vec![ERASED];
    rest.extend_from_slice(&Content::read(body)?.digest());
    Ok(rest)
}

/// Whether nothing but a digest is left in `body`.
pub(super) fn is_erased(body: &[u8]) -> bool {
    body.first() == Some(&ERASED)
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut sum = Digest::default();
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

thread_local! {
    /// Making one takes longer than reading most texts.
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn unpack(packed: &[u8]) -> Result<String, StoreError> {
    let unreadable = |_| StoreError::Unreadable;
    let length = match zstd::zstd_safe::get_frame_content_size(packed) {
        Ok(Some(length)) if length <= LONGEST => {
            usize::try_from(length).map_err(|_| StoreError::Unreadable)?
        }
        _ => return Err(StoreError::Unreadable),
    };
    let text = UNPACKER.with_borrow_mut(|slot| {
        let unpacker = match slot.take() {
            Some(unpacker) => unpacker,
            None => zstd::bulk::Decompressor::new().map_err(unreadable)?,
        };
        slot.insert(unpacker)
            .decompress(packed, length)
            .map_err(unreadable)
    })?;
    String::from_utf8(text).map_err(|_| StoreError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_and_leave_their_digest_when_erased() {
        let packer = Packer::default();
        let long = "the quick brown fox ".repeat(100);
        for text in ["", "short", &long, "öäü 🦊"] {
            let body = packer.body(text);
            let content = Content::read(&body).unwrap();
            assert_eq!(content, Content::Text(text.to_owned()));
            let erased = erased(&body).unwrap();
            assert!(is_erased(&erased) && !is_erased(&body));
            assert_eq!(Content::read(&erased).unwrap().digest(), content.digest());
            assert_eq!(
                super::erased(&erased).unwrap(),
                erased,
                "erasing twice changes nothing"
            );
        }
        assert!(packer.body(&long).len() < long.len() / 10);
        for wrong in [&b""[..], b"\x01no zstd", b"\x02short", b"\x09"] {
            assert!(Content::read(wrong).is_err());
        }
    }
}
