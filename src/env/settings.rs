//! What one client needs, as text: lines for a shell, pieces of settings files, steps by hand, a test.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::shell::{Shell, Token};
use crate::clients::place::{Place, TOKEN};
use crate::clients::trust::{self, Kind};
use crate::clients::{Client, File, Variable};

/// The two ways to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As proxy, with the CA trusted.
    Proxy,
    /// As base URL, for clients that can.
    BaseUrl,
}

/// The settings of a client, or those that serve every client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    client: Option<&'static Client>,
    mode: Mode,
}

impl Settings {
    /// The settings of `client` in `mode`, if it knows that mode.
    pub(crate) fn of(client: Option<&'static Client>, mode: Mode) -> Option<Settings> {
        let knows = mode == Mode::Proxy || client.is_some_and(|client| client.base_url.is_some());
        knows.then_some(Settings { client, mode })
    }

    /// The variables, with the token's place in them.
    pub(crate) fn variables(&self, place: &Place) -> Vec<(&'static str, String)> {
        let Some(client) = self.client else {
            return everything(place);
        };
        let filled = |Variable(name, value): &Variable| (*name, place.fill(value));
        if self.mode == Mode::BaseUrl {
            let base_url = client.base_url.iter();
            return base_url.flat_map(|one| one.variables).map(filled).collect();
        }
        let mut variables = Vec::new();
        if client.follows_variables {
            variables.extend(place.proxy_variables());
        }
        variables.extend(client.variables.iter().map(filled));
        variables.extend(client.trust.iter().filter_map(|name| trusting(name, place)));
        variables
    }

    /// The pieces of settings files.
    pub(crate) fn files(&self) -> &'static [File] {
        match (self.client, self.mode) {
            (Some(client), Mode::Proxy) => client.files,
            (Some(client), Mode::BaseUrl) => client.base_url.as_ref().map_or(&[], |one| one.files),
            (None, _) => &[],
        }
    }

    /// What is done by hand.
    pub(crate) fn steps(&self) -> &'static [&'static str] {
        match (self.client, self.mode) {
            (Some(client), Mode::Proxy) => client.steps,
            (Some(client), Mode::BaseUrl) => client.base_url.as_ref().map_or(&[], |one| one.steps),
            (None, _) => &[],
        }
    }

    /// Everything for `shell`; what is no variable stands there as comment.
    pub(crate) fn print(&self, shell: Shell, place: &Place, token: &Token) -> String {
        if shell == Shell::Json {
            return format!("{:#}\n", self.json(place, token));
        }
        let mut text = String::new();
        if let Some(client) = self.client {
            let _ = writeln!(text, "# {}\n# {}\n#", client.title, client.about);
        }
        let variables = self.variables(place);
        for (name, value) in &variables {
            let _ = writeln!(text, "{}", shell.set(name, value, token));
        }
        let in_file = match token {
            Token::File(_) => "TOKEN",
            Token::Text(token) => token,
        };
        for file in self.files() {
            let _ = writeln!(text, "#\n# {}:", file.path);
            for line in place.fill(file.text).replace(TOKEN, in_file).lines() {
                let _ = writeln!(text, "{}", format!("#   {line}").trim_end());
            }
        }
        for step in self.steps() {
            let _ = writeln!(text, "#\n# {}", place.fill(step));
        }
        if let Some(client) = self.client {
            let _ = writeln!(text, "#\n# Test: {}", place.fill(client.test.command));
            let _ = writeln!(text, "# It works if this shows {}.", client.test.shows);
            let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
            if !names.is_empty() {
                let _ = writeln!(text, "#\n# Undo: close this shell, or {}", shell.unset(&names));
            }
            for step in client.undo {
                let _ = writeln!(text, "# Undo: {}", place.fill(step));
            }
        }
        text
    }

    fn json(&self, place: &Place, token: &Token) -> Value {
        let in_text = match token {
            Token::File(_) => "TOKEN",
            Token::Text(token) => token,
        };
        let fill = |text: &str| place.fill(text).replace(TOKEN, in_text);
        let variables: Map<_, _> = self
            .variables(place)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::String(value.replace(TOKEN, in_text))))
            .collect();
        let file = |file: &File| json!({"path": file.path, "format": file.format, "text": fill(file.text)});
        let all = |texts: &[&str]| texts.iter().map(|text| fill(text)).collect::<Vec<_>>();
        json!({
            "client": self.client.map(|client| client.name),
            "mode": match self.mode { Mode::Proxy => "proxy", Mode::BaseUrl => "base_url" },
            "token_file": place.token,
            "environment": variables,
            "files": self.files().iter().map(file).collect::<Vec<_>>(),
            "steps": all(self.steps()),
            "test": self.client.map(|client| json!({"command": fill(client.test.command), "shows": client.test.shows})),
            "undo": all(self.client.map_or(&[], |client| client.undo)),
        })
    }
}

/// The variables that serve every client at once.
pub(crate) fn everything(place: &Place) -> Vec<(&'static str, String)> {
    let mut variables = Vec::from(place.proxy_variables());
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    variables.extend(
        trust::VARIABLES
            .iter()
            .filter_map(|(name, _)| trusting(name, place)),
    );
    variables
}

fn trusting(name: &'static str, place: &Place) -> Option<(&'static str, String)> {
    let file = match trust::kind(name)? {
        Kind::Adds => &place.ca,
        Kind::Replaces => &place.bundle,
    };
    Some((name, file.display().to_string()))
}
