//! Reading interceptions and sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use http::HeaderMap;
use serde::Serialize;
use uuid::Uuid;

use super::problem::Problem;
use super::{caller, query, readable};
use crate::app::App;
use crate::identity::Proof;
use crate::store::{Cursor, InterceptionRow, SessionRow, ThreadRow};
use crate::token::Role;

/// A page of a list.
#[derive(Debug, Serialize)]
pub(super) struct List<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl<T> From<(Vec<T>, Option<Cursor>)> for List<T> {
    fn from((items, next): (Vec<T>, Option<Cursor>)) -> List<T> {
        List {
            items,
            next: next.map(|cursor| cursor.to_string()),
        }
    }
}

/// Who the caller is.
#[derive(Debug, Serialize)]
pub(super) struct Me {
    user: String,
    role: Role,
    groups: Vec<String>,
    /// The gateway token that proved it, if one did.
    token: Option<Uuid>,
}

/// A session with its threads.
#[derive(Debug, Serialize)]
pub(super) struct SessionDetail {
    #[serde(flatten)]
    session: SessionRow,
    thread_list: Vec<ThreadRow>,
}

pub(super) async fn me(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<Me>, Problem> {
    let identity = caller(&app, &headers).await?;
    Ok(Json(Me {
        user: identity.user.to_string(),
        role: identity.role,
        groups: identity.groups.iter().map(ToString::to_string).collect(),
        token: match identity.proof {
            Proof::Token { id, .. } => Some(id),
            _ => None,
        },
    }))
}

pub(super) async fn interceptions(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<List<InterceptionRow>>, Problem> {
    let identity = caller(&app, &headers).await?;
    let (mut filter, page) = query::parse(query.as_deref())?;
    filter.user = readable(&identity, filter.user)?;
    Ok(Json(app.store.interceptions(filter, page).await?.into()))
}

pub(super) async fn interception(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<InterceptionRow>, Problem> {
    let identity = caller(&app, &headers).await?;
    let id = Uuid::parse_str(&id).map_err(|_| Problem::parameter("id", "an interception's id is a UUID"))?;
    let user = readable(&identity, Vec::new())?.pop();
    let found = app.store.interception(id, user).await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found("there is no interception with this id"))
}

pub(super) async fn sessions(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<List<SessionRow>>, Problem> {
    let identity = caller(&app, &headers).await?;
    let (mut filter, page) = query::parse(query.as_deref())?;
    if !filter.status.is_empty() {
        return Err(Problem::parameter("status", "sessions have no status"));
    }
    filter.user = readable(&identity, filter.user)?;
    Ok(Json(app.store.sessions(filter, page).await?.into()))
}

pub(super) async fn session(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<SessionDetail>, Problem> {
    let identity = caller(&app, &headers).await?;
    let (filter, _) = query::parse(query.as_deref())?;
    let user = readable(&identity, filter.user)?;
    let mut found = app.store.session(id, user).await?;
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
