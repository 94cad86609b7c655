//! Gateway tokens in the store. Every change raises a version number, by which running gateways learn of it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::clock::Micros;
use crate::secret::Secret;
use crate::token::{self, Role, TokenRecord};

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whose it is.
    pub user: String,
    /// What it allows.
    pub role: Role,
    /// When it is made.
    pub created_at: Micros,
    /// When it ends.
    pub expires_at: Option<Micros>,
}

/// A token as operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct TokenLine {
    /// The token's id.
    pub id: Uuid,
    /// Whose it is.
    pub user: String,
    /// What it allows.
    pub role: Role,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

impl From<&TokenRecord> for TokenLine {
    fn from(record: &TokenRecord) -> TokenLine {
        TokenLine {
            id: record.id,
            user: record.user.to_string(),
            role: record.role,
            created_at: record.created_at.rfc3339(),
            expires_at: record.expires_at.map(Micros::rfc3339),
            revoked_at: record.revoked_at.map(Micros::rfc3339),
        }
    }
}

impl Store {
    /// Every token, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY created_at, id"))?;
            let records = statement.query_map([], record)?.collect::<rusqlite::Result<_>>()?;
            Ok(records)
        })
        .await
    }

    /// A number that rises whenever tokens change.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn token_version(&self) -> Result<i64, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached("SELECT number FROM version WHERE of = 'tokens'")?;
            Ok(statement.query_row([], |row| row.get(0))?)
        })
        .await
    }

    /// Makes a token and returns its text, which is not stored.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn create_token(&self, new: NewToken) -> Result<(TokenRecord, Secret), StoreError> {
        let secret = token::generate().map_err(|_| StoreError::NoRandomness)?;
        let record = self.add_token(new, &secret).await?;
        Ok((record, secret))
    }

    /// Stores a token whose text exists already. Known ones stay as they are.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn add_token(&self, new: NewToken, secret: &Secret) -> Result<TokenRecord, StoreError> {
        let record = TokenRecord {
            id: Uuid::now_v7(),
            hash: token::hash(secret.expose()),
            user: Arc::from(new.user),
            role: new.role,
            created_at: new.created_at,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        self.ask(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT OR IGNORE INTO token (id, hash, user, role, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    record.id.as_bytes(),
                    record.hash,
                    record.user.as_ref(),
                    record.role.as_str(),
                    record.created_at.0,
                    record.expires_at.map(|at| at.0),
                ],
            )?;
            raise_version(&transaction)?;
            transaction.commit()?;
            Ok(record)
        })
        .await
    }

    /// Revokes the token `id`; false when there is none, or none that is not revoked already.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn revoke_token(&self, id: Uuid, now: Micros) -> Result<bool, StoreError> {
        self.ask(move |connection| {
            let transaction = connection.transaction()?;
            let changed = transaction.execute(
                "UPDATE token SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                params![id.as_bytes(), now.0],
            )?;
            raise_version(&transaction)?;
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// The token with this hash, live or not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn token_by_hash(&self, hash: token::TokenHash) -> Result<Option<TokenRecord>, StoreError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE hash = ?1"))?;
            Ok(statement.query_row([hash], record).optional()?)
        })
        .await
    }
}

const SELECT: &str = "SELECT id, hash, user, role, created_at, expires_at, revoked_at FROM token";

fn raise_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE version SET number = number + 1 WHERE of = 'tokens'", []).map(drop)
}

fn record(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let role: String = row.get(3)?;
    Ok(TokenRecord {
        id: Uuid::from_bytes(row.get(0)?),
        hash: row.get(1)?,
        user: Arc::from(row.get::<_, String>(2)?),
        // An unknown role, written by a newer release, must not grant more than the least.
        role: role.parse().unwrap_or(Role::Member),
        created_at: Micros(row.get(4)?),
        expires_at: row.get::<_, Option<i64>>(5)?.map(Micros),
        revoked_at: row.get::<_, Option<i64>>(6)?.map(Micros),
    })
}
