//! Texts of peers in the form in which databases take them, before anything is stored or sealed.
//!
//! PostgreSQL has no NUL in texts, and an index of either database no long keys. What is cut ends in `…`.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Ended, Started};
use crate::secret::scrubbed;

/// Longest word that repeats (a model, a tool …) and longest id of a peer, in bytes.
const WORD: usize = 256;
/// Longest error message, in bytes.
const MESSAGE: usize = 4_096;

/// Cleans the texts of a start.
pub(super) fn started(started: &mut Started) {
    if let Some(user) = changed(&started.user, WORD) {
        started.user = Arc::from(user);
    }
    if let Some(client) = changed(&started.client, WORD) {
        started.client = Cow::Owned(client);
    }
    for word in [
        &mut started.model,
        &mut started.client_version,
        &mut started.user_agent,
        &mut started.session_id,
        &mut started.agent_id,
        &mut started.parent_agent_id,
        &mut started.credential_plan,
        &mut started.credential_account,
    ] {
        optional(word, WORD);
    }
    text(&mut started.credential_hint, WORD);
    optional(&mut started.prompt, usize::MAX);
    for result in &mut started.tool_results {
        text(&mut result.call_id, WORD);
    }
}

/// Cleans the texts of an end.
pub(super) fn ended(ended: &mut Ended) {
    optional(&mut ended.error_kind, WORD);
    if let Some(message) = &mut ended.error_message
        && let Cow::Owned(scrubbed) = scrubbed(message)
    {
        *message = scrubbed;
    }
    optional(&mut ended.error_message, MESSAGE);
    let Some(facts) = &mut ended.facts else { return };
    for word in [&mut facts.model, &mut facts.finish_reason, &mut facts.response_id] {
        optional(word, WORD);
    }
    for call in &mut facts.tool_calls {
        text(&mut call.id, WORD);
        text(&mut call.name, WORD);
        text(&mut call.arguments, usize::MAX);
    }
    for thought in &mut facts.thoughts {
        text(&mut thought.text, usize::MAX);
    }
    optional(&mut facts.output, usize::MAX);
}

fn optional(slot: &mut Option<String>, longest: usize) {
    if let Some(slot) = slot {
        text(slot, longest);
    }
}

fn text(slot: &mut String, longest: usize) {
    if let Some(clean) = changed(slot, longest) {
        *slot = clean;
    }
}

/// The clean form of `text`, if it is another one.
fn changed(text: &str, longest: usize) -> Option<String> {
    if text.len() <= longest && !text.as_bytes().contains(&0) {
        return None;
    }
    let mut clean = text.replace('\0', "\u{fffd}");
    if clean.len() > longest {
        clean = clean.trim().to_owned();
    }
    if clean.len() > longest {
        clean.truncate(clean.floor_char_boundary(longest.saturating_sub('…'.len_utf8())));
        clean.push('…');
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_before_they_are_cut() {
        let long = format!("{}{}", " ".repeat(300), "x".repeat(200));
        assert_eq!(changed(&long, WORD), Some("x".repeat(200)));
        assert_eq!(changed("fine", WORD), None);
        assert_eq!(changed("a\0b", WORD).as_deref(), Some("a\u{fffd}b"));
        let cut = changed(&"ö".repeat(200), WORD).unwrap();
        assert!(cut.ends_with("ö…") && cut.len() <= WORD, "{cut}");
    }
}
