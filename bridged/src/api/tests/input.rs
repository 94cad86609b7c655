//! What cannot be used is refused with a 400 that names it.

use super::*;
use crate::api::access::Access;
use crate::api::query::{Parameter, Values};

/// Values that a parameter cannot have.
fn wrong(parameter: &Parameter) -> &'static [&'static str] {
    match parameter.values {
        Values::Text if parameter.name == "cursor" => &[
            "",
            "x",
            "%C3%A9",
            "0",
            "ffffffffffffffffffffffffffffffffff",
            "W10",
            "bnVsbA",
        ],
        // Where an event stream goes on.
        Values::Text if parameter.name == "after" => &["", "x", "W10", "2026-11-22", "%00"],
        Values::Text => &["%00", "a%00b"],
        Values::Date => &[
            "",
            "soon",
            "2026-13-01",
            "2026-11-22T25:00:00Z",
            "1795000000",
            "2026-11-22T08:30:00+02:00",
        ],
        Values::Limit => &["", "0", "-1", "1001", "1e3", "1.0", "99999999999999999999"],
        Values::OneOf(_) => &["", "odd", "%00"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_every_route_is_checked() {
    let world = World::with(everyones()).await;
    for route in routes()
        .into_iter()
        .filter(|route| route.access != Access::Anyone)
    {
        let path = route.path.replace("{id}", "same");
        let refused = async |query: &str, field: &str| {
            let answer = world
                .ask(route.method.clone(), &format!("{path}?{query}"), "adam", None)
                .await;
            let shown: String = query.chars().take(60).collect();
            assert_eq!(answer.status, 400, "{path}?{shown}: {}", answer.body);
            assert_eq!(
                answer.header("content-type"),
                "application/problem+json",
                "{path}?{shown}"
            );
            assert_eq!(answer.field(), field, "{path}?{shown}");
        };
        refused("colour=red", "colour").await;
        refused("=", "").await;
        for parameter in route.takes {
            let name = parameter.name;
            for value in wrong(parameter) {
                refused(&format!("{name}={value}"), name).await;
            }
            if !parameter.repeats {
                let fine = if name == "limit" { "1" } else { "csv" };
                refused(&format!("{name}={fine}&{name}={fine}"), name).await;
            }
        }
        if route.takes.iter().any(|parameter| parameter.name == "user") {
            refused(&"user=a&".repeat(201), "user").await;
        }
        if route.takes.iter().any(|parameter| parameter.name == "before") {
            refused("after=2026-11-22&before=2026-11-21", "before").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_one_list_is_none_of_another_form() {
    let world = World::with(everyones()).await;
    let next = async |path: &str| {
        world.get(path, "audrey").await.json()["next"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let sessions = next("/api/v1/sessions?limit=1").await;
    let by_user = next("/api/v1/usage?group=user&limit=1").await;
    for path in [
        format!("/api/v1/usage?cursor={sessions}"),
        format!("/api/v1/usage?cursor={by_user}"),
        format!("/api/v1/usage?group=user&group=model&cursor={by_user}"),
        format!("/api/v1/sessions?cursor={by_user}"),
    ] {
        let answer = world.get(&path, "audrey").await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.field()),
            (400, "cursor"),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_fifty_items_unless_it_is_told_otherwise() {
    let call = |number| Call { number, ..CALL };
    let world = World::with((0..60).map(call).collect()).await;
    for (query, want) in [("", 50), ("limit=7", 7), ("limit=1000", 60)] {
        let answer = world
            .get(&format!("/api/v1/interceptions?{query}"), "audrey")
            .await
            .json();
        assert_eq!(answer["items"].as_array().unwrap().len(), want, "{query}");
        assert_eq!(answer["next"].is_null(), want == 60, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_as_a_problem() {
    let world = World::with(Vec::new()).await;
    for (method, path, status) in [
        (Method::GET, "/api/v1/nothing", 404),
        (Method::GET, "/api/v1/sessions/none", 404),
        (Method::GET, "/api/v1/interceptions/none", 400),
        (Method::GET, "/api/v1/sessions/%FF", 400),
        (Method::GET, "/api/v1/sessions/a%00b", 400),
        (Method::DELETE, "/api/v1/sessions", 405),
        (Method::DELETE, "/api/v1/tokens/none", 400),
    ] {
        let answer = world.ask(method.clone(), path, "adam", None).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{method} {path}"
        );
        assert_eq!(answer.json()["status"], status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_values_of_a_field_are_alternatives() {
    let world = World::with(everyones()).await;
    let count = async |query: &str| {
        let answer = world
            .get(&format!("/api/v1/interceptions?{query}"), "audrey")
            .await
            .json();
        answer["items"].as_array().unwrap().len()
    };
    assert_eq!(count("model=gpt-mini").await, 3);
    assert_eq!(count("model=gpt-mini&model=bobs-model").await, 6);
    assert_eq!(count("user=ann&user=bob").await, 12);
    assert_eq!(count("after=2026-11-23").await, 2);
    assert_eq!(count("after=2026-11-23&after=2026-11-22").await, 5);
    assert_eq!(count("before=2026-11-20&before=2026-11-21").await, 4);
    assert_eq!(count("status=failed&status=in_flight").await, 4);
}
