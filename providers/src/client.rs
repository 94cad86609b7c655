//! Which client sent a request, in which version and session, told from its headers.
//!
//! An open list: rules are data, the first that fits wins, what fits none is `Unknown`. A session id comes only
//! from the headers of the client that was recognised, never by another client's rule; so do the ids of sub-agents.

mod rules;

use http::HeaderMap;
use http::header::USER_AGENT;

use rules::{LIBRARIES, Mark, RULES, Rule, SDKS};

/// The client behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name; `Unknown` if no rule fits.
    pub name: &'static str,
    /// Its version, if it says so.
    pub version: Option<String>,
    /// Its own id of the session, if it sends one.
    pub session_id: Option<String>,
    /// Its own id of the sub-agent that asks, if one does.
    pub agent_id: Option<String>,
    /// The agent that started that sub-agent, if it says so.
    pub parent_agent_id: Option<String>,
}

/// The name of a client that no rule knows.
pub const UNKNOWN: &str = "Unknown";

/// The longest session id that is believed, in bytes.
const SESSION_MAX: usize = 128;

/// The longest version that is kept, in bytes.
const VERSION_MAX: usize = 64;

/// Recognises a client: an application, else an SDK by its language header, else a library.
#[must_use]
pub fn detect(headers: &HeaderMap) -> Client {
    let agent = text(headers, USER_AGENT.as_str()).unwrap_or_default();
    first_fit(RULES, headers, agent)
        .or_else(|| sdk(headers, agent))
        .or_else(|| first_fit(LIBRARIES, headers, agent))
        .unwrap_or_else(|| Client {
            version: product_version(agent),
            ..Client::named(UNKNOWN)
        })
}

fn first_fit(rules: &[Rule], headers: &HeaderMap, agent: &str) -> Option<Client> {
    let rule = rules
        .iter()
        .find(|rule| rule.marks.iter().any(|mark| mark.fits(headers, agent)))?;
    let first = |names: &[&str]| names.iter().find_map(|name| session_id(text(headers, name)?));
    let session_id = first(rule.sessions);
    Some(Client {
        version: rule.version(headers, agent),
        // The main agent may bear the session's name.
        agent_id: first(rule.agents).filter(|id| session_id.as_ref() != Some(id)),
        session_id,
        parent_agent_id: first(rule.parents),
        ..Client::named(rule.name)
    })
}

impl Client {
    const fn named(name: &'static str) -> Client {
        Client {
            name,
            version: None,
            session_id: None,
            agent_id: None,
            parent_agent_id: None,
        }
    }
}

/// The generated SDKs of both vendors name their language in a header and the vendor in the user agent.
fn sdk(headers: &HeaderMap, agent: &str) -> Option<Client> {
    let lang = text(headers, "x-stainless-lang")?;
    let sdk = SDKS.iter().find(|sdk| sdk.lang.eq_ignore_ascii_case(lang))?;
    let product = agent.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let name = match product {
        _ if product.contains("anthropic") => sdk.anthropic,
        _ if product.contains("openai") => sdk.openai,
        _ => sdk.other,
    };
    let version = text(headers, "x-stainless-package-version").and_then(version);
    Some(Client {
        version,
        ..Client::named(name)
    })
}

impl Mark {
    fn fits(&self, headers: &HeaderMap, agent: &str) -> bool {
        match self {
            Mark::Agent(prefix) => starts_with_ignoring_case(agent, prefix),
            Mark::Header(name) => text(headers, name).is_some_and(|value| !value.is_empty()),
            Mark::HeaderIs(name, want) => {
                text(headers, name).is_some_and(|value| value.eq_ignore_ascii_case(want))
            }
            Mark::HeaderStarts(name, prefix) => {
                text(headers, name).is_some_and(|value| starts_with_ignoring_case(value, prefix))
            }
        }
    }
}

impl Rule {
    fn version(&self, headers: &HeaderMap, agent: &str) -> Option<String> {
        match self.version_header {
            Some(name) => {
                text(headers, name).and_then(|value| product_version(value).or_else(|| version(value)))
            }
            // The user agent may be that of a library.
            None if self.is_named_by(agent) => product_version(agent),
            None => None,
        }
    }

    fn is_named_by(&self, agent: &str) -> bool {
        let of_agent =
            |mark: &Mark| matches!(mark, Mark::Agent(prefix) if starts_with_ignoring_case(agent, prefix));
        self.marks.iter().any(of_agent)
    }
}

/// A session id worth keeping: trimmed, visible ASCII, not too long.
pub(crate) fn session_id(value: &str) -> Option<String> {
    let value = value.trim();
    let fits = !value.is_empty() && value.len() <= SESSION_MAX && value.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| value.to_owned())
}

/// The version in `Product/1.2 (…)` or `Vendor/Language 1.2`.
fn product_version(agent: &str) -> Option<String> {
    let (_, rest) = agent.split_once('/')?;
    let mut words = rest.split(|c: char| c.is_whitespace() || matches!(c, ';' | '(' | ')' | ','));
    words
        .next()
        .and_then(version)
        .or_else(|| words.next().and_then(version))
}

fn version(value: &str) -> Option<String> {
    let fits = value.len() <= VERSION_MAX
        && value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| value.to_owned())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.as_bytes()
        .get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}

#[cfg(test)]
mod tests;
