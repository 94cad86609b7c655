//! The gateway's database, seen from beside it.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::harness::Gateway;

/// A database that a gateway has made its tables in.
pub(crate) enum Beside {
    Sqlite(PathBuf),
    Postgres(Client),
}

impl Beside {
    /// The one in the gateway's data folder.
    pub(crate) fn of(gateway: &Gateway) -> Beside {
        Beside::Sqlite(gateway.data_dir().join("causeway.db"))
    }

    /// One of a server.
    pub(crate) async fn at(url: &str) -> Beside {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        Beside::Postgres(client)
    }

    /// The numbers that some statements give, all of one moment.
    pub(crate) async fn counts(&self, statements: &[&str]) -> Vec<i64> {
        let sql = format!("SELECT ({})", statements.join("), ("));
        match self {
            Beside::Sqlite(file) => {
                let counts = open(file).query_row(&sql, [], |row| {
                    (0..statements.len()).map(|place| row.get(place)).collect()
                });
                counts.unwrap()
            }
            Beside::Postgres(client) => {
                let row = client.query_one(&sql, &[]).await.unwrap();
                (0..statements.len()).map(|place| row.get(place)).collect()
            }
        }
    }

    /// Runs statements.
    pub(crate) async fn execute(&self, sql: &str) {
        match self {
            Beside::Sqlite(file) => open(file).execute_batch(sql).unwrap(),
            Beside::Postgres(client) => client.batch_execute(sql).await.unwrap(),
        }
    }
}

/// Opened for each question: while it is open, the next process would find no crash.
fn open(file: &PathBuf) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(file).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    database
}
