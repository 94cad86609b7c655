//! `POST /api/v1/reload`: reads the configuration again, here and by every gateway on the same store.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::problem::Problem;
use crate::app::App;
use crate::reload::{NotReloaded, Reloaded};
use crate::store::Topic;

pub(super) async fn reload(State(app): State<Arc<App>>) -> Result<Json<Reloaded>, Problem> {
    match app.reloads.ask().await {
        Some(Ok(reloaded)) => {
            tell_others(&app).await;
            Ok(Json(reloaded))
        }
        Some(Err(NotReloaded(problems))) => Err(Problem::unusable(problems)),
        None => Err(Problem::conflict(
            "this process does not read its configuration again",
        )),
    }
}

/// What is good here is to be read by the others too. Where the store is away, they do not learn of it.
async fn tell_others(app: &App) {
    let told = app.reloads.tell(app.store.tell(Topic::Configuration)).await;
    if let Err(error) = told {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "other gateways could not be told to read their configuration again"
        );
    }
}
