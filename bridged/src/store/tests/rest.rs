//! Connections that nobody asks anything of.

use super::*;
use crate::store::sql::Database;

fn number(database: &mut dyn Database, sql: &str, values: &[sql::Value<'_>]) -> i64 {
    let mut rows = database.query(sql, values).unwrap();
    rows.pop().unwrap().int().unwrap()
}

#[tokio::test]
async fn a_connection_at_rest_notices_that_the_server_ended_it() {
    let Some(home) = Kind::Postgres.home() else {
        return;
    };
    let store = again(&home).await;
    let asked = tokio::task::spawn_blocking(move || {
        let mut resting = store.0.place.connect().unwrap();
        let process = number(resting.as_mut(), "SELECT pg_backend_pid()", &[]);
        assert!(resting.is_usable());
        let mut other = store.0.place.connect().unwrap();
        let sql = "SELECT CAST(pg_terminate_backend(?1, 5000) AS INTEGER)";
        assert_eq!(number(other.as_mut(), sql, &[process.into()]), 1);
        assert!(!resting.is_usable());
        assert!(other.is_usable());
    });
    asked.await.unwrap();
}
