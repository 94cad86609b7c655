//! What went wrong between clients and this gateway lately.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;

use super::caller;
use super::problem::Problem;
use super::records::List;
use crate::app::App;
use crate::token::Role;
use crate::troubles::Trouble;

/// All that is kept, the newest first: other people's addresses, so auditors and admins only.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<List<Trouble>>, Problem> {
    let identity = caller(&app, &headers).await?;
    if identity.role < Role::Auditor {
        return Err(Problem::forbidden(
            "reading the troubles of others needs the role auditor",
        ));
    }
    Ok(Json(List::from((app.troubles.list(), None))))
}
