//! `POST /api/v1/reload`: reads the configuration again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::problem::Problem;
use crate::app::App;
use crate::reload::{NotReloaded, Reloaded};

pub(super) async fn reload(State(app): State<Arc<App>>) -> Result<Json<Reloaded>, Problem> {
    match app.reloads.ask().await {
        Some(Ok(reloaded)) => Ok(Json(reloaded)),
        Some(Err(NotReloaded(problems))) => Err(Problem::unusable(problems)),
        None => Err(Problem::conflict(
            "this process does not read its configuration again",
        )),
    }
}
