//! Reading interceptions and sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::input::Id;
use super::problem::Problem;
use super::query::Asked;
use crate::app::App;
use crate::identity::Proof;
use crate::store::{InterceptionRow, SessionRow, ThreadRow};
use crate::token::Role;

/// A page of a list.
#[derive(Debug, Serialize)]
pub(super) struct List<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl<T, C: ToString> From<(Vec<T>, Option<C>)> for List<T> {
    fn from((items, next): (Vec<T>, Option<C>)) -> List<T> {
        List {
            items,
            next: next.map(|cursor| cursor.to_string()),
        }
    }
}

/// Who the caller is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    /// The name.
    user: String,
    /// What the caller may do.
    role: Role,
    /// The groups that the proof of identity names.
    groups: Vec<String>,
    /// The gateway token that proved it, if one did.
    token: Option<Uuid>,
}

/// A session with its threads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionDetail {
    #[serde(flatten)]
    session: SessionRow,
    /// Requests chained by tool calls, oldest first.
    thread_list: Vec<ThreadRow>,
}

pub(super) async fn me(asked: Asked) -> Json<Me> {
    let identity = asked.caller;
    Json(Me {
        user: identity.user.to_string(),
        role: identity.role,
        groups: identity.groups.iter().map(ToString::to_string).collect(),
        token: match identity.proof {
            Proof::Token { id, .. } => Some(id),
            _ => None,
        },
    })
}

pub(super) async fn interceptions(
    State(app): State<Arc<App>>,
    asked: Asked,
) -> Result<Json<List<InterceptionRow>>, Problem> {
    let page = asked.page()?;
    Ok(Json(app.store.interceptions(asked.filter, page).await?.into()))
}

pub(super) async fn interception(
    State(app): State<Arc<App>>,
    id: Id,
    asked: Asked,
) -> Result<Json<InterceptionRow>, Problem> {
    let found = app.store.interception(id.uuid()?, asked.filter.user).await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found("there is no interception with this id"))
}

pub(super) async fn sessions(
    State(app): State<Arc<App>>,
    asked: Asked,
) -> Result<Json<List<SessionRow>>, Problem> {
    let page = asked.page()?;
    Ok(Json(app.store.sessions(asked.filter, page).await?.into()))
}

pub(super) async fn session(
    State(app): State<Arc<App>>,
    id: Id,
    asked: Asked,
) -> Result<Json<SessionDetail>, Problem> {
    let mut found = app.store.session(id.0, asked.filter.user).await?;
    if found.len() > 1 {
        return Err(Problem::conflict(
            "several users have a session with this id: add the parameter `user`",
        ));
    }
    let (session, thread_list) = found
        .pop()
        .ok_or_else(|| Problem::not_found("there is no session with this id"))?;
    Ok(Json(SessionDetail { session, thread_list }))
}
