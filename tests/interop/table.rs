//! The table of what works, in `docs/clients/README.md`.
//!
//! Each client's rows must stand there as the client earned them. With `CAUSEWAY_WRITE_DOCS=1` they are written.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;

use super::Mode;
use crate::clients::in_repository;

const BEGIN: &str = "<!-- rows of the interop suite -->\n";
const END: &str = "<!-- end of the rows -->";

/// A client, in one mode, with one API.
#[derive(Debug)]
pub(super) struct Row(String);

impl Row {
    pub(super) fn new(
        title: &str,
        version: &str,
        mode: Mode,
        api: &str,
        scenarios: &Value,
        calls: usize,
    ) -> Self {
        let has = |name: &str| if scenarios[name].is_null() { "–" } else { "yes" };
        let (streaming, tools, error) = (has("stream"), has("tools"), has("error"));
        let (limited, abort) = (has("limited"), has("abort"));
        let mode = match mode {
            Mode::Proxy => "proxy",
            Mode::BaseUrl => "base URL",
        };
        let api = api.replace('_', " ");
        Self(format!(
            "| {title} | {version} | {mode} | {api} | {streaming} | {tools} | {error} | {limited} | {abort} | {calls} of {calls} |"
        ))
    }
}

fn path() -> PathBuf {
    in_repository("docs/clients/README.md")
}

/// The version that a file of ours pins.
pub(super) fn pinned(file: &str, package: &str) -> String {
    let text = std::fs::read_to_string(in_repository(file)).unwrap();
    let of_npm = format!("\"{package}\": \"");
    let of_pypi = format!("{package}==");
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(&of_npm).or(line.strip_prefix(&of_pypi)));
    let version = version.unwrap_or_else(|| panic!("{package} is not pinned in {file}"));
    version.trim_end_matches([',', '"']).to_owned()
}

/// Fails unless the documents say what was seen.
pub(super) fn documented(rows: &[Row]) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock();
    let text = std::fs::read_to_string(path()).unwrap();
    let begin = text.find(BEGIN).expect("the table is marked") + BEGIN.len();
    let end = text.find(END).expect("the table's end is marked");
    let mut table: Vec<String> = text[begin..end].lines().map(str::to_owned).collect();
    for Row(row) in rows {
        if table.contains(row) {
            continue;
        }
        assert!(
            std::env::var_os("CAUSEWAY_WRITE_DOCS").is_some(),
            "docs/clients/README.md does not say (CAUSEWAY_WRITE_DOCS=1 writes it):\n{row}"
        );
        let key = |row: &str| {
            row.split('|')
                .take(5)
                .map(str::to_owned)
                .enumerate()
                .filter(|(at, _)| *at != 2)
                .collect::<Vec<_>>()
        };
        table.retain(|other| key(other) != key(row));
        table.push(row.clone());
        table.sort();
        let all: String = table.iter().map(|row| format!("{row}\n")).collect();
        let whole = format!("{}{all}{}", &text[..begin], &text[end..]);
        std::fs::write(path(), whole).unwrap();
    }
}
