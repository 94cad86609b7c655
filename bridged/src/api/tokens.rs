//! Gateway tokens: making, listing and revoking them, for admins.
//!
//! A token's text leaves once, in the answer that makes it, and is stored nowhere.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::input::{self, Id};
use super::problem::Problem;
use super::query::Asked;
use super::records::List;
use crate::app::App;
use crate::clock::Micros;
use crate::store::{NewToken, TokenLine};
use crate::token::Role;

/// Longest name of a user, in bytes.
const LONGEST_NAME: usize = 256;

/// A token to be made.
#[derive(Debug, PartialEq, Eq, ToSchema)]
pub(super) struct Wanted {
    /// Whose it is to be.
    #[schema(max_length = 256)]
    user: String,
    /// What it is to allow.
    #[schema(value_type = Role, required = false)]
    role: Role,
    /// When it is to end, RFC 3339; never where this is left out.
    #[schema(value_type = Option<String>, required = false)]
    expires_at: Option<Micros>,
}

/// A token that was made. Has no `Debug`, so that its text goes nowhere else.
#[derive(Serialize, ToSchema)]
pub(super) struct Created {
    #[serde(flatten)]
    line: TokenLine,
    /// The token's text. It is not shown again.
    token: String,
}

impl Wanted {
    fn read(fields: &Map<String, Value>, now: Micros) -> Result<Wanted, Problem> {
        const FIELDS: [&str; 3] = ["user", "role", "expires_at"];
        if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(Problem::unknown(name, &FIELDS));
        }
        Ok(Wanted {
            user: user(fields.get("user"))?,
            role: role(fields.get("role"))?,
            expires_at: expiry(fields.get("expires_at"), now)?,
        })
    }
}

fn user(value: Option<&Value>) -> Result<String, Problem> {
    let name = value.and_then(Value::as_str).unwrap_or_default().trim();
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        let wanted = format!("a name of 1 to {LONGEST_NAME} bytes without control characters");
        return Err(Problem::parameter("user", wanted));
    }
    Ok(name.to_owned())
}

fn role(value: Option<&Value>) -> Result<Role, Problem> {
    let Some(value) = value else {
        return Ok(Role::Member);
    };
    let role = value.as_str().and_then(|text| text.parse().ok());
    role.ok_or_else(|| Problem::parameter("role", "one of member, auditor, admin"))
}

fn expiry(value: Option<&Value>, now: Micros) -> Result<Option<Micros>, Problem> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let date = value.as_str().and_then(Micros::parse);
    let date =
        date.ok_or_else(|| Problem::parameter("expires_at", "a date as in RFC 3339: 2026-11-22T08:30:00Z"))?;
    if date <= now {
        return Err(Problem::parameter("expires_at", "a date in the future"));
    }
    Ok(Some(date))
}

/// Makes a token.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let now = app.clock.micros();
    let wanted = Wanted::read(&input::object(&headers, body).await?, now)?;
    let new = NewToken {
        user: wanted.user,
        role: wanted.role,
        created_at: now,
        expires_at: wanted.expires_at,
    };
    let (record, secret) = app.store.create_token(new).await?;
    app.tokens.refresh().await;
    tracing::info!(token = %record.id, role = %record.role, by = %asked.caller.user, "a gateway token was made");
    let created = Created {
        line: TokenLine::from(&record),
        token: secret.expose().to_owned(),
    };
    let private = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, private, Json(created)).into_response())
}

/// A page of tokens.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    asked: Asked,
) -> Result<Json<List<TokenLine>>, Problem> {
    let page = asked.page()?;
    Ok(Json(app.store.token_page(asked.filter.user, page).await?.into()))
}

/// Revokes a token, for this process at once and for others as soon as they look.
pub(super) async fn revoke(State(app): State<Arc<App>>, id: Id, asked: Asked) -> Result<StatusCode, Problem> {
    let id = id.uuid()?;
    if !app.store.revoke_token(id, app.clock.micros()).await? {
        return Err(Problem::not_found("there is no live token with this id"));
    }
    app.tokens.refresh().await;
    tracing::info!(token = %id, by = %asked.caller.user, "a gateway token was revoked");
    Ok(StatusCode::NO_CONTENT)
}
