//! Tokens made, used, listed and revoked through the API.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_used_and_revoked() {
    let mut world = World::with(Vec::new()).await;
    let body = r#"{"user": " carol ", "role": "auditor", "expires_at": "2026-12-01T00:00:00Z"}"#;
    let made = world
        .ask(Method::POST, "/api/v1/tokens", "adam", Some(body))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.header("cache-control"), "no-store");
    let line = made.json();
    assert_eq!(
        (&line["user"], &line["role"]),
        (&"carol".into(), &"auditor".into())
    );
    assert_eq!(line["expires_at"], "2026-12-01T00:00:00.000000Z");
    let text = line["token"].as_str().unwrap().to_owned();
    let id = Uuid::parse_str(line["id"].as_str().unwrap()).unwrap();
    world.tokens.insert("carol", (id, text.clone()));
    let me = world.get("/api/v1/me", "carol").await.json();
    assert_eq!((&me["user"], &me["token"]), (&"carol".into(), &line["id"]));

    let list = world.get("/api/v1/tokens?user=carol", "adam").await;
    assert_eq!(list.json()["items"][0]["id"], line["id"]);
    assert!(!world.get("/api/v1/tokens", "adam").await.body.contains(&text));

    let path = format!("/api/v1/tokens/{id}");
    let revoked = world.ask(Method::DELETE, &path, "adam", None).await;
    assert_eq!((revoked.status.as_u16(), &*revoked.body), (204, ""));
    assert_eq!(world.get("/api/v1/me", "carol").await.status, 401);
    assert_eq!(world.ask(Method::DELETE, &path, "adam", None).await.status, 404);
    let list = world.get("/api/v1/tokens?user=carol", "adam").await.json();
    assert!(list["items"][0]["revoked_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_cannot_be_met_names_its_field() {
    let world = World::with(Vec::new()).await;
    let long = format!(r#"{{"user": "{}"}}"#, "a".repeat(257));
    let huge = format!(r#"{{"user": "{}"}}"#, "a".repeat(17 << 10));
    for (body, status, field) in [
        ("", 400, "body"),
        ("[]", 400, "body"),
        (r#"{"user": "#, 400, "body"),
        ("{}", 400, "user"),
        (r#"{"user": ""}"#, 400, "user"),
        (r#"{"user": 7}"#, 400, "user"),
        (r#"{"user": "a\u0000b"}"#, 400, "user"),
        (&long, 400, "user"),
        (&huge, 413, "body"),
        (r#"{"user": "a", "role": "king"}"#, 400, "role"),
        (r#"{"user": "a", "expires_at": "30d"}"#, 400, "expires_at"),
        (
            r#"{"user": "a", "expires_at": "2026-11-24T12:00:00Z"}"#,
            400,
            "expires_at",
        ),
        (r#"{"user": "a", "colour": "red"}"#, 400, "colour"),
    ] {
        let answer = world
            .ask(Method::POST, "/api/v1/tokens", "adam", Some(body))
            .await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.field()),
            (status, field),
            "{}",
            answer.body
        );
    }
    assert_eq!(world.app.store.tokens().await.unwrap().len(), PEOPLE.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_makes_no_token() {
    let world = World::with(Vec::new()).await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = http::Request::post("/api/v1/tokens")
            .header(AUTHORIZATION, format!("Bearer {}", world.tokens["adam"].1))
            .header(CONTENT_TYPE, kind)
            .body(Body::from(r#"{"user": "mallory"}"#))
            .unwrap();
        assert_eq!(world.send(request).await.status, 415, "{kind}");
    }
    assert_eq!(world.app.store.tokens().await.unwrap().len(), PEOPLE.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_tokens_has_pages() {
    let world = World::with(Vec::new()).await;
    let mut users = Vec::new();
    let mut path = "/api/v1/tokens?limit=3".to_owned();
    loop {
        let page = world.get(&path, "adam").await.json();
        let items = page["items"].as_array().unwrap();
        users.extend(items.iter().map(|line| line["user"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/tokens?limit=3&cursor={next}");
    }
    assert_eq!(users, PEOPLE.map(|(user, _)| user));
}
