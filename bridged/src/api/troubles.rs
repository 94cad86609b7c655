//! What went wrong between clients and this gateway lately.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::records::List;
use crate::app::App;
use crate::troubles::Trouble;

/// All that is kept, the newest first: other people's addresses, so auditors and admins only.
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<List<Trouble>> {
    Json(List::from((app.troubles.list(), None::<String>)))
}
