//! The pages of `docs/clients/`, one for each client, made from the table.
//!
//! `causeway env --client NAME` prints the same with the reader's own paths. A test holds the pages to the table;
//! with `CAUSEWAY_WRITE_DOCS=1` it writes them.

#![cfg(test)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::place::{Place, TOKEN};
use super::{Client, File, all};
use crate::env::settings::{Mode, Settings};
use crate::env::shell::{Shell, Token};

/// The gateway of the documents.
fn example() -> Place {
    let data_dir = PathBuf::from("/home/me/.local/share/causeway");
    Place {
        proxy: ("127.0.0.1".to_owned(), 8888),
        bridge: "127.0.0.1:4001".to_owned(),
        ca: data_dir.join("ca.pem"),
        bundle: data_dir.join("ca-bundle.pem"),
        token: data_dir.join("token"),
        data_dir,
    }
}

fn page(client: &'static Client) -> String {
    let place = example();
    let mut text = format!("# {}\n\n{}\n\n", client.title, client.about);
    let name = client.name;
    let _ = writeln!(
        text,
        "The paths below are examples: `causeway env --client {name}` prints yours, `causeway doctor --client {name}` \
         finds out what is missing. `TOKEN` is the gateway token, in the file `token` of the data folder.\n"
    );
    if client.follows_variables {
        text.push_str(
            "In one step, with a gateway of its own if none runs: `causeway run -- COMMAND …`.\n\n",
        );
    }
    text.push_str("## Proxy mode\n\n");
    section(&mut text, client, Mode::Proxy, &place);
    if client.base_url.is_some() {
        text.push_str("## Base URL\n\nNo proxy, no certificate; the bridge must be reachable.\n\n");
        section(&mut text, client, Mode::BaseUrl, &place);
    }
    let command = place.fill(client.test.command);
    let _ = writeln!(
        text,
        "## Test\n\n```sh\n{command}\n```\n\nIt works if this shows {}.\n",
        client.test.shows
    );
    text.push_str("## Undo\n\n");
    undo(&mut text, client, &place);
    text
}

fn section(text: &mut String, client: &'static Client, mode: Mode, place: &Place) {
    let Some(settings) = Settings::of(Some(client), mode) else {
        return;
    };
    let token = Token::File(place.token.display().to_string());
    for (shell, fence) in [(Shell::Bash, "sh"), (Shell::Powershell, "powershell")] {
        let lines: Vec<_> = settings
            .variables(place)
            .iter()
            .map(|(name, value)| shell.set(name, value, &token))
            .collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "```{fence}\n{}\n```\n", lines.join("\n"));
        }
    }
    for File {
        path,
        format,
        text: piece,
    } in settings.files()
    {
        let piece = place.fill(piece).replace(TOKEN, "TOKEN");
        let _ = writeln!(text, "{path}:\n\n```{format}\n{}\n```\n", piece.trim_end());
    }
    for step in settings.steps() {
        let _ = writeln!(text, "- {}", place.fill(step));
    }
    if !settings.steps().is_empty() {
        text.push('\n');
    }
}

fn undo(text: &mut String, client: &'static Client, place: &Place) {
    let modes = [Mode::Proxy, Mode::BaseUrl];
    let settings = modes.iter().filter_map(|mode| Settings::of(Some(client), *mode));
    let mut names: Vec<_> = settings
        .flat_map(|settings| settings.variables(place))
        .map(|(name, _)| name)
        .collect();
    names.dedup();
    if !names.is_empty() {
        let _ = writeln!(
            text,
            "Close the shell, or:\n\n```sh\n{}\n```\n",
            Shell::Bash.unset(&names)
        );
    }
    for step in client.undo {
        let _ = writeln!(text, "- {}", place.fill(step));
    }
}

#[test]
fn the_pages_say_what_the_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients");
    let write = std::env::var_os("CAUSEWAY_WRITE_DOCS").is_some();
    for client in all() {
        let path = folder.join(format!("{}.md", client.name));
        let want = format!("{}\n", page(client).trim_end());
        if write {
            std::fs::write(&path, &want).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == want,
            "{} is stale: run CAUSEWAY_WRITE_DOCS=1 cargo test -p causeway the_pages_say",
            path.display()
        );
        assert!(
            !want.contains('{') || !want.contains("{token}"),
            "{}",
            path.display()
        );
    }
}
