//! PostgreSQL: a server that several gateways may share.
//!
//! The tables lie in a schema of their own, `causeway`. Everything runs on the caller's thread, also what its
//! connection sends and receives; every answer has a deadline, and a connection that missed one is not used again.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::labels::Labels;
use super::schema;
use super::sql::{Batch, BatchTexts, Change, Database, Dialect, Row, Sort, Value, transaction};
use super::{OpenError, StoreError};
use crate::config::Durability;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest wait for the end of an audit or a clean-up.
const CLEAN_UP: Duration = Duration::from_secs(3_600);
/// Names the migration lock among the locks of the server.
const LOCK: i64 = 0x4357_4159;

/// Where a server is, and how to speak to it. Cheap to clone; shows no password.
#[derive(Clone)]
pub(super) struct Server {
    config: Arc<Config>,
    tls: MakeRustlsConnect,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.name())
    }
}

impl Server {
    /// The server that `config` names.
    pub(super) fn new(mut config: Config, tls: ClientConfig) -> Server {
        config.connect_timeout(CONNECT).application_name("causeway");
        // What is not on this machine is never spoken to in clear unless the URL says so in words.
        if config.get_ssl_mode() == SslMode::Prefer && !is_local(&config) {
            config.ssl_mode(SslMode::Require);
        }
        Server {
            config: Arc::new(config),
            tls: MakeRustlsConnect::new(tls),
        }
    }

    /// The server's address and database, for messages.
    pub(super) fn name(&self) -> String {
        let hosts: Vec<String> = self.config.get_hosts().iter().map(host_name).collect();
        let database = self.config.get_dbname().unwrap_or_default();
        format!("postgres://{}/{database}", hosts.join(","))
    }

    /// Opens the database, making or migrating its tables where needed.
    pub(super) fn open(&self) -> Result<Postgres, OpenError> {
        let failed = |source| OpenError::Store {
            store: self.name(),
            source,
        };
        let mut database = self.connect().map_err(failed)?;
        transaction(&mut database, |database| {
            // Gateways that start together migrate one after the other.
            database.query("SELECT pg_advisory_xact_lock(?1)", &[Value::Int(LOCK)])?;
            database.script("CREATE SCHEMA IF NOT EXISTS causeway")?;
            schema::migrate(database)
        })
        .map_err(|error| OpenError::migrating(self.name(), error))?;
        Ok(database)
    }

    /// Wakes `heard` at each notification of `channel`, and once at the beginning, because some may have been
    /// missed. Ends when the connection does.
    pub(super) async fn listen(&self, channel: &str, heard: &Notify) -> Result<(), StoreError> {
        let connected = tokio::time::timeout(CONNECT, self.config.connect(self.tls.clone())).await;
        let (client, mut connection) = connected.map_err(|_| StoreError::TimedOut)??;
        let ask = async {
            let sql = format!("LISTEN {channel}");
            let asked = tokio::time::timeout(ANSWER, client.batch_execute(&sql)).await;
            asked.map_err(|_| StoreError::TimedOut)??;
            heard.notify_one();
            Ok(())
        };
        let hear = async {
            while let Some(message) = next(&mut connection).await {
                if let AsyncMessage::Notification(_) = message? {
                    heard.notify_one();
                }
            }
            Ok(())
        };
        tokio::try_join!(ask, hear).map(|((), ())| ())
    }

    /// Opens one more connection to a database that `open` has prepared.
    pub(super) fn connect(&self) -> Result<Postgres, StoreError> {
        let connecting = async { tokio::time::timeout(CONNECT, self.config.connect(self.tls.clone())).await };
        let driver = Driver::new()?;
        let connected = driver.run(connecting)?;
        let (client, connection) = connected.map_err(|_| StoreError::TimedOut)??;
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(
                    error = &error as &dyn Error,
                    "a connection to the record store broke"
                );
            }
        });
        let mut database = Postgres {
            client,
            driver,
            statements: HashMap::new(),
            texts: BatchTexts::default(),
            labels: Labels::default(),
            broken: false,
            limit: ANSWER,
        };
        // No question here is worth compiling, and the estimates of fresh tables make it look so. Nor is any worth
        // reading a whole table to join it: each is about a few rows that an index finds. Workers take five milliseconds
        // to come, which is worth it for sums of a hundred thousand rows and not of ten thousand.
        database.script(
            "SET search_path TO causeway; SET client_min_messages TO warning; SET jit TO off;
             SET enable_hashjoin TO off; SET enable_mergejoin TO off; SET parallel_setup_cost TO 20000",
        )?;
        Ok(database)
    }
}

/// The next message that comes unasked; nothing when the connection has ended.
async fn next<S, T>(connection: &mut Connection<S, T>) -> Option<Result<AsyncMessage, tokio_postgres::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    std::future::poll_fn(|context| connection.poll_message(context)).await
}

fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

fn host_name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    }
}

/// What moves a connection's bytes: a runtime of its own on the thread that waits, so that no other thread has to be
/// woken to send a question, nor wakes this one when the answer is there. Between questions it rests.
struct Driver(Option<Runtime>);

impl Driver {
    fn new() -> Result<Driver, StoreError> {
        Ok(Driver(Some(Builder::new_current_thread().enable_all().build()?)))
    }

    fn run<T>(&self, answer: impl Future<Output = T>) -> Result<T, StoreError> {
        let runtime = self.0.as_ref().ok_or(StoreError::Stopped)?;
        Ok(runtime.block_on(answer))
    }

    fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(connection);
        }
    }

    /// Lets the connection notice what came while it was at rest, such as its end.
    fn catch_up(&self) {
        let looks = async {
            // One to hear of it, one to act on it.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        };
        // A runtime that has ended has nothing to notice.
        let _ = self.run(looks);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may be dropped where nobody may wait.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection to a server.
pub(super) struct Postgres {
    client: Client,
    driver: Driver,
    statements: HashMap<Arc<str>, Statement>,
    texts: BatchTexts,
    labels: Labels,
    broken: bool,
    limit: Duration,
}

/// Statements kept prepared; lists with many filters would otherwise fill the server's memory.
const STATEMENTS: usize = 256;

impl Postgres {
    /// Prepares a connection that writes records: it looks everything up by keys, also in a table that was empty when a
    /// statement was planned.
    pub(super) fn tune_for_writing(&mut self) -> Result<(), StoreError> {
        self.script("SET enable_seqscan TO off")
    }

    fn wait<T>(
        &mut self,
        limit: Duration,
        answer: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        let answer = async { tokio::time::timeout(limit, answer(&self.client)).await };
        match self.driver.run(answer)? {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                self.broken = true;
                Err(StoreError::TimedOut)
            }
        }
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let text = placeholders(sql);
        let made = self.wait(self.limit, async |client| client.prepare(&text).await)?;
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.into(), made.clone());
        Ok(made)
    }

    /// Runs a statement whose values are the columns of `rows`.
    fn run_all(
        &mut self,
        sql: &str,
        width: usize,
        rows: Vec<Vec<Value<'_>>>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut columns: Vec<Vec<Value<'_>>> = (0..width).map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let values: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
        self.rows(sql, &values)
    }

    fn rows(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(sql)?;
        let rows = self.wait(self.limit, async |client| client.query(&statement, values).await)?;
        let value = |row: &tokio_postgres::Row, column| Ok(row.try_get::<_, Read>(column)?.0);
        rows.iter()
            .map(|row| {
                (0..row.len())
                    .map(|column| value(row, column))
                    .collect::<Result<_, _>>()
            })
            .map(|row| row.map(Row))
            .collect()
    }
}

/// The query of rows that come as one array a column. Within a query of its own an array hides how long it is, so that
/// the server plans a statement once, and not for each length anew.
fn unnested<'c>(columns: impl Iterator<Item = &'c (&'static str, Sort)>) -> String {
    let array = |(n, (_, sort)): (usize, &(_, Sort))| {
        let sort = match sort {
            Sort::Int => "BIGINT",
            Sort::Text => "TEXT",
            Sort::Blob => "BYTEA",
        };
        format!("(SELECT ?{}::{sort}[])", n + 1)
    };
    let arrays: Vec<String> = columns.enumerate().map(array).collect();
    format!("SELECT * FROM unnest({})", arrays.join(", "))
}

/// `?1` as PostgreSQL has it: `$1`. There are no question marks in the store's SQL otherwise.
fn placeholders(sql: &str) -> String {
    sql.replace('?', "$")
}

impl Database for Postgres {
    fn set_durability(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.script(match durability {
            Durability::Strict => "SET synchronous_commit TO on",
            Durability::Relaxed => "SET synchronous_commit TO off",
        })
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.script("BEGIN")
    }

    fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.limit = CLEAN_UP;
        self.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.script("COMMIT")
    }

    fn roll_back(&mut self) {
        self.limit = ANSWER;
        if self.is_usable() && self.script("ROLLBACK").is_err() {
            self.broken = true;
        }
    }

    fn query(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.rows(sql, &values)
    }

    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let statement = self.statement(sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.wait(self.limit, async |client| {
            client.execute(&statement, &values).await
        })
    }

    fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        self.wait(self.limit, async |client| client.batch_execute(sql).await)
    }

    fn batch(&mut self, batch: &'static Batch, rows: Vec<Vec<Value<'_>>>) -> Result<Vec<Row>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let text = self
            .texts
            .of(batch, || batch.sql(&unnested(batch.columns.iter())));
        self.run_all(&text, batch.columns.len(), rows)
    }

    fn change(&mut self, change: &'static Change, rows: Vec<Vec<Value<'_>>>) -> Result<Vec<Row>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let text = self
            .texts
            .of(change, || change.for_all(&unnested(change.columns())));
        self.run_all(&text, change.columns().count(), rows)
    }

    fn labels(&mut self) -> &mut Labels {
        &mut self.labels
    }

    fn is_usable(&self) -> bool {
        self.driver.catch_up();
        !self.broken && !self.client.is_closed()
    }

    fn vacuum(&mut self) -> Result<(), StoreError> {
        self.wait(CLEAN_UP, async |client| {
            client.batch_execute("VACUUM (ANALYZE)").await
        })
    }
}

/// Writes a value as the type that the statement has in its place.
impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(number) => match *ty {
                Type::INT2 => i16::try_from(*number)?.to_sql(ty, out),
                Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
                _ => number.to_sql(ty, out),
            },
            Value::Text(text) => text.as_ref().to_sql(ty, out),
            Value::Blob(bytes) => bytes.as_ref().to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(
            *ty,
            Type::INT2 | Type::INT4 | Type::INT8 | Type::TEXT | Type::BYTEA
        )
    }

    to_sql_checked!();
}

/// A value of whatever type the server answers with.
struct Read(Value<'static>);

impl<'a> FromSql<'a> for Read {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Read, Box<dyn Error + Sync + Send>> {
        let value = match *ty {
            Type::INT2 => Value::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Value::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Value::Int(i64::from_sql(ty, raw)?),
            Type::BYTEA => Value::from(raw.to_vec()),
            _ => Value::from(String::from_sql(ty, raw)?),
        };
        Ok(Read(value))
    }

    fn from_sql_null(_: &Type) -> Result<Read, Box<dyn Error + Sync + Send>> {
        Ok(Read(Value::Null))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(
            *ty,
            Type::INT2 | Type::INT4 | Type::INT8 | Type::BYTEA | Type::TEXT | Type::VARCHAR | Type::VOID
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Server::new(url.parse().unwrap(), tls)
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_clear_unasked() {
        for (url, want) in [
            ("postgres://a:hunter2@db.corp/x", SslMode::Require),
            ("postgres://a:hunter2@db.corp/x?sslmode=disable", SslMode::Disable),
            ("postgres://a:hunter2@127.0.0.1/x", SslMode::Prefer),
            ("postgres:///x?host=/run/postgresql", SslMode::Prefer),
        ] {
            let server = server(url);
            assert_eq!(server.config.get_ssl_mode(), want, "{url}");
            assert!(!format!("{server:?}").contains("hunter2"));
        }
    }
}
