//! Puts an issuer's name into a certificate as the bytes it has in the issuer's own certificate, and signs
//! the result.
//!
//! A certificate names its issuer, and verifiers compare that name with the issuer's subject. rcgen parses
//! the subject and writes it again, keeping one value per attribute: `DC=corp, DC=example`, usual with Active
//! Directory, would lose a part and the chain would not verify. So a leaf is first built under an empty
//! issuer name and without a signature, and this module makes the real certificate of it.

/// The bytes did not have the shape of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A certificate's signed part, taken apart around its issuer.
pub(crate) struct Unsigned {
    algorithm: Vec<u8>,
    signed_part: Vec<u8>,
}

impl Unsigned {
    /// Takes the signed part of `draft` and gives it the name `issuer`, a whole DER `Name`.
    pub(crate) fn with_issuer(draft: &[u8], issuer: &[u8]) -> Result<Self, Malformed> {
        let whole = Element::first(draft)?;
        let signed = Element::first(whole.content)?;
        let version = Element::first(signed.content)?;
        let serial = Element::first(version.rest)?;
        let algorithm = Element::first(serial.rest)?;
        let old_issuer = Element::first(algorithm.rest)?;

        let fields = [version.all, serial.all, algorithm.all, issuer, old_issuer.rest].concat();
        Ok(Self {
            algorithm: algorithm.all.to_vec(),
            signed_part: wrap(SEQUENCE, &fields),
        })
    }

    /// The bytes that the issuer signs.
    pub(crate) fn signed_part(&self) -> &[u8] {
        &self.signed_part
    }

    /// The finished certificate.
    pub(crate) fn finish(&self, signature: &[u8]) -> Vec<u8> {
        // The leading zero of a BIT STRING says that no bit of its last byte is unused.
        let bits = wrap(BIT_STRING, &[&[0], signature].concat());
        wrap(
            SEQUENCE,
            &[&self.signed_part, &self.algorithm, &bits[..]].concat(),
        )
    }
}

struct Element<'a> {
    all: &'a [u8],
    content: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, length) = header(bytes).ok_or(Malformed)?;
        let end = header.checked_add(length).ok_or(Malformed)?;
        let (all, rest) = bytes.split_at_checked(end).ok_or(Malformed)?;
        let content = all.get(header..).ok_or(Malformed)?;
        Ok(Self { all, content, rest })
    }
}

/// The sizes of the header and of the content that it announces.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.get(1)?;
    if first < LONG_FORM {
        return Some((2, usize::from(first)));
    }
    let count = usize::from(first - LONG_FORM);
    let digits = bytes.get(2..2 + count)?;
    if count == 0 || count > 4 {
        return None;
    }
    let length = digits
        .iter()
        .fold(0, |sum, digit| (sum << 8) | usize::from(*digit));
    Some((2 + count, length))
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < LONG_FORM => element.push(short),
        _ => {
            let digits: Vec<u8> = content
                .len()
                .to_be_bytes()
                .into_iter()
                .skip_while(|digit| *digit == 0)
                .collect();
            // At most eight digits, so the sum fits.
            element.push(LONG_FORM | u8::try_from(digits.len()).unwrap_or(0));
            element.extend(digits);
        }
    }
    element.extend_from_slice(content);
    element
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const LONG_FORM: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_back_any_length(size in 0usize..70_000, tail in 0usize..9) {
            let content = vec![7; size];
            let bytes = [wrap(SEQUENCE, &content), vec![1; tail]].concat();
            let element = Element::first(&bytes).unwrap();
            prop_assert_eq!(element.content, content);
            prop_assert_eq!(element.rest.len(), tail);
        }

        #[test]
        fn never_panics_on_hostile_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Unsigned::with_issuer(&bytes, &[0x30, 0]);
        }
    }

    #[test]
    fn refuses_lengths_that_lie() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 5, 1],
            &[0x30, 0x80],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x89],
        ] {
            assert!(Element::first(bytes).is_err(), "{bytes:02x?}");
        }
    }
}
