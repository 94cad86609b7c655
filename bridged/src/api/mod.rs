//! The REST API under `/api/v1`.
//!
//! Callers prove themselves with a gateway token; `caller` is the one place where a role becomes a filter, so a
//! member's query can only ever reach the member's own records. Lists answer `{"items": […], "next": …}`,
//! errors are `application/problem+json` (RFC 9457).

pub(crate) mod csv;
mod events;
mod export;
mod problem;
mod providers;
mod query;
mod records;
mod reload;
mod stream;
mod troubles;

use std::sync::Arc;

use axum::routing::{get, post};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use crate::app::App;
use crate::body::ReplyBody;
use crate::identity::{self, Identity};
use crate::token::Role;
use problem::Problem;
pub use stream::Streams;

/// The routes with what they need.
pub type Router = axum::Router;

/// Makes the routes.
pub fn router(app: Arc<App>) -> Router {
    axum::Router::new()
        .route("/api/v1/me", get(records::me))
        .route("/api/v1/interceptions", get(records::interceptions))
        .route("/api/v1/interceptions/{id}", get(records::interception))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/export", get(export::export))
        .route("/api/v1/providers", get(providers::providers))
        .route("/api/v1/sessions", get(records::sessions))
        .route("/api/v1/sessions/{id}", get(records::session))
        .route("/api/v1/troubles", get(troubles::list))
        .route("/api/v1/reload", post(reload::reload))
        .fallback(|| async { Problem::not_found("there is no such resource") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(app)
}

/// Answers a request.
pub async fn answer(router: Router, request: Request<Incoming>) -> Response<ReplyBody> {
    let answered = router.oneshot(request).await;
    let response = answered.unwrap_or_else(|never| match never {});
    response.map(ReplyBody::Api)
}

/// Finds who calls.
async fn caller(app: &App, headers: &HeaderMap) -> Result<Identity, Problem> {
    let found = identity::from_headers(app, headers).await;
    found.map_err(|error| Problem::unauthenticated(&error))
}

/// The users whose records `identity` may read, given those it asks for: an empty list means everyone's.
fn readable(identity: &Identity, asked: Vec<String>) -> Result<Vec<String>, Problem> {
    if identity.role >= Role::Auditor {
        return Ok(asked);
    }
    if asked.iter().any(|user| **user != *identity.user) {
        return Err(Problem::forbidden(
            "reading the records of others needs the role auditor",
        ));
    }
    Ok(vec![identity.user.to_string()])
}
