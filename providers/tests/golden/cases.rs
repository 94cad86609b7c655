//! The cases in the folders beside this file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use providers::{Api, ReplyFacts, ReplyHead, Tap, TapLimits};

/// A request and its reply.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) api: Api,
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) path: String,
    pub(crate) request: Option<Vec<u8>>,
    pub(crate) status: u16,
    /// `sse`, `json` or another type of the reply.
    pub(crate) extension: String,
    /// Whether the connection broke.
    pub(crate) is_cut: bool,
    pub(crate) reply: Vec<u8>,
}

/// All that a tap can find.
pub(crate) const EVERYTHING: TapLimits = TapLimits {
    text: 256 * 1024,
    items: 256,
    event: 8 * 1024 * 1024,
    body: 16 * 1024 * 1024,
    decoded: 1024 * 1024 * 1024,
    keep_output: true,
    request_text: Some(400),
};

/// Every case, by API and name.
pub(crate) fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    Api::ALL
        .into_iter()
        .flat_map(|api| of_api(api, &root.join(api.as_str())))
        .collect()
}

fn of_api(api: Api, folder: &Path) -> Vec<Case> {
    let mut files: BTreeMap<String, Vec<(String, PathBuf)>> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let (name, rest) = file.split_once('.').unwrap();
        let parts = files.entry(name.to_owned()).or_default();
        parts.push((rest.to_owned(), path.clone()));
    }
    let case = |(name, parts): (String, Vec<(String, PathBuf)>)| case(api, name, folder, &parts);
    files.into_iter().map(case).collect()
}

fn case(api: Api, name: String, folder: &Path, parts: &[(String, PathBuf)]) -> Case {
    let find = |want: &str| parts.iter().find(|(rest, _)| rest.starts_with(want));
    let read = |want: &str| find(want).map(|(_, path)| fs::read(path).unwrap());
    let (reply, path) = find("reply.").unwrap_or_else(|| panic!("{api}/{name} has no reply"));
    let words: Vec<&str> = reply.split('.').skip(1).collect();
    Case {
        api,
        folder: folder.to_owned(),
        path: read("path").map_or("/".to_owned(), |path| {
            String::from_utf8(path).unwrap().trim().to_owned()
        }),
        request: read("request.json"),
        status: words.iter().find_map(|word| word.parse().ok()).unwrap_or(200),
        extension: (*words.last().unwrap()).to_owned(),
        is_cut: words.contains(&"cut"),
        reply: fs::read(path).unwrap(),
        name,
    }
}

impl Case {
    /// The reply's head.
    pub(crate) fn head<'a>(&'a self, content_encoding: Option<&'a str>) -> ReplyHead<'a> {
        let content_type = match self.extension.as_str() {
            "sse" => "text/event-stream; charset=utf-8",
            "json" => "application/json",
            _ => "text/html",
        };
        ReplyHead {
            status: self.status,
            content_type: Some(content_type),
            content_encoding,
        }
    }

    /// Reads the reply at once.
    pub(crate) fn read(&self, limits: TapLimits) -> ReplyFacts {
        self.read_in(&[self.reply.as_slice()], None, limits)
    }

    /// Reads a reply in chunks.
    pub(crate) fn read_in(&self, chunks: &[&[u8]], encoding: Option<&str>, limits: TapLimits) -> ReplyFacts {
        let mut tap = Tap::new(self.api, &self.head(encoding), limits);
        chunks.iter().for_each(|chunk| tap.push(chunk));
        tap.finish(!self.is_cut)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api, self.name)
    }
}
