//! Names of models: ids without the date that pins them.

/// The id without what pins it to a date: `-20250929`, `@20250929`, `-2026-01-31`, `-latest`.
pub(super) fn undated(model: &str) -> Option<&str> {
    if let Some(head) = model.strip_suffix("-latest") {
        return Some(head);
    }
    let shapes = ["-dddddddd", "@dddddddd", "-dddd-dd-dd"];
    let (head, _) = shapes.iter().find_map(|shape| {
        let (head, tail) = model.split_at_checked(model.len().checked_sub(shape.len())?)?;
        let fits = tail.bytes().zip(shape.bytes()).all(|(byte, want)| match want {
            b'd' => byte.is_ascii_digit(),
            _ => byte == want,
        });
        fits.then_some((head, tail))
    })?;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_taken_off() {
        for (model, want) in [
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("claude-sonnet-4-5@20250929", Some("claude-sonnet-4-5")),
            ("gpt-5-2025-08-07", Some("gpt-5")),
            ("claude-3-5-haiku-latest", Some("claude-3-5-haiku")),
            ("gpt-5", None),
            ("gpt-4-1106-preview", None),
            ("gpt-4-0613", None),
            ("-20250929", Some("")),
            ("é-2025-08-07", Some("é")),
            ("2025092", None),
            ("", None),
        ] {
            assert_eq!(undated(model), want, "{model}");
        }
    }
}
