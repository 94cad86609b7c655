//! What a head has said about its framing, and the verdict on it.
//!
//! Keeps of each field only what is compared; in come names and values in pieces, out comes a `Framing`.

use super::Fault;

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunks,
}

/// What a head has said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// The token in hand: a method, a version or a field name.
    pub(super) token: Short,
    pub(super) value: Short,
    pub(super) field: Field,
    pub(super) http10: bool,
    pub(super) connect: bool,
    length: Option<u64>,
    chunked: bool,
    host: bool,
}

/// The fields on which framing depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field {
    #[default]
    Other,
    Length,
    Coding,
    Host,
}

/// The beginning of a text, enough to recognise what matters here.
#[derive(Clone, Debug, Default)]
pub(super) struct Short {
    bytes: [u8; SHORT],
    /// How long the whole text is, at most one more than is kept.
    pub(super) length: usize,
}

/// Longer than every text that is compared, and than every number that fits a `u64`.
const SHORT: usize = 24;

impl Head {
    /// Judges a field whose line has ended.
    pub(super) fn end_field(&mut self) -> Result<(), Fault> {
        match self.field {
            Field::Other => {}
            Field::Length => {
                let length = self.value.number().ok_or(Fault::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(Fault::Length);
                }
            }
            Field::Coding => {
                if self.http10 {
                    return Err(Fault::CodingInHttp10);
                }
                if self.chunked || !self.value.trimmed().is_some_and(is_chunked) {
                    return Err(Fault::Coding);
                }
                self.chunked = true;
            }
            Field::Host => {
                if std::mem::replace(&mut self.host, true) {
                    return Err(Fault::HostRepeated);
                }
            }
        }
        Ok(())
    }

    /// What follows the head.
    pub(super) fn framing(&self) -> Result<Framing, Fault> {
        // A CONNECT has its target elsewhere; some clients send nothing else.
        if !self.host && !self.http10 && !self.connect {
            return Err(Fault::HostMissing);
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::LengthAndCoding),
            (None, true) => Ok(Framing::Chunks),
            (None | Some(0), false) => Ok(Framing::None),
            (Some(length), false) => Ok(Framing::Length(length)),
        }
    }
}

impl Short {
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends a run of bytes, of which `first` is the first.
    pub(super) fn take(&mut self, first: u8, rest: &[u8], run: usize) {
        let bytes = std::iter::once(first).chain(rest.iter().copied()).take(run);
        for byte in bytes.take(SHORT + 1 - self.length.min(SHORT + 1)) {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
            }
            self.length += 1;
        }
    }

    /// The whole text, unless it is longer than what is kept.
    pub(super) fn text(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }

    fn trimmed(&self) -> Option<&[u8]> {
        self.text().map(<[u8]>::trim_ascii)
    }

    pub(super) fn is(&self, lower: &[u8]) -> bool {
        self.text().is_some_and(|text| text.eq_ignore_ascii_case(lower))
    }

    pub(super) fn field(&self) -> Field {
        match self.length {
            4 if self.is(b"host") => Field::Host,
            14 if self.is(b"content-length") => Field::Length,
            17 if self.is(b"transfer-encoding") => Field::Coding,
            _ => Field::Other,
        }
    }

    fn number(&self) -> Option<u64> {
        let digits = self.trimmed()?;
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

fn is_chunked(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"chunked")
}
