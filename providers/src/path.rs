//! Request paths: prefixes by whole segments, canonical form for recognition, and the test for tricks.
//!
//! Two readers with opposite needs. Proxy mode recognises by the *canonical* path, so that `/v1//responses` or
//! `/v1/%72esponses` is governed like the path that the upstream will make of it. Base-URL mode, where a central
//! key may be attached, refuses whatever is not plain.

use std::borrow::Cow;

/// Splits a path and query at the first `?`; the query keeps its `?`.
pub(crate) fn split_query(path_and_query: &str) -> (&str, &str) {
    let at = path_and_query.find('?').unwrap_or(path_and_query.len());
    path_and_query
        .split_at_checked(at)
        .unwrap_or((path_and_query, ""))
}

/// What follows `prefix` in `path`, beginning with `/`, if `prefix` ends at a segment boundary.
pub(crate) fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    match path.strip_prefix(prefix)? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// Whether `path` means the same to every reader: no dot or empty segments, no escapes that could hide them.
pub(crate) fn is_plain(path: &str) -> bool {
    let hidden = |bytes: &[u8]| {
        let mut lower = [0; 3];
        lower.copy_from_slice(bytes);
        lower.make_ascii_lowercase();
        matches!(&lower, b"%2e" | b"%25" | b"%5c" | b"%00")
    };
    path.starts_with('/')
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b'?'))
        && !path.contains("//")
        && (!path.contains('%') || !path.as_bytes().windows(3).any(hidden))
        && segments(path).all(|segment| segment != "." && segment != "..")
}

/// The segments of a path, an escaped slash being a separator too.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .flat_map(|part| part.split("%2f"))
        .flat_map(|part| part.split("%2F"))
}

/// The path an upstream would most likely see: escapes decoded, empty and dot segments resolved, no slash at the end.
pub(crate) fn canonical(path: &str) -> Cow<'_, str> {
    let trimmed = match path.strip_suffix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => path,
    };
    if !trimmed.contains('%') && is_plain(trimmed) && !trimmed.ends_with('/') {
        return Cow::Borrowed(trimmed);
    }
    let decoded = percent_decode(path);
    let mut kept: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    Cow::Owned(
        kept.iter()
            .fold(String::with_capacity(path.len()), |out, part| out + "/" + part),
    )
}

/// Decodes `%XX`; what is no escape, or decodes to no UTF-8, stays readable.
pub(crate) fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
            [] => return Cow::Owned(String::from_utf8_lossy(&out).into_owned()),
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_segments() {
        let cases = [
            ("/v1/models", "/v1", Some("/models")),
            ("/v1", "/v1", Some("/")),
            ("/v1/", "/v1", Some("/")),
            ("/v1beta/models", "/v1", None),
            ("/models", "", Some("/models")),
            ("/a/b", "/a/b/c", None),
        ];
        for (path, prefix, want) in cases {
            assert_eq!(below(path, prefix), want, "{path} below {prefix}");
        }
    }

    #[test]
    fn tricks_are_not_plain() {
        for path in ["/", "/models", "/models/org%2Fname", "/v1/a.b/c..d", "/models/"] {
            assert!(is_plain(path), "{path}");
        }
        let tricks = [
            "",
            "models",
            "/models/../admin",
            "/models/%2e%2e/admin",
            "/models/.%2E/admin",
            "/models//admin",
            "/models/..",
            "/models/..%2fadmin",
            "/models/..%2Fadmin",
            "/models/%252e%252e/admin",
            "/models/\\admin",
            "/models/%5c..",
            "/a b",
            "/a#b",
            "/ä",
            "/./models",
        ];
        for path in tricks {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn canonical_paths_undo_disguises() {
        let cases = [
            ("/v1/responses", "/v1/responses"),
            ("/v1/responses/", "/v1/responses"),
            ("//v1///responses", "/v1/responses"),
            ("/v1/%72esponses", "/v1/responses"),
            ("/v1/x/../responses", "/v1/responses"),
            ("/v1/./responses//", "/v1/responses"),
            ("/../v1%2Fresponses", "/v1/responses"),
            ("/%", "/%"),
            ("/%ff", "/\u{fffd}"),
        ];
        for (path, want) in cases {
            assert_eq!(canonical(path), want, "{path}");
        }
    }
}
