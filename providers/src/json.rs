//! A pull scanner over JSON text: finds the few members that matter and skips the rest without copying.
//!
//! It reads every valid text right and notices a break (the text ends early, a member or element is malformed), but
//! it is no validator: what is skipped is only matched for strings and brackets. Nothing recurses, so depth costs
//! nothing. Bytes that are no UTF-8, and lone surrogates, are replaced when a text is taken out.
//!
//! A visitor of [`Cursor::object`] or [`Cursor::array`] may read the value at hand or leave it to be skipped.

mod find;
mod string;

use std::borrow::Cow;

/// A position in JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    broken: bool,
}

/// One JSON value, by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Json<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor {
            bytes,
            at: 0,
            broken: false,
        }
    }

    /// Whether the text broke off or made no sense.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether nothing but white space is left.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Where the value at hand begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Visits the members of the object at hand; any other value is skipped. Tells whether it was an object.
    #[inline]
    pub(crate) fn object(&mut self, mut visit: impl FnMut(&mut Cursor<'a>, &[u8])) -> bool {
        if !self.opens(b'{') {
            return false;
        }
        while let Some(key) = self.key() {
            let before = self.at;
            visit(self, &key);
            self.finish_value(before);
            self.after_value(b'}');
        }
        true
    }

    /// Visits the elements of the array at hand; any other value is skipped. Tells whether it was an array.
    #[inline]
    pub(crate) fn array(&mut self, mut visit: impl FnMut(&mut Cursor<'a>)) -> bool {
        if !self.opens(b'[') {
            return false;
        }
        while self.has_element() {
            let before = self.at;
            visit(self);
            self.finish_value(before);
            self.after_value(b']');
        }
        true
    }

    /// The first member of that name in the object at hand; what follows it is not looked at.
    #[inline]
    pub(crate) fn find(mut self, name: &[u8]) -> Option<Json<'a>> {
        if !self.opens(b'{') {
            return None;
        }
        while let Some(key) = self.key() {
            if *key == *name {
                return self.value();
            }
            self.skip();
            self.after_value(b'}');
        }
        None
    }

    /// Skips the value at hand and returns it.
    #[inline]
    pub(crate) fn value(&mut self) -> Option<Json<'a>> {
        self.peek();
        let start = self.at;
        self.skip();
        if self.broken {
            None
        } else {
            self.bytes.get(start..self.at).map(Json)
        }
    }

    /// Enters a container, or skips a value of another type.
    #[inline]
    fn opens(&mut self, bracket: u8) -> bool {
        if self.broken {
            return false;
        }
        if self.peek() != Some(bracket) {
            self.skip();
            return false;
        }
        self.at += 1;
        true
    }

    /// Reads `"key":`, or leaves the object at its end.
    #[inline]
    fn key(&mut self) -> Option<Cow<'a, [u8]>> {
        if self.broken {
            return None;
        }
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                None
            }
            Some(b'"') => {
                let key = self.key_text();
                if self.peek() == Some(b':') {
                    self.at += 1;
                    // The value's first byte, so that a visitor's progress can be told.
                    self.peek();
                    key
                } else {
                    self.fail()
                }
            }
            _ => self.fail(),
        }
    }

    #[inline]
    fn key_text(&mut self) -> Option<Cow<'a, [u8]>> {
        let start = self.at + 1;
        let escaped = self.skip_string();
        let raw = self.bytes.get(start..self.at.saturating_sub(1))?;
        Some(if escaped {
            Cow::Owned(string::unescape(raw, raw.len()).0.into_bytes())
        } else {
            Cow::Borrowed(raw)
        })
    }

    #[inline]
    fn has_element(&mut self) -> bool {
        if self.broken {
            return false;
        }
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                false
            }
            Some(_) => true,
            None => self.fail::<()>().is_some(),
        }
    }

    /// Skips the value that the visitor left alone.
    #[inline]
    fn finish_value(&mut self, before: usize) {
        if self.at == before && !self.broken {
            self.skip();
        }
    }

    /// Steps over a comma; a closing bracket stays for the next look.
    #[inline]
    fn after_value(&mut self, close: u8) {
        match self.peek() {
            _ if self.broken => {}
            Some(b',') => {
                self.at += 1;
                // A comma before the bracket is tolerated: upstreams judge syntax, not this scanner.
                self.peek();
            }
            Some(byte) if byte == close => {}
            _ => self.broken = true,
        }
    }

    #[inline]
    fn skip(&mut self) {
        match self.peek() {
            Some(b'"') => {
                self.skip_string();
            }
            Some(b'{' | b'[') => self.skip_container(),
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.skip_scalar(),
            _ => self.broken = true,
        }
    }

    /// Skips a string from its opening quote; tells whether it has escapes.
    #[inline]
    fn skip_string(&mut self) -> bool {
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(offset) = find::either(rest, b'"', b'\\') else {
                self.broken = true;
                return escaped;
            };
            if rest.get(offset) == Some(&b'"') {
                self.at += offset + 1;
                return escaped;
            }
            escaped = true;
            self.at += offset + 2;
        }
    }

    fn skip_container(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.skip_string();
                    if self.broken {
                        return;
                    }
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(_) => {}
                None => {
                    self.broken = true;
                    return;
                }
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_scalar(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        let number = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        self.broken = !(matches!(word, b"true" | b"false" | b"null") || word.iter().all(number));
        self.at += length;
    }

    fn fail<T>(&mut self) -> Option<T> {
        self.broken = true;
        None
    }
}

impl<'a> Json<'a> {
    /// The text of one whole value; `None` if it is broken or something follows it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Json<'a>> {
        let mut cursor = Cursor::new(bytes);
        let value = cursor.value()?;
        cursor.is_at_end().then_some(value)
    }

    /// The value as it was written.
    pub(crate) fn raw(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }

    /// The bytes of the value as it was written.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_true(self) -> bool {
        self.0 == b"true"
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == b"null"
    }

    /// The boolean.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The number, if it is one and not negative; fractions are cut off.
    pub(crate) fn number(self) -> Option<u64> {
        let text = std::str::from_utf8(self.0).ok()?;
        text.parse::<u64>().ok().or_else(|| {
            let float = text
                .parse::<f64>()
                .ok()
                .filter(|float| float.is_finite() && *float >= 0.0)?;
            // The cast saturates.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked and meant"
            )]
            Some(float as u64)
        })
    }

    /// The bytes between the quotes, escapes and all.
    pub(crate) fn inner(self) -> Option<&'a [u8]> {
        self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")
    }

    /// The string.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        self.inner().map(string::text)
    }

    /// The beginning of the string, at most `max` bytes, and whether more follows.
    pub(crate) fn text_within(self, max: usize) -> Option<(String, bool)> {
        self.inner().map(|raw| string::unescape(raw, max))
    }

    /// Whether it is the string `want`.
    pub(crate) fn is_text(self, want: &str) -> bool {
        self.text().is_some_and(|text| text == want)
    }

    /// The members of those names; the last of equal names counts.
    pub(crate) fn members<const N: usize>(self, names: [&str; N]) -> [Option<Json<'a>>; N] {
        let mut found = [None; N];
        Cursor::new(self.0).object(|cursor, key| {
            let slots = names.iter().zip(found.iter_mut());
            if let Some((_, slot)) = slots.into_iter().find(|(name, _)| name.as_bytes() == key) {
                *slot = cursor.value();
            }
        });
        found
    }

    /// One member.
    pub(crate) fn member(self, name: &str) -> Option<Json<'a>> {
        let [found] = self.members([name]);
        found
    }

    /// Visits the elements, if it is an array.
    pub(crate) fn each(self, mut visit: impl FnMut(Json<'a>)) -> bool {
        Cursor::new(self.0).array(|cursor| {
            if let Some(element) = cursor.value() {
                visit(element);
            }
        })
    }
}

#[cfg(test)]
mod tests;
