//! A line of the table of routes: what is where, for whom, what it takes and what it answers.
//!
//! The router, the role checks, the check of query strings and the API's document are all made from these lines, so
//! that none of them can lack a route.

use std::sync::Arc;

use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, StatusCode};
use utoipa::ToSchema;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{ComponentsBuilder, ObjectBuilder, Ref, RefOr, Schema, Type, schema::SchemaType};

use super::access::{Access, Gate, guard};
use super::query::{NONE, Parameter};
use crate::app::App;

/// A route.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What it does, in one line.
    pub(super) about: &'static str,
    pub(super) access: Access,
    pub(super) takes: &'static [&'static Parameter],
    /// The body that it reads.
    pub(super) reads: Option<Shape>,
    pub(super) status: StatusCode,
    /// The body that it answers; none where there is none.
    pub(super) answers: Option<Shape>,
    /// The media types of that body.
    pub(super) media: &'static [&'static str],
    handler: MethodRouter<Arc<App>>,
}

/// The form of a body.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) schema: RefOr<Schema>,
    /// Adds what the schema refers to.
    pub(super) parts: fn(ComponentsBuilder) -> ComponentsBuilder,
}

impl Route {
    /// `GET`, for every user.
    pub(super) fn get<H, T>(path: &'static str, handler: H, about: &'static str) -> Route
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Route::of((Method::GET, MethodFilter::GET), path, handler, about)
    }

    /// `POST`, for every user.
    pub(super) fn post<H, T>(path: &'static str, handler: H, about: &'static str) -> Route
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Route::of((Method::POST, MethodFilter::POST), path, handler, about)
    }

    /// `DELETE`, for every user.
    pub(super) fn delete<H, T>(path: &'static str, handler: H, about: &'static str) -> Route
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Route::of((Method::DELETE, MethodFilter::DELETE), path, handler, about)
    }

    fn of<H, T>(
        (method, filter): (Method, MethodFilter),
        path: &'static str,
        handler: H,
        about: &'static str,
    ) -> Route
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Route {
            method,
            path,
            about,
            access: Access::USERS,
            takes: NONE,
            reads: None,
            status: StatusCode::NO_CONTENT,
            answers: None,
            media: &["application/json"],
            handler: on(filter, handler),
        }
    }

    /// Only with this `role`; `what` begins the sentence that says so.
    pub(super) fn needs(mut self, role: crate::token::Role, what: &'static str) -> Route {
        self.access = Access::Role(role, what);
        self
    }

    /// Also without a token.
    pub(super) fn open(mut self) -> Route {
        self.access = Access::Anyone;
        self
    }

    /// With these parameters.
    pub(super) fn takes(mut self, parameters: &'static [&'static Parameter]) -> Route {
        self.takes = parameters;
        self
    }

    /// Reads a body.
    pub(super) fn reads<T: ToSchema>(mut self) -> Route {
        self.reads = Some(Shape::of::<T>());
        self
    }

    /// Answers 200 with a body.
    pub(super) fn answers<T: ToSchema>(self) -> Route {
        self.answers_as(StatusCode::OK, Shape::of::<T>())
    }

    /// Answers 201 with a body.
    pub(super) fn creates<T: ToSchema>(self) -> Route {
        self.answers_as(StatusCode::CREATED, Shape::of::<T>())
    }

    /// Answers 200 with a page of these.
    pub(super) fn lists<T: ToSchema>(self) -> Route {
        self.answers_as(StatusCode::OK, Shape::list_of::<T>())
    }

    /// Answers 200 with all of these.
    pub(super) fn answers_many<T: ToSchema>(self) -> Route {
        let schema = items::<T>().into();
        let parts = with_parts::<T>;
        self.answers_as(StatusCode::OK, Shape { schema, parts })
    }

    /// Answers 200 with an object that the document does not go into.
    pub(super) fn answers_an_object(self) -> Route {
        let schema = ObjectBuilder::new().into();
        self.answers_as(
            StatusCode::OK,
            Shape {
                schema,
                parts: |all| all,
            },
        )
    }

    /// Answers in these forms, of which the first is JSON where there is a schema.
    pub(super) fn in_media(mut self, media: &'static [&'static str]) -> Route {
        self.media = media;
        self
    }

    fn answers_as(mut self, status: StatusCode, shape: Shape) -> Route {
        (self.status, self.answers) = (status, Some(shape));
        self
    }

    /// Adds it to a router, behind its guard.
    pub(super) fn add_to(self, router: axum::Router<Arc<App>>, app: &Arc<App>) -> axum::Router<Arc<App>> {
        let gate = Gate {
            app: app.clone(),
            access: self.access,
            takes: self.takes,
        };
        let guarded = self.handler.route_layer(from_fn_with_state(gate, guard));
        router.route(self.path, guarded)
    }
}

impl Shape {
    fn of<T: ToSchema>() -> Shape {
        Shape {
            schema: Ref::from_schema_name(T::name()).into(),
            parts: with_parts::<T>,
        }
    }

    /// `{"items": […], "next": "…" | null}`.
    fn list_of<T: ToSchema>() -> Shape {
        let next = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("The cursor of the next page; null on the last."));
        let list = ObjectBuilder::new()
            .property("items", items::<T>())
            .required("items")
            .property("next", next)
            .required("next");
        Shape {
            schema: list.into(),
            parts: with_parts::<T>,
        }
    }
}

fn items<T: ToSchema>() -> ArrayBuilder {
    ArrayBuilder::new().items(Ref::from_schema_name(T::name()))
}

/// Adds a type's schema, and those that it refers to.
fn with_parts<T: ToSchema>(components: ComponentsBuilder) -> ComponentsBuilder {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    components.schema_from::<T>().schemas_from_iter(parts)
}
