//! Word of changes to the other processes on the same database. Each sort of change has a number in the store, which
//! rises with it, and which everyone asks for now and then; PostgreSQL tells of it at once too.

use std::time::Duration;

use tokio::sync::Notify;

use super::sql::{Database, Dialect, Row, transaction};
use super::{Place, Store, StoreError};

/// Pause before a connection that is to be told of changes is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What PostgreSQL's notifications go by.
pub(super) const CHANNEL: &str = "causeway";

/// What processes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Gateway tokens were made or revoked.
    Tokens,
    /// Every process is to read its configuration again.
    Configuration,
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Topic::Tokens => "tokens",
            Topic::Configuration => "configuration",
        }
    }
}

/// The numbers of all topics; a number that never rose is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of `Topic::Tokens`.
    pub tokens: i64,
    /// Of `Topic::Configuration`.
    pub configuration: i64,
}

impl Store {
    /// The numbers as they are now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn versions(&self) -> Result<Versions, StoreError> {
        self.ask(|database| {
            let mut versions = Versions::default();
            for row in database.query("SELECT of, number FROM version", &[])? {
                let mut row = row.read();
                let (of, number) = (row.text()?, row.int()?);
                if of == Topic::Tokens.name() {
                    versions.tokens = number;
                } else if of == Topic::Configuration.name() {
                    versions.configuration = number;
                }
            }
            Ok(versions)
        })
        .await
    }

    /// Tells everyone of a change; the topic's new number.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn tell(&self, topic: Topic) -> Result<i64, StoreError> {
        self.ask(move |database| transaction(database, |database| tell(database, topic)))
            .await
    }

    /// Wakes `heard` whenever the database says that something has changed, for as long as it is polled. SQLite never
    /// says so, and a server only as long as the connection to it lasts.
    pub async fn listen(&self, heard: &Notify) {
        let Place::Postgres(server) = &self.0.place else {
            return std::future::pending().await;
        };
        loop {
            if let Err(error) = server.listen(CHANNEL, heard).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the record store cannot tell of changes; it is asked instead"
                );
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Raises a topic's number inside the caller's transaction; who listens is told when it commits.
pub(super) fn tell(database: &mut dyn Database, topic: Topic) -> Result<i64, StoreError> {
    let raised = database.query(
        "INSERT INTO version (of, number) VALUES (?1, 1)
         ON CONFLICT (of) DO UPDATE SET number = version.number + 1 RETURNING number",
        &[topic.name().into()],
    )?;
    if database.dialect() == Dialect::Postgres {
        database.query("SELECT pg_notify(?1, ?2)", &[CHANNEL.into(), topic.name().into()])?;
    }
    raised
        .into_iter()
        .next()
        .map_or(Err(StoreError::Unreadable), Row::int)
}
