//! Gateway tokens in the store. Every change raises a version number, by which running gateways learn of it.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Cursor, Page, Question, clause};
use super::news::{Topic, tell};
use super::sql::{Row, transaction};
use super::{Store, StoreError};
use crate::clock::Micros;
use crate::secret::Secret;
use crate::token::{self, LastUse, Role, TokenRecord};

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
#[derive(Clone, Debug, Serialize, ToSchema)]
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
    /// When it was used last, to about a minute.
    pub last_used_at: Option<String>,
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
            last_used_at: record.used.at().map(Micros::rfc3339),
        }
    }
}

impl Store {
    /// Every token, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.ask(|database| {
            let rows = database.query(&format!("{SELECT} ORDER BY created_at, id"), &[])?;
            rows.into_iter().map(record).collect()
        })
        .await
    }

    /// A page of tokens, of some users or of all, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn token_page(
        &self,
        user: Vec<String>,
        page: Page,
    ) -> Result<(Vec<TokenLine>, Option<Cursor>), StoreError> {
        self.ask(move |database| {
            let mut question = Question::default();
            let users = question.any("who", &user);
            let last = page
                .cursor
                .map(|Cursor(high, low)| format!("id > {}", question.bind(Uuid::from_u64_pair(high, low))));
            let conditions: Vec<String> = users.into_iter().chain(last).collect();
            let limit = question.bind(page.rows_read());
            let sql = format!("{SELECT} {} ORDER BY id LIMIT {limit}", clause(&conditions));
            let rows = database.query(&sql, &question.values)?;
            let mut records = rows.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
            let next = page.cut(&mut records, |record| {
                let (high, low) = record.id.as_u64_pair();
                Cursor(high, low)
            });
            Ok((records.iter().map(TokenLine::from).collect(), next))
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
            used: Arc::default(),
        };
        self.ask(move |database| {
            transaction(database, |database| {
                let values = [
                    record.id.into(),
                    record.hash.to_vec().into(),
                    record.user.to_string().into(),
                    record.role.as_str().into(),
                    record.created_at.0.into(),
                    record.expires_at.map(|at| at.0).into(),
                ];
                database.execute(
                    "INSERT INTO token (id, hash, who, role, created_at, expires_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (hash) DO NOTHING",
                    &values,
                )?;
                tell(database, Topic::Tokens).map(drop)
            })?;
            Ok(record)
        })
        .await
    }

    /// Revokes the token `id`; false when there is none, or none that is not revoked already.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn revoke_token(&self, id: Uuid, now: Micros) -> Result<bool, StoreError> {
        self.ask(move |database| {
            transaction(database, |database| {
                let changed = database.execute(
                    "UPDATE token SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                    &[id.into(), now.0.into()],
                )?;
                tell(database, Topic::Tokens)?;
                Ok(changed > 0)
            })
        })
        .await
    }

    /// Notes when tokens were used last.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn note_uses(&self, uses: Vec<(Uuid, Micros)>) -> Result<(), StoreError> {
        self.ask(move |database| {
            transaction(database, |database| {
                for (id, at) in &uses {
                    database.execute(
                        "UPDATE token SET used_at = ?2 WHERE id = ?1 AND (used_at IS NULL OR used_at < ?2)",
                        &[(*id).into(), at.0.into()],
                    )?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The token with this hash, live or not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn token_by_hash(&self, hash: token::TokenHash) -> Result<Option<TokenRecord>, StoreError> {
        self.ask(move |database| {
            let mut rows = database.query(&format!("{SELECT} WHERE hash = ?1"), &[hash.to_vec().into()])?;
            rows.pop().map(self::record).transpose()
        })
        .await
    }
}

const SELECT: &str = "SELECT id, hash, who, role, created_at, expires_at, revoked_at, used_at FROM token";

fn record(row: Row) -> Result<TokenRecord, StoreError> {
    let mut row = row.read();
    let id = row.id()?;
    let hash = row.blob()?.try_into().map_err(|_| StoreError::Unreadable)?;
    let (user, role) = (row.text()?, row.text()?);
    Ok(TokenRecord {
        id,
        hash,
        user: Arc::from(user),
        // An unknown role, written by a newer release, must not grant more than the least.
        role: role.parse().unwrap_or(Role::Member),
        created_at: Micros(row.int()?),
        expires_at: row.optional_int()?.map(Micros),
        revoked_at: row.optional_int()?.map(Micros),
        used: Arc::new(LastUse::known(row.optional_int()?.map(Micros))),
    })
}
