//! How much text a request holds, for estimates of usage that nobody reports.

use memchr::{memchr, memmem};

/// The bytes of a request body without what data URLs embed: pictures and files are no text.
#[must_use]
pub fn text_length(body: &[u8]) -> usize {
    const MARK: &[u8] = b";base64,";
    let (mut rest, mut embedded) = (body, 0_usize);
    while let Some(at) = memmem::find(rest, MARK) {
        rest = rest.get(at + MARK.len()..).unwrap_or_default();
        let end = memchr(b'"', rest).unwrap_or(rest.len());
        embedded = embedded.saturating_add(end);
        rest = rest.get(end..).unwrap_or_default();
    }
    body.len().saturating_sub(embedded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_no_text() {
        for (body, want) in [
            ("", 0),
            (r#"{"text":"hello"}"#, 16),
            (r#"{"url":"data:image/png;base64,AAAA","a":1}"#, 38),
            (r#"["data:a;base64,AAAA","data:b;base64,BB"]"#, 35),
            (r#"{"url":"data:image/png;base64,AAAA"#, 30),
        ] {
            assert_eq!(text_length(body.as_bytes()), want, "{body}");
        }
    }
}
