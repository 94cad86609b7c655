//! `[[sink]]`: where interceptions are delivered as they end.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use providers::BaseUrl;
use serde::Deserialize;

use super::provider::KeyFile;
use super::source::{Problems, Source};
use super::{ByteSize, Span};
use crate::secret::Secret;
use crate::store::{Filter, Status};

/// `[[sink]]` as it stands in the text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SinkFile {
    /// Names it; what it has got is kept under this name.
    pub name: String,
    /// `file`, `webhook` or `otlp`.
    pub kind: SinkKind,
    /// Of a file: where it is; in the data folder unless absolute.
    pub path: Option<PathBuf>,
    /// Of a file: how large it may become.
    pub max_size: Option<ByteSize>,
    /// Of a file: how many full ones are kept.
    pub keep: Option<u32>,
    /// Of a webhook and of OTLP: where it is.
    pub url: Option<String>,
    /// Of a webhook: what its batches are signed with.
    pub secret: Option<KeyFile>,
    /// Of OTLP: goes along as `Authorization: Bearer`.
    pub token: Option<KeyFile>,
    /// Of a webhook and of OTLP: deadline of one attempt.
    pub timeout: Option<Span>,
    /// Whether prompts, outputs, arguments and thoughts go along.
    #[serde(default)]
    pub content: bool,
    /// Only of these users; none: all.
    #[serde(default)]
    pub users: Vec<String>,
    /// Only with these providers; none: all.
    #[serde(default)]
    pub providers: Vec<String>,
    /// Only those that ended so; none: all.
    #[serde(default)]
    pub status: Vec<String>,
}

/// A kind of sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkKind {
    /// JSON Lines on this machine.
    File,
    /// Signed JSON by HTTP.
    Webhook,
    /// OpenTelemetry logs by HTTP.
    Otlp,
}

/// A sink that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub to: Destination,
    /// Whether texts go along.
    pub content: bool,
    /// Which interceptions it gets.
    pub filter: Filter,
}

/// Where a sink is.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// A file.
    File(FileConfig),
    /// A web server.
    Http(HttpConfig),
}

/// A file of JSON Lines.
#[derive(Clone, Debug, PartialEq)]
pub struct FileConfig {
    /// Where it is.
    pub path: PathBuf,
    /// How large it may become, in bytes.
    pub max_size: u64,
    /// How many full ones are kept.
    pub keep: u32,
}

/// A web server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Where it is.
    pub url: BaseUrl,
    /// What it is sent.
    pub form: HttpForm,
    /// Deadline of one attempt.
    pub timeout: Duration,
}

/// What a web server is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpForm {
    /// JSON, signed with the secret.
    Webhook(Secret),
    /// OpenTelemetry logs, with the token if there is one.
    Otlp(Option<Secret>),
}

/// Shortest secret that signs.
const SECRET: usize = 16;

/// Checks the entries.
pub(super) fn build(files: &[SinkFile], source: &Source, problems: &mut Problems) -> Vec<SinkConfig> {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    let mut sinks = Vec::new();
    for file in files {
        let key = format!("sink.{}", file.name);
        if !is_name(&file.name) || !names.insert(file.name.clone()) {
            problems.add(
                &key,
                "needs a `name` of its own: small letters, digits and hyphens",
            );
        }
        refuse_strangers(file, &key, problems);
        let to = match file.kind {
            SinkKind::File => build_file(file, &key, source, problems).map(Destination::File),
            _ => build_http(file, &key, source, problems).map(Destination::Http),
        };
        if let Some(Destination::File(own)) = &to
            && !paths.insert(own.path.clone())
        {
            problems.add(&format!("{key}.path"), "is the file of another sink");
        }
        let filter = filter(file, &key, problems);
        sinks.extend(to.map(|to| SinkConfig {
            name: Arc::from(file.name.as_str()),
            to,
            content: file.content,
            filter,
        }));
    }
    sinks
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(is_letter)
}

/// Names keys that mean nothing to this kind.
fn refuse_strangers(file: &SinkFile, key: &str, problems: &mut Problems) {
    let is_file = file.kind == SinkKind::File;
    let strangers = [
        ("path", file.path.is_some() && !is_file),
        ("max-size", file.max_size.is_some() && !is_file),
        ("keep", file.keep.is_some() && !is_file),
        ("url", file.url.is_some() && is_file),
        ("timeout", file.timeout.is_some() && is_file),
        ("secret", file.secret.is_some() && file.kind != SinkKind::Webhook),
        ("token", file.token.is_some() && file.kind != SinkKind::Otlp),
    ];
    for (name, _) in strangers.into_iter().filter(|(_, is_there)| *is_there) {
        problems.add(&format!("{key}.{name}"), "means nothing to this kind of sink");
    }
}

fn filter(file: &SinkFile, key: &str, problems: &mut Problems) -> Filter {
    let mut status = Vec::new();
    for text in &file.status {
        match Status::parse(text) {
            Some(state @ Status::Ended(_)) => status.push(state),
            _ => problems.add(
                &format!("{key}.status"),
                format!("`{text}` is none of completed, failed, refused, aborted"),
            ),
        }
    }
    Filter {
        user: file.users.clone(),
        provider: file.providers.clone(),
        status,
        ..Filter::default()
    }
}

fn build_file(file: &SinkFile, key: &str, source: &Source, problems: &mut Problems) -> Option<FileConfig> {
    let Some(path) = &file.path else {
        problems.add(
            &format!("{key}.path"),
            "is missing: write e.g. \"interceptions.jsonl\"",
        );
        return None;
    };
    let max_size = file.max_size.map_or(64 << 20, |size| size.bytes() as u64);
    if max_size < 4_096 {
        problems.add(&format!("{key}.max-size"), "must be at least 4KiB");
    }
    Some(FileConfig {
        path: source.in_data_dir(path),
        max_size,
        keep: file.keep.unwrap_or(5),
    })
}

fn build_http(file: &SinkFile, key: &str, source: &Source, problems: &mut Problems) -> Option<HttpConfig> {
    let text = file.url.as_deref().unwrap_or_default();
    let url = BaseUrl::parse(text).map_err(|error| {
        problems.add(
            &format!("{key}.url"),
            format!("{error}: write e.g. \"https://host/path\""),
        );
    });
    let timeout = file.timeout.map_or(Duration::from_secs(10), Span::duration);
    if timeout.is_zero() {
        problems.add(&format!("{key}.timeout"), "must be above 0");
    }
    let mut load = |from: &KeyFile, name: &str| {
        let loaded = from.load(source);
        loaded
            .map(|loaded| loaded.secret)
            .map_err(|text| problems.add(&format!("{key}.{name}"), text))
            .ok()
    };
    let form = match (file.kind, &file.secret) {
        (SinkKind::Otlp, _) => HttpForm::Otlp(match &file.token {
            Some(from) => Some(load(from, "token")?),
            None => None,
        }),
        (_, Some(from)) => HttpForm::Webhook(load(from, "secret")?),
        (_, None) => {
            problems.add(
                &format!("{key}.secret"),
                "is missing: receivers check the signature",
            );
            return None;
        }
    };
    if let HttpForm::Webhook(secret) = &form
        && secret.expose().len() < SECRET
    {
        let text = format!("must have at least {SECRET} characters");
        problems.add(&format!("{key}.secret"), text);
    }
    let mut url = url.ok()?;
    if file.kind == SinkKind::Otlp && url.path.is_empty() {
        "/v1/logs".clone_into(&mut url.path);
    }
    Some(HttpConfig { url, form, timeout })
}
