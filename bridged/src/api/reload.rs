//! `POST /api/v1/reload`: reads the configuration again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;

use super::caller;
use super::problem::Problem;
use crate::app::App;
use crate::reload::{NotReloaded, Reloaded};
use crate::token::Role;

pub(super) async fn reload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<Reloaded>, Problem> {
    let identity = caller(&app, &headers).await?;
    if identity.role < Role::Admin {
        return Err(Problem::forbidden(
            "reading the configuration again needs the role admin",
        ));
    }
    match app.reloads.ask().await {
        Some(Ok(reloaded)) => Ok(Json(reloaded)),
        Some(Err(NotReloaded(problems))) => Err(Problem::unusable(problems)),
        None => Err(Problem::conflict(
            "this process does not read its configuration again",
        )),
    }
}
