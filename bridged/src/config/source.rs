//! Where configuration text comes from: one TOML file with the environment laid over it.
//!
//! Sections are read one by one, so that a mistake in one does not hide those in the others. Sections that
//! nobody read are reported by `finish`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::secret;

/// The text of a configuration, being read.
#[derive(Debug)]
pub struct Source {
    file: String,
    folder: PathBuf,
    data_dir: PathBuf,
    sections: Table,
}

/// Every problem found in a configuration.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<String>,
}

impl Problems {
    /// Notes a problem: `key` is the key's path, `text` says what is wrong and what to write instead.
    pub fn add(&mut self, key: &str, text: impl fmt::Display) {
        self.found.push(told(key, text));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// A configuration that cannot run, with all that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .lines.join("\n"))]
pub struct ConfigError {
    lines: Vec<String>,
}

impl ConfigError {
    fn single(file: &str, text: impl fmt::Display) -> ConfigError {
        ConfigError {
            lines: vec![told(file, text)],
        }
    }

    /// One line a problem.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl Source {
    /// Reads `file` (none: an empty configuration) and lays over it the variables of `environment` that
    /// begin with `CAUSEWAY_`: `CAUSEWAY_SECTION__KEY`, `CAUSEWAY_PROVIDER__NAME__KEY`.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML.
    pub fn read(
        file: Option<&Path>,
        data_dir: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Source, ConfigError> {
        let name = file.map_or_else(|| "(no file)".to_owned(), |path| path.display().to_string());
        let sections = match file {
            None => Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError::single(&name, format!("cannot be read: {error}")))?;
                text.parse().map_err(|error: toml::de::Error| {
                    ConfigError::single(&name, format!("is not TOML: {}", without_excerpt(&error, &text)))
                })?
            }
        };
        let folder = file
            .and_then(Path::parent)
            .map(Path::to_owned)
            .unwrap_or_default();
        let mut source = Source {
            file: name,
            folder,
            data_dir: data_dir.to_owned(),
            sections,
        };
        source.overlay(environment);
        Ok(source)
    }

    /// Takes the section `[name]`.
    pub fn section<T: DeserializeOwned + Default>(&mut self, name: &str, problems: &mut Problems) -> T {
        match self.sections.remove(name) {
            None => T::default(),
            Some(value) => value.try_into().unwrap_or_else(|error: toml::de::Error| {
                problems.add(name, without_value(error.message()));
                T::default()
            }),
        }
    }

    /// Takes every `[[name]]`.
    pub fn entries<T: DeserializeOwned>(&mut self, name: &str, problems: &mut Problems) -> Vec<T> {
        let values = match self.sections.remove(name) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                problems.add(name, format!("must be a list: write [[{name}]]"));
                return Vec::new();
            }
        };
        let mut entries = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let label = entry_label(name, index, &value);
            match value.try_into() {
                Ok(entry) => entries.push(entry),
                Err(error) => problems.add(&label, without_value(error.message())),
            }
        }
        entries
    }

    /// Ends the reading: sections that nobody took are unknown, and any problem makes an error.
    ///
    /// # Errors
    /// All problems, each with the file's name.
    pub fn finish(self, mut problems: Problems, known: &[&str]) -> Result<(), ConfigError> {
        for name in self.sections.keys() {
            problems.add(name, format!("unknown section; known are {}", known.join(", ")));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(ConfigError {
            lines: problems
                .found
                .iter()
                .map(|problem| format!("{}: {problem}", self.file))
                .collect(),
        })
    }

    /// A path as written in the file, which is relative to the file's folder.
    pub fn beside(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// A path that lies in the data folder unless it is absolute.
    pub fn in_data_dir(&self, path: impl AsRef<Path>) -> PathBuf {
        self.data_dir.join(path)
    }

    fn overlay(&mut self, environment: impl Iterator<Item = (String, String)>) {
        for (name, text) in environment {
            let Some(path) = name.strip_prefix("CAUSEWAY_") else {
                continue;
            };
            let parts: Vec<String> = path
                .split("__")
                .map(|part| part.to_ascii_lowercase().replace('_', "-"))
                .collect();
            match parts.as_slice() {
                [section, key] => {
                    let table = self
                        .sections
                        .entry(section.clone())
                        .or_insert_with(|| Table::new().into());
                    if let Value::Table(table) = table {
                        table.insert(key.clone(), scalar(&text));
                    }
                }
                [section, name, key] if section == "provider" => self.overlay_provider(name, key, &text),
                _ => {}
            }
        }
    }

    fn overlay_provider(&mut self, name: &str, key: &str, text: &str) {
        let list = self
            .sections
            .entry("provider")
            .or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else { return };
        let named = |value: &Value| value.get("name").and_then(Value::as_str) == Some(name);
        if !list.iter().any(named) {
            let mut entry = Table::new();
            entry.insert("name".to_owned(), name.into());
            list.push(entry.into());
        }
        if let Some(Value::Table(entry)) = list.iter_mut().find(|value| named(value)) {
            entry.insert(key.to_owned(), scalar(text));
        }
    }
}

/// A variable's text as TOML where it is a number, a boolean, a list or a table, else as it stands.
fn scalar(text: &str) -> Value {
    let parsed = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(value @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::Table(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn entry_label(name: &str, index: usize, value: &Value) -> String {
    match value.get("name").and_then(Value::as_str) {
        Some(entry) => format!("{name}.{entry}"),
        None => format!("{name}[{index}]"),
    }
}

/// Goes to logs and answers: whatever looks like a credential is masked, wherever it was written by mistake.
fn told(place: &str, text: impl fmt::Display) -> String {
    secret::scrubbed(&format!("{place}: {text}")).into_owned()
}

/// The message without the text that stands where something else belongs: that may be a key or a password.
fn without_value(message: &str) -> String {
    let value = message
        .split_once("string \"")
        .and_then(|(before, rest)| Some((before, rest.rsplit_once("\", expected")?.1)));
    match value {
        Some((before, after)) => format!("{before}a string, expected{after}"),
        None => message.to_owned(),
    }
}

/// The message and its line, without the offending line itself: that may hold a key.
fn without_excerpt(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|head| head.matches('\n').count() + 1);
    match line {
        Some(line) => format!("line {line}: {}", error.message()),
        None => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BridgeFile, MetricsFile};
    use super::*;

    fn source(text: &str, environment: &[(&str, &str)]) -> Source {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("causeway.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Source::read(Some(&path), folder.path(), environment).unwrap()
    }

    #[test]
    fn every_section_reports_its_own_mistake() {
        let mut source = source("[bridge]\nlistn = 1\n[metrics]\nport = 2\n[bridges]\n", &[]);
        let mut problems = Problems::default();
        source.section::<BridgeFile>("bridge", &mut problems);
        source.section::<MetricsFile>("metrics", &mut problems);
        let error = source
            .finish(problems, &["bridge", "metrics"])
            .unwrap_err()
            .to_string();
        for part in [
            "bridge: unknown field `listn`",
            "metrics: unknown field `port`",
            "bridges: unknown section",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(error.matches("causeway.toml: ").count(), 3);
    }

    #[test]
    fn environment_overrides_the_file() {
        let mut source = source(
            "[bridge]\nlisten = \"127.0.0.1:1\"\n[[provider]]\nname = \"my-llm\"\n",
            &[
                ("CAUSEWAY_BRIDGE__LISTEN", "127.0.0.1:2"),
                ("CAUSEWAY_BRIDGE__MAX_BODY", "1MiB"),
                ("CAUSEWAY_PROVIDER__MY_LLM__ENABLED", "false"),
                ("PATH", "/bin"),
            ],
        );
        let mut problems = Problems::default();
        let bridge: BridgeFile = source.section("bridge", &mut problems);
        assert_eq!(bridge.listen.as_deref(), Some("127.0.0.1:2"));
        assert_eq!(bridge.max_body.unwrap().bytes(), 1 << 20);
        let providers: Vec<Table> = source.entries("provider", &mut problems);
        assert_eq!(providers[0].get("enabled").and_then(Value::as_bool), Some(false));
        assert!(problems.is_empty());
    }

    #[test]
    fn a_syntax_error_names_the_line_and_hides_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("causeway.toml");
        std::fs::write(&path, "[a]\nkey = \"sk-secret\n").unwrap();
        let error = Source::read(Some(&path), folder.path(), std::iter::empty())
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(!error.contains("sk-secret"), "{error}");
    }
}
