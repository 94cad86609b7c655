//! What is known of AI clients: how each is led to the gateway, made to trust it, tried out and led back.
//!
//! One table (`table`, `editors`, `tools`) is the source of `causeway env`, `causeway run`, `causeway doctor` and the
//! pages in `docs/clients/`. Texts hold places such as `{ca}` that `place` fills; none of them ever holds a token.

mod editors;
pub(crate) mod pages;
pub(crate) mod place;
mod table;
mod tools;
pub(crate) mod trust;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// The name on the command line and of its page.
    pub(crate) name: &'static str,
    /// Other names that mean it.
    pub(crate) aliases: &'static [&'static str],
    /// Its own name.
    pub(crate) title: &'static str,
    /// How it finds its proxy and what it trusts, in a sentence or two.
    pub(crate) about: &'static str,
    /// Whether the usual proxy variables lead it.
    pub(crate) follows_variables: bool,
    /// The variables that decide what it trusts, of those in [`trust::VARIABLES`].
    pub(crate) trust: &'static [&'static str],
    /// Whether it trusts what the system's store trusts.
    pub(crate) system_store: bool,
    /// Other variables for proxy mode.
    pub(crate) variables: &'static [Variable],
    /// Settings that are no variables, for proxy mode.
    pub(crate) files: &'static [File],
    /// What has to be done by hand, for proxy mode.
    pub(crate) steps: &'static [&'static str],
    /// How it is given a base URL, if it can be.
    pub(crate) base_url: Option<BaseUrl>,
    /// The command that shows that it works, and what to look for.
    pub(crate) test: Test,
    /// How to undo what is not gone with the shell.
    pub(crate) undo: &'static [&'static str],
}

/// A variable of the environment with its value.
#[derive(Debug)]
pub(crate) struct Variable(pub(crate) &'static str, pub(crate) &'static str);

/// A piece of a settings file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) format: &'static str,
    pub(crate) text: &'static str,
}

/// Base-URL mode: no proxy and no certificate.
#[derive(Debug)]
pub(crate) struct BaseUrl {
    pub(crate) variables: &'static [Variable],
    pub(crate) files: &'static [File],
    pub(crate) steps: &'static [&'static str],
}

/// How to see that a client goes through the gateway.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) command: &'static str,
    pub(crate) shows: &'static str,
}

/// What most clients need: nothing but the lines above.
const PLAIN: Client = Client {
    name: "",
    aliases: &[],
    title: "",
    about: "",
    follows_variables: true,
    trust: &[],
    system_store: false,
    variables: &[],
    files: &[],
    steps: &[],
    base_url: None,
    test: Test {
        command: "",
        shows: "",
    },
    undo: &[],
};

/// Every client, in the order of the documents.
pub(crate) fn all() -> impl Iterator<Item = &'static Client> {
    table::AGENTS.iter().chain(editors::EDITORS).chain(tools::TOOLS)
}

/// The client that `name` means.
pub(crate) fn named(name: &str) -> Option<&'static Client> {
    all().find(|client| client.name == name || client.aliases.contains(&name))
}

/// The names, for messages.
pub(crate) fn names() -> String {
    all().map(|client| client.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_client_has_its_own_names_a_test_and_known_trust_variables() {
        let mut names = HashSet::new();
        for client in all() {
            for name in [&client.name].into_iter().chain(client.aliases) {
                assert!(names.insert(*name), "{name} is taken twice");
            }
            assert!(
                !client.about.is_empty() && !client.test.command.is_empty(),
                "{}",
                client.name
            );
            for variable in client.trust {
                assert!(trust::kind(variable).is_some(), "{}: {variable}", client.name);
            }
            let by_hand = !client.files.is_empty() || !client.steps.is_empty();
            assert!(
                !by_hand || !client.undo.is_empty(),
                "{} cannot be undone",
                client.name
            );
        }
        assert_eq!(names.len() - 2, all().count(), "two aliases");
    }
}
