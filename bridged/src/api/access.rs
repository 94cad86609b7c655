//! Who may do what: the one place where a role decides.
//!
//! `guard` stands before every route. It finds who calls, checks the role that the route's line in the table asks
//! for, reads the query string and keeps a member to the member's own records; handlers get the outcome as `Asked`
//! and have no other way to a filter. What is refused names what is missing; it is never an empty page.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::problem::Problem;
use super::query::{Asked, Parameter};
use crate::app::App;
use crate::identity::{self, Identity};
use crate::token::Role;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone: there is nothing but what the program says of itself.
    Anyone,
    /// Whoever has at least this role.
    Role(Role, &'static str),
}

impl Access {
    /// What every user may use, each within the own records.
    pub(super) const USERS: Access = Access::Role(Role::Member, "using the API");

    fn check(self, identity: &Identity) -> Result<(), Problem> {
        match self {
            Access::Role(role, what) if identity.role < role => Err(missing(what, role)),
            Access::Role(..) | Access::Anyone => Ok(()),
        }
    }
}

/// What a guard knows of its route.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) app: Arc<App>,
    pub(super) access: Access,
    pub(super) takes: &'static [&'static Parameter],
}

/// Lets a request through to its handler, or answers why not.
pub(super) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if gate.access == Access::Anyone {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    match admit(&gate, &parts).await {
        Ok(asked) => {
            parts.extensions.insert(asked);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn admit(gate: &Gate, request: &Parts) -> Result<Asked, Problem> {
    let found = identity::from_headers(&gate.app, &request.headers).await;
    let identity = found.map_err(|error| Problem::unauthenticated(&error))?;
    gate.access.check(&identity)?;
    let mut asked = Asked::parse(identity, request.uri.query(), gate.takes)?;
    keep_to_own(&mut asked)?;
    Ok(asked)
}

/// A member's filter names the member and nobody else; an empty list of users would mean everyone.
fn keep_to_own(asked: &mut Asked) -> Result<(), Problem> {
    if asked.caller.role >= Role::Auditor {
        return Ok(());
    }
    let own = &*asked.caller.user;
    if asked.filter.user.iter().any(|user| user != own) {
        return Err(missing("reading the records of others", Role::Auditor));
    }
    asked.filter.user = vec![own.to_owned()];
    Ok(())
}

fn missing(what: &str, role: Role) -> Problem {
    Problem::forbidden(&format!("{what} needs the role {role}"))
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked, Problem> {
        // A route without its guard answers nobody.
        parts
            .extensions
            .remove::<Asked>()
            .ok_or_else(|| missing("this resource is not open:", Role::Admin))
    }
}
