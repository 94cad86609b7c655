//! Which models may be used, by whom.
//!
//! The rule in one sentence: a model is refused if any rule about the sender denies it, or if rules about the
//! sender have `allow` lists and none of these names it. A request whose model cannot be read is refused where
//! any such list would have to be looked at, because nobody could say what it asks for.

use providers::Glob;

use super::Denied;
use super::scope::{Scope, Subject};

/// One `[[policy.rule]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whom it is about.
    pub scope: Scope,
    /// The models that may be used; none: no restriction by this rule.
    pub allow: Vec<Glob>,
    /// The models that may not.
    pub deny: Vec<Glob>,
}

/// `[policy]`.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The status of refusals: 400 is what every client shows and none repeats.
    pub refusal_status: u16,
    /// The rules, in no order that matters.
    pub rules: Vec<Rule>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            refusal_status: 400,
            rules: Vec::new(),
        }
    }
}

impl Policy {
    /// Judges a call of `model`.
    ///
    /// # Errors
    /// The model is not allowed.
    pub fn judge(&self, subject: Subject<'_>, model: Option<&str>) -> Result<(), Denied> {
        let refused = || {
            Err(Denied::Model {
                status: self.refusal_status,
                model: model.map(str::to_owned),
            })
        };
        let (mut restricted, mut allowed) = (false, false);
        for rule in self.rules.iter().filter(|rule| rule.scope.covers(subject)) {
            if names(&rule.deny, model, Unread::Named) {
                return refused();
            }
            restricted |= !rule.allow.is_empty();
            allowed |= names(&rule.allow, model, Unread::NotNamed);
        }
        if restricted && !allowed {
            return refused();
        }
        Ok(())
    }

    /// Judges a request that calls no model: it is refused where every model is.
    ///
    /// # Errors
    /// A rule denies the sender all of this provider.
    pub fn judge_unbridged(&self, subject: Subject<'_>) -> Result<(), Denied> {
        let closed = |rule: &Rule| rule.deny.iter().any(Glob::is_any) && rule.scope.covers(subject);
        if !self.rules.iter().any(closed) {
            return Ok(());
        }
        Err(Denied::Provider {
            status: self.refusal_status,
        })
    }
}

/// How a model that cannot be read counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    Named,
    NotNamed,
}

fn names(globs: &[Glob], model: Option<&str>, unread: Unread) -> bool {
    match (model, unread) {
        (Some(model), _) => globs.iter().any(|glob| glob.matches(model)),
        (None, Unread::Named) => !globs.is_empty(),
        (None, Unread::NotNamed) => globs.iter().any(Glob::is_any),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| Glob::new(text)).collect()
    }

    fn rule(users: &[&str], groups: &[&str], allow: &[&str], deny: &[&str]) -> Rule {
        Rule {
            scope: Scope {
                users: globs(users),
                groups: globs(groups),
                providers: Vec::new(),
            },
            allow: globs(allow),
            deny: globs(deny),
        }
    }

    #[test]
    fn deny_wins_and_allow_lists_restrict() {
        let policy = Policy {
            rules: vec![
                rule(&[], &[], &[], &["*-preview"]),
                rule(&[], &["interns"], &["gpt-*-mini"], &[]),
                rule(&["eve"], &[], &["gpt-5*"], &[]),
            ],
            ..Policy::default()
        };
        let (provider, interns): (Arc<str>, [Arc<str>; 1]) = ("openai".into(), ["interns".into()]);
        for (user, group, model, want) in [
            ("ann", false, Some("gpt-5"), true),
            ("ann", false, Some("GPT-6-preview"), false),
            ("ann", false, None, false),
            ("bob", true, Some("gpt-5"), false),
            ("bob", true, Some("gpt-5-mini"), true),
            // Either list allows.
            ("eve", true, Some("gpt-5"), true),
            ("eve", true, Some("gpt-4-mini"), true),
            ("eve", true, Some("gpt-5-preview"), false),
            ("eve", true, Some("o3"), false),
        ] {
            let user: Arc<str> = user.into();
            let subject = Subject {
                user: &user,
                groups: if group { &interns } else { &[] },
                listed: &[],
                provider: &provider,
            };
            let judged = policy.judge(subject, model).is_ok();
            assert_eq!(judged, want, "{user} {model:?}");
        }
    }

    #[test]
    fn only_a_whole_provider_is_closed_to_other_requests() {
        let (user, provider): (Arc<str>, Arc<str>) = ("ann".into(), "openai".into());
        let subject = Subject {
            user: &user,
            groups: &[],
            listed: &[],
            provider: &provider,
        };
        for (deny, want) in [("gpt-*", true), ("*", false)] {
            let policy = Policy {
                rules: vec![rule(&[], &[], &[], &[deny])],
                ..Policy::default()
            };
            assert_eq!(policy.judge_unbridged(subject).is_ok(), want, "{deny}");
        }
    }
}
