//! The API's document: OpenAPI 3.1, made from the table of routes and the types that are answered.

use std::sync::Arc;

use axum::extract::Extension;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, Paths,
    Ref, RefOr, Required, ResponseBuilder, Schema, Type,
};

use super::access::Access;
use super::problem::Problem;
use super::query::Parameter;
use super::route::{Route, Shape};
use crate::token::Role;

/// The name of the way to prove oneself.
const TOKEN: &str = "token";
/// The media type of errors.
const PROBLEM: &str = "application/problem+json";

/// The document's text.
#[derive(Clone)]
pub(super) struct Document(Bytes);

impl Document {
    pub(super) fn of(routes: &[Route]) -> Document {
        let text = document(routes).to_pretty_json().unwrap_or_default();
        Document(Bytes::from(text + "\n"))
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &[u8] {
        &self.0
    }
}

/// Answers the document.
pub(super) async fn serve(Extension(document): Extension<Arc<Document>>) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind)], document.0.clone()).into_response()
}

fn document(routes: &[Route]) -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A gateway token, or a token of the configured issuer."));
    let mut components = ComponentsBuilder::new()
        .security_scheme(TOKEN, SecurityScheme::Http(bearer.build()))
        .schema_from::<Problem>();
    let mut paths = Paths::new();
    for route in routes {
        let shapes = route.reads.iter().chain(&route.answers);
        components = shapes.fold(components, |all, shape| (shape.parts)(all));
        let method = match route.method {
            http::Method::POST => HttpMethod::Post,
            http::Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        let item = PathItem::new(method, operation(route));
        match paths.paths.get_mut(route.path) {
            Some(known) => known.merge_operations(item),
            None => drop(paths.paths.insert(route.path.to_owned(), item)),
        }
    }
    let info = InfoBuilder::new()
        .title("Causeway")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Records of an AI governance gateway. Members see their own records, auditors see all, admins also manage.",
        ));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

fn operation(route: &Route) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .summary(Some(route.about))
        .operation_id(Some(operation_id(route)))
        .response(route.status.as_str(), answer(route));
    for name in path_parameters(route.path) {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        operation = operation.parameter(parameter);
    }
    for parameter in route.takes {
        operation = operation.parameter(query_parameter(parameter));
    }
    if let Some(shape) = &route.reads {
        let body = RequestBodyBuilder::new()
            .content("application/json", content(shape.schema.clone()))
            .required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    if let Access::Role(role, what) = route.access {
        let mut refused = "Members ask for their own records only.".to_owned();
        if role > Role::Member {
            operation = operation.description(Some(format!("Needs the role {role}.")));
            refused = format!("Who asks lacks the role {role}: {what} needs it.");
        }
        operation = operation
            .security(SecurityRequirement::new::<_, [&str; 0], &str>(TOKEN, []))
            .response(
                StatusCode::UNAUTHORIZED.as_str(),
                problem("There is no good token."),
            )
            .response(StatusCode::FORBIDDEN.as_str(), problem(refused));
    }
    operation.response("default", problem("What else went wrong."))
}

/// `get_interceptions_id`.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/v1/");
    let words = path.split(|byte: char| !byte.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!(
        "{}_{}",
        route.method.as_str().to_ascii_lowercase(),
        words.join("_")
    )
}

/// The names in braces.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn query_parameter(parameter: &Parameter) -> ParameterBuilder {
    let one = parameter.values.schema();
    let schema: Schema = if parameter.repeats {
        ArrayBuilder::new().items(RefOr::T(one)).into()
    } else {
        one
    };
    ParameterBuilder::new()
        .name(parameter.name)
        .parameter_in(ParameterIn::Query)
        .description(Some(parameter.about))
        .schema(Some(schema))
}

fn answer(route: &Route) -> ResponseBuilder {
    let mut answer = ResponseBuilder::new().description(route.about);
    for media in route.media {
        let Some(Shape { schema, .. }) = &route.answers else {
            break;
        };
        let schema = if *media == "application/json" {
            schema.clone()
        } else {
            ObjectBuilder::new().schema_type(Type::String).into()
        };
        answer = answer.content(*media, content(schema));
    }
    answer
}

fn content(schema: RefOr<Schema>) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(schema)).build()
}

fn problem(about: impl Into<String>) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(about)
        .content(PROBLEM, content(Ref::from_schema_name("Problem").into()))
}
