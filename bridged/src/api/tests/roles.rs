//! Who may use what, and that nobody learns of what is somebody else's.

use super::*;
use crate::api::access::Access;
use crate::api::query::Parameter;
use crate::store::{Position, Warning};

/// What every route asks for; a route that is not here has no test of its role.
const NEEDS: [(&str, Option<Role>); 19] = [
    ("GET /api/v1/openapi.json", None),
    ("GET /api/v1/me", Some(Role::Member)),
    ("GET /api/v1/interceptions", Some(Role::Member)),
    ("GET /api/v1/interceptions/{id}", Some(Role::Member)),
    ("GET /api/v1/sessions", Some(Role::Member)),
    ("GET /api/v1/sessions/{id}", Some(Role::Member)),
    ("GET /api/v1/events", Some(Role::Member)),
    ("GET /api/v1/export", Some(Role::Member)),
    ("GET /api/v1/usage", Some(Role::Member)),
    ("GET /api/v1/seats", Some(Role::Member)),
    ("GET /api/v1/clients", Some(Role::Member)),
    ("GET /api/v1/models", Some(Role::Member)),
    ("GET /api/v1/users", Some(Role::Member)),
    ("GET /api/v1/providers", Some(Role::Member)),
    ("GET /api/v1/troubles", Some(Role::Auditor)),
    ("GET /api/v1/tokens", Some(Role::Admin)),
    ("POST /api/v1/tokens", Some(Role::Admin)),
    ("DELETE /api/v1/tokens/{id}", Some(Role::Admin)),
    ("POST /api/v1/reload", Some(Role::Admin)),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_for_the_role_that_it_is_for() {
    let world = World::with(Vec::new()).await;
    let names = routes()
        .into_iter()
        .map(|route| format!("{} {}", route.method, route.path));
    let mut names: Vec<String> = names.collect();
    names.sort();
    let mut wanted = NEEDS.map(|(name, _)| name);
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    for (name, needed) in NEEDS {
        let (method, path) = name.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let path = path.replace("{id}", "00000000-0000-7000-8000-000000000000");
        let people = PEOPLE.map(|(user, role)| (user, Some(role)));
        for (who, role) in people.into_iter().chain([("nobody", None)]) {
            let answer = world.ask(method.clone(), &path, who, None).await;
            let status = answer.status.as_u16();
            match needed {
                Some(_) if role.is_none() => {
                    assert_eq!(status, 401, "{name} for {who}");
                    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{name}");
                }
                Some(needed) if role.is_some_and(|role| role < needed) => {
                    assert_eq!(status, 403, "{name} for {who}");
                    let detail = answer.json()["detail"].to_string();
                    assert!(
                        detail.contains(&format!("needs the role {needed}")),
                        "{name}: {detail}"
                    );
                }
                _ => assert!(![401, 403].contains(&status), "{name} for {who}: {}", answer.body),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_longer_good_opens_nothing() {
    let world = World::with(Vec::new()).await;
    let (id, _) = world.tokens["adam"];
    assert!(world.app.store.revoke_token(id, Micros(1)).await.unwrap());
    world.app.tokens.refresh().await;
    for route in routes()
        .into_iter()
        .filter(|route| route.access != Access::Anyone)
    {
        let path = route.path.replace("{id}", "x");
        let answer = world.ask(route.method.clone(), &path, "adam", None).await;
        assert_eq!(answer.status, 401, "{} {path}", route.method);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_names_another_is_told_what_is_missing() {
    let world = World::with(everyones()).await;
    for route in routes() {
        let is_for_members = matches!(route.access, Access::Role(Role::Member, _));
        if !is_for_members || !route.takes.iter().any(|parameter| parameter.name == "user") {
            continue;
        }
        let path = route.path.replace("{id}", "same");
        for query in ["user=bob", "user=ann&user=bob", "user=nobody", "user="] {
            let answer = world.get(&format!("{path}?{query}"), "ann").await;
            assert_eq!(answer.status, 403, "{path}?{query}");
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains("needs the role auditor"), "{detail}");
        }
        let own = world.get(&format!("{path}?user=ann"), "ann").await;
        assert_eq!(own.status, 200, "{path}: {}", own.body);
    }
}

/// Values of a parameter: Ann's, Bob's, and nobody's.
fn values(parameter: &Parameter) -> Vec<&'static str> {
    match parameter.name {
        "user" => vec!["ann", "bob"],
        "client" => vec!["Codex", "bobs-client", "nobodys"],
        "provider" => vec!["openai", "backup", "nobodys"],
        "model" => vec!["gpt-5.5", "bobs-model", "nobodys"],
        "session" => vec!["s-ann", "same", "s-bob", "nobodys"],
        "status" => vec!["in_flight", "completed", "failed", "refused", "aborted"],
        "after" => vec!["2026-11-19", "2026-11-20T08:30:00Z", "2026-11-22", "2026-11-24"],
        "before" => vec![
            "2026-11-19T09:00:00Z",
            "2026-11-21",
            "2026-11-22T12:30:00Z",
            "2026-11-24",
        ],
        "q" => vec!["asks", "ann", "bo*", "%22bob+asks%22", "nobodys"],
        "group" => vec!["user", "client", "provider", "model"],
        "format" => vec!["csv", "json", "jsonl"],
        "limit" => vec!["1", "2", "1000"],
        // Pages are followed below.
        "cursor" => Vec::new(),
        other => panic!("the parameter {other} needs values here"),
    }
}

/// A route's addresses: every id, with every parameter alone and every two together.
fn addresses(path: &str, takes: &[&Parameter]) -> Vec<String> {
    let (ann, bob) = (anns()[0].id().to_string(), bobs()[0].id().to_string());
    let ids = [&*ann, &bob, "s-ann", "same", "s-bob", "nobodys"];
    let paths: Vec<String> = if path.contains("{id}") {
        ids.iter().map(|id| path.replace("{id}", id)).collect()
    } else {
        vec![path.to_owned()]
    };
    let named = |parameter: &&Parameter| {
        let name = parameter.name;
        values(parameter)
            .into_iter()
            .map(move |value| (name, format!("{name}={value}")))
    };
    let pairs: Vec<(&str, String)> = takes.iter().flat_map(named).collect();
    let mut queries = vec![String::new()];
    for (at, (name, one)) in pairs.iter().enumerate() {
        queries.push(one.clone());
        let others = pairs.iter().skip(at + 1).filter(|(other, _)| other != name);
        queries.extend(others.map(|(_, other)| format!("{one}&{other}")));
    }
    let with = |path: &String| {
        queries
            .iter()
            .map(|query| format!("{path}?{query}"))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(with).collect()
}

/// The answers at an address, one a page; ids of tokens, which are of chance, are left out.
async fn pages(world: &World, address: &str, who: &str) -> Vec<(StatusCode, String)> {
    let mut pages = Vec::new();
    let mut next = Some(address.to_owned());
    while let Some(address) = next.take() {
        let answer = world.get(&address, who).await;
        assert!(answer.status.as_u16() < 500, "{address}: {}", answer.body);
        if answer.status.is_success() && answer.header("content-type") == "application/json" {
            let cursor = answer.json()["next"].as_str().map(str::to_owned);
            let base = address.split("&cursor=").next().unwrap().to_owned();
            next = cursor.map(|cursor| format!("{base}&cursor={cursor}"));
        }
        let body = answer.body.replace(&world.tokens[who].0.to_string(), "");
        pages.push((answer.status, body));
    }
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_answered_the_same_whatever_others_do() {
    let (alone, together) = (World::with(anns()).await, World::with(everyones()).await);
    let mut asked = 0;
    for route in routes() {
        let is_for_members = matches!(route.access, Access::Role(Role::Member, _));
        // An event stream has a test of its own.
        if route.method != Method::GET || !is_for_members || route.media == ["text/event-stream"] {
            continue;
        }
        for address in addresses(route.path, route.takes) {
            let (one, other) = (
                pages(&alone, &address, "ann").await,
                pages(&together, &address, "ann").await,
            );
            assert_eq!(one, other, "{address}");
            assert!(!other.iter().any(|(_, body)| body.contains("bobs-")), "{address}");
            asked += 1;
        }
        // The same comparison finds what an auditor learns.
        if !["/api/v1/me", "/api/v1/providers"].contains(&route.path) && !route.path.contains("{id}") {
            let (one, other) = (
                pages(&alone, route.path, "audrey").await,
                pages(&together, route.path, "audrey").await,
            );
            assert_ne!(one, other, "{}", route.path);
        }
    }
    assert!(asked > 2_000, "{asked}");
}

fn warning(account: &str, at: Micros) -> Warning {
    Warning {
        budget: "daily".into(),
        per: "user".into(),
        account: account.into(),
        level: 85,
        share: 0.9,
        since: at,
        resets_at: at,
        at,
    }
}

/// All that `who` is told at an address of the event stream, up to the warning of Ann, which is the last; without the
/// positions, which are of chance.
async fn told(world: &World, address: &str, who: &str) -> (StatusCode, Vec<String>) {
    let key = world.app.store.position_key().await.unwrap();
    let address = format!("{address}&after={}", key.seal(&Position::default()));
    loop {
        let request = world.request(Method::GET, &address, who, None);
        let answer = world.send_until(request, "\"account\":\"ann\"").await;
        // Streams that were left are noticed a little later.
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            let lines = answer.body.lines().filter(|line| !line.starts_with("id: "));
            return (answer.status, lines.map(str::to_owned).collect());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_told_of_the_same_events_whatever_others_do() {
    let (alone, together) = (World::with(anns()).await, World::with(everyones()).await);
    let now = alone.app.clock.micros();
    let (ann, bob) = (warning("ann", now), warning("bob", now));
    alone.app.store.warn(vec![ann.clone()]).await.unwrap();
    together.app.store.warn(vec![bob, ann]).await.unwrap();
    let routes = routes();
    let events = routes
        .iter()
        .find(|route| route.path == "/api/v1/events")
        .unwrap();
    let takes = events.takes.iter().copied();
    let takes: Vec<&Parameter> = takes.filter(|parameter| parameter.name != "after").collect();
    for address in addresses(events.path, &takes) {
        let (one, other) = (
            told(&alone, &address, "ann").await,
            told(&together, &address, "ann").await,
        );
        assert_eq!(one, other, "{address}");
        assert!(
            !other.1.iter().any(|line| line.contains("bob")),
            "{address}: {other:?}"
        );
    }
    let count = |told: &[String], name: &str| {
        let line = format!("event: {name}");
        told.iter().filter(|found| **found == line).count()
    };
    let all = format!("{}?", events.path);
    for (who, interceptions, warnings) in [("ann", 6, 1), ("audrey", 10, 2), ("adam", 10, 2)] {
        let (_, told) = told(&together, &all, who).await;
        let found = (count(&told, "interception"), count(&told, "budget"));
        assert_eq!(found, (interceptions, warnings), "{who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_somebody_else_is_like_one_that_there_is_not() {
    let world = World::with(everyones()).await;
    for (mine, theirs) in [
        (
            format!("interceptions/{}", anns()[0].id()),
            format!("interceptions/{}", bobs()[0].id()),
        ),
        ("sessions/s-ann".to_owned(), "sessions/s-bob".to_owned()),
    ] {
        let unknown = theirs
            .replace("s-bob", "s-none")
            .replace(&bobs()[0].id().to_string(), &Uuid::nil().to_string());
        assert_eq!(world.get(&format!("/api/v1/{mine}"), "ann").await.status, 200);
        let (theirs, unknown) = (
            world.get(&format!("/api/v1/{theirs}"), "ann").await,
            world.get(&format!("/api/v1/{unknown}"), "ann").await,
        );
        assert_eq!((theirs.status, &theirs.body), (unknown.status, &unknown.body));
        assert_eq!(theirs.status, 404);
    }
}
