//! The REST API under `/api/v1`.
//!
//! `routes` is the table that everything is made from: the router, who may use what (`access`), which parameters
//! there are (`query`), and the API's document (`openapi`). Lists answer `{"items": […], "next": …}`, errors are
//! `application/problem+json` (RFC 9457). Invariant: no handler sees a filter that reaches further than its
//! caller may.

mod access;
pub(crate) mod csv;
mod events;
mod export;
mod input;
mod openapi;
mod problem;
mod providers;
mod query;
mod records;
mod reload;
mod route;
mod sheet;
mod stream;
#[cfg(test)]
mod tests;
mod tokens;
mod troubles;
mod usage;

use std::sync::Arc;

use axum::Extension;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use crate::app::App;
use crate::body::ReplyBody;
use crate::reload::Reloaded;
use crate::store::{FacetLine, InterceptionRow, SeatLine, SessionRow, TokenLine, UsageLine};
use crate::token::Role;
use crate::troubles::Trouble;
use problem::Problem;
use query::{EVENTS, EXPORT, FACETS, INTERCEPTIONS, ONE_SESSION, SEATS, SESSIONS, TOKENS, USAGE};
use route::Route;

pub use stream::Streams;

/// The routes with what they need.
pub type Router = axum::Router;

/// The forms of a table.
const TABLE: &[&str] = &["application/json", "text/csv"];

/// The forms of an export.
const FORMS: &[&str] = &["application/x-ndjson", "application/json", "text/csv"];

/// Every route.
#[rustfmt::skip]
fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/openapi.json", openapi::serve, "This document").open().answers_an_object(),
        Route::get("/api/v1/me", records::me, "Who the caller is").answers::<records::Me>(),
        Route::get("/api/v1/interceptions", records::interceptions, "Interceptions, latest first").takes(INTERCEPTIONS).lists::<InterceptionRow>(),
        Route::get("/api/v1/interceptions/{id}", records::interception, "One interception").answers::<InterceptionRow>(),
        Route::get("/api/v1/sessions", records::sessions, "Sessions, latest activity first").takes(SESSIONS).lists::<SessionRow>(),
        Route::get("/api/v1/sessions/{id}", records::session, "One session with its threads").takes(ONE_SESSION).answers::<records::SessionDetail>(),
        Route::get("/api/v1/events", events::events, "Interceptions as they end, and warnings of budgets: server-sent events").takes(EVENTS).answers_an_object().in_media(&["text/event-stream"]),
        Route::get("/api/v1/export", export::export, "All interceptions that fit, latest first").takes(EXPORT).answers_many::<InterceptionRow>().in_media(FORMS),
        Route::get("/api/v1/usage", usage::usage, "Tokens and cost by day (UTC), latest day first").takes(USAGE).lists::<UsageLine>().in_media(TABLE),
        Route::get("/api/v1/seats", usage::seats, "Users who used AI in the period").takes(SEATS).lists::<SeatLine>().in_media(TABLE),
        Route::get("/api/v1/clients", usage::clients, "Clients seen in the period").takes(FACETS).lists::<FacetLine>(),
        Route::get("/api/v1/models", usage::models, "Models asked for in the period").takes(FACETS).lists::<FacetLine>(),
        Route::get("/api/v1/users", usage::users, "Users seen in the period").takes(FACETS).lists::<FacetLine>(),
        Route::get("/api/v1/providers", providers::providers, "Provider instances as they are now").lists::<providers::Provider>(),
        Route::get("/api/v1/troubles", troubles::list, "Why clients failed lately").needs(Role::Auditor, "reading the troubles of others").lists::<Trouble>(),
        Route::get("/api/v1/tokens", tokens::list, "Gateway tokens, oldest first").needs(Role::Admin, "reading the list of tokens").takes(TOKENS).lists::<TokenLine>(),
        Route::post("/api/v1/tokens", tokens::create, "Makes a gateway token; its text is shown this once").needs(Role::Admin, "making tokens").reads::<tokens::Wanted>().creates::<tokens::Created>(),
        Route::delete("/api/v1/tokens/{id}", tokens::revoke, "Revokes a gateway token").needs(Role::Admin, "revoking tokens"),
        Route::post("/api/v1/reload", reload::reload, "Has all gateways on this store read their configuration again").needs(Role::Admin, "reading the configuration again").answers::<Reloaded>(),
    ]
}

/// Makes the routes.
pub fn router(app: Arc<App>) -> Router {
    let routes = routes();
    let document = Arc::new(openapi::Document::of(&routes));
    let add = |router, route: Route| route.add_to(router, &app);
    routes
        .into_iter()
        .fold(axum::Router::new(), add)
        .fallback(|| async { Problem::not_found("there is no such resource") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(Extension(document))
        .with_state(app)
}

/// Answers a request.
pub async fn answer(router: Router, request: Request<Incoming>) -> Response<ReplyBody> {
    let answered = router.oneshot(request).await;
    let response = answered.unwrap_or_else(|never| match never {});
    response.map(ReplyBody::Api)
}
