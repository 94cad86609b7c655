//! `[store]`: which database, and how it is reached.

use std::fmt;
use std::path::PathBuf;

use super::{Problems, Source, StoreFile};
use crate::secret::Secret;

/// Where records are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// The database.
    pub location: StoreLocation,
    /// PEM files that a database server's certificate may come from, beside the system's roots.
    pub extra_ca: Vec<PathBuf>,
}

impl StoreConfig {
    /// Whether the same server is trusted for other reasons. Files need no trust.
    pub(super) fn has_other_ca(&self, other: &StoreConfig) -> bool {
        matches!(self.location, StoreLocation::Postgres(_)) && self.extra_ca != other.extra_ca
    }
}

/// A database.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreLocation {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server.
    Postgres(PostgresUrl),
}

/// The address of a PostgreSQL server with its credentials. Shows no password.
#[derive(Clone, PartialEq)]
pub struct PostgresUrl(Box<tokio_postgres::Config>);

impl PostgresUrl {
    /// Reads `postgres://user:password@host/database?sslmode=…`; `None` when the text is something else.
    pub fn parse(text: &str) -> Option<PostgresUrl> {
        // The server's certificate is always checked, so the stricter words mean the same.
        let text = text.replace("sslmode=verify-full", "sslmode=require");
        let config: tokio_postgres::Config = text.parse().ok()?;
        (!config.get_hosts().is_empty()).then(|| PostgresUrl(Box::new(config)))
    }

    /// What to connect with.
    pub(crate) fn config(&self) -> tokio_postgres::Config {
        tokio_postgres::Config::clone(&self.0)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({:?})", self.0.get_hosts())
    }
}

/// Reads the section.
pub(super) fn build(
    file: &StoreFile,
    extra_ca: &[PathBuf],
    source: &Source,
    problems: &mut Problems,
) -> StoreConfig {
    let url = file.url.as_ref().map_or("sqlite:causeway.db", Secret::expose);
    let location = location(url, source).unwrap_or_else(|| {
        problems.add(
            "store.url",
            format!(
                "`{}:…` is not a database: write `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`",
                scheme(url)
            ),
        );
        StoreLocation::Sqlite(PathBuf::new())
    });
    StoreConfig {
        location,
        extra_ca: extra_ca.to_owned(),
    }
}

fn location(url: &str, source: &Source) -> Option<StoreLocation> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return (!path.is_empty()).then(|| StoreLocation::Sqlite(source.in_data_dir(path)));
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return PostgresUrl::parse(url).map(StoreLocation::Postgres);
    }
    None
}

/// A URL's scheme only: the rest may hold a password.
fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password() {
        let url =
            PostgresUrl::parse("postgres://ann:hunter2@db.corp:5433/records?sslmode=verify-full").unwrap();
        let shown = format!("{url:?}");
        assert!(shown.contains("db.corp") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(url.config().get_dbname(), Some("records"));
        for wrong in ["postgres://", "postgres://h?sslmode=maybe", "mysql://h/d"] {
            assert!(PostgresUrl::parse(wrong).is_none(), "{wrong}");
        }
    }
}
