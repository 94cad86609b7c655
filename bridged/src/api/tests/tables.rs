//! Usage, seats and facets, in JSON and in CSV.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_apart_by_what_was_asked_for() {
    let world = World::with(everyones()).await;
    let lines = async |query: &str| {
        let answer = world
            .get(&format!("/api/v1/usage?{query}"), "audrey")
            .await
            .json();
        answer["items"].as_array().unwrap().clone()
    };
    let days = lines("").await;
    let of =
        |lines: &[Value], name: &str| -> Vec<Value> { lines.iter().map(|line| line[name].clone()).collect() };
    assert_eq!(
        of(&days, "day"),
        [
            "2026-11-23",
            "2026-11-22",
            "2026-11-21",
            "2026-11-20",
            "2026-11-19"
        ]
    );
    assert_eq!(of(&days, "interceptions"), [1, 2, 3, 3, 1]);
    assert!(days[0].get("user").is_none());
    assert_eq!(days[2]["usage"]["input"], 30);
    assert_eq!((&days[1]["refused"], &days[1]["aborted"]), (&1.into(), &1.into()));

    let users = lines("group=user&after=2026-11-20&before=2026-11-21").await;
    assert_eq!(of(&users, "user"), ["ann", "bob"]);
    assert_eq!(of(&users, "interceptions"), [2, 1]);
    let models = lines("group=model&group=client&user=ann&after=2026-11-22").await;
    let found: Vec<_> = models
        .iter()
        .map(|line| (&line["client"], &line["model"], &line["interceptions"]))
        .collect();
    let (codex, zed) = ("Codex".into(), "Zed".into());
    assert_eq!(
        found,
        [
            (&codex, &Value::Null, &1.into()),
            (&zed, &"gpt-mini".into(), &1.into())
        ]
    );
    let providers = lines("group=provider&provider=backup").await;
    assert!(providers.iter().all(|line| line["provider"] == "backup"));
    assert!(!providers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_users_who_used_something() {
    let refused = |number, at| Call {
        number,
        at,
        user: "eve",
        outcome: Some(Outcome::Refused),
        ..CALL
    };
    let mut calls = everyones();
    calls.push(refused(200, "2026-11-20T08:00:00Z"));
    let world = World::with(calls).await;
    let seats = world.get("/api/v1/seats", "audrey").await.json();
    let seats = seats["items"].as_array().unwrap();
    let of = |name: &str| -> Vec<&str> { seats.iter().map(|seat| seat[name].as_str().unwrap()).collect() };
    assert_eq!(of("user"), ["ann", "bob"]);
    assert_eq!(of("first_day"), ["2026-11-20", "2026-11-19"]);
    assert_eq!(of("last_day"), ["2026-11-22", "2026-11-23"]);
    assert_eq!(seats[0]["interceptions"], 6);
    let later = world.get("/api/v1/seats?after=2026-11-23", "audrey").await.json();
    assert_eq!(later["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_are_what_filters_find() {
    let world = World::with(everyones()).await;
    for (path, parameter) in [("clients", "client"), ("models", "model"), ("users", "user")] {
        let facets = world.get(&format!("/api/v1/{path}"), "audrey").await.json();
        let facets = facets["items"].as_array().unwrap().clone();
        assert!(facets.len() >= 2, "{path}");
        for facet in facets {
            let name = facet["name"].as_str().unwrap();
            let states = "status=completed&status=failed&status=refused&status=aborted";
            let address = format!("/api/v1/interceptions?{parameter}={name}&{states}");
            let found = world.get(&address, "audrey").await.json();
            assert_eq!(
                facet["interceptions"],
                found["items"].as_array().unwrap().len(),
                "{path} {name}"
            );
        }
    }
    let own = world
        .get("/api/v1/models?client=bobs-client", "audrey")
        .await
        .json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_whole_unless_a_page_is_asked_for() {
    let names: Vec<String> = (0..2_500).map(|number| format!("model-{number:04}")).collect();
    let world = World::with(Vec::new()).await;
    let recorder = &world.app.recorder;
    for (number, name) in (0..).zip(&names) {
        let call = Call { number, ..CALL };
        let started = Started {
            model: Some(name.clone()),
            ..call.started()
        };
        recorder.start(started).await.unwrap();
        let ended = recorder.end(call.ended().unwrap()).unwrap();
        if number % 100 == 99 {
            ended.await.unwrap();
        }
    }
    let sheet = world.get("/api/v1/usage?format=csv&group=model", "ann").await;
    assert_eq!(
        sheet.header("content-type"),
        "text/csv; charset=utf-8; header=present"
    );
    assert!(sheet.header("content-disposition").contains("causeway-usage.csv"));
    let mut lines = sheet.body.split_terminator("\r\n");
    let head = lines.next().unwrap();
    assert!(head.starts_with("day,model,interceptions,completed,"), "{head}");
    let models: Vec<&str> = lines.map(|line| line.split(',').nth(1).unwrap()).collect();
    assert_eq!(models, names);

    let mut models = Vec::new();
    let mut next = Some("/api/v1/usage?format=csv&group=model&limit=1000".to_owned());
    while let Some(address) = next {
        let page = world.get(&address, "ann").await;
        let lines = page.body.split_terminator("\r\n").skip(1);
        models.extend(lines.map(|line| line.split(',').nth(1).unwrap().to_owned()));
        let link = page.header("link");
        next = link
            .strip_prefix('<')
            .map(|link| link.split('>').next().unwrap().to_owned());
    }
    assert_eq!(models, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_cannot_be_a_formula() {
    let evil = "=HYPERLINK(\"http://evil.example\",\"a, b\")";
    let world = World::with(vec![Call { client: evil, ..CALL }]).await;
    let request = http::Request::get("/api/v1/usage?group=client")
        .header(AUTHORIZATION, format!("Bearer {}", world.tokens["ann"].1))
        .header("accept", "text/csv")
        .body(Body::empty())
        .unwrap();
    let sheet = world.send(request).await;
    let line = sheet.body.lines().nth(1).unwrap();
    let want = "2026-11-20,\"'=HYPERLINK(\"\"http://evil.example\"\",\"\"a, b\"\")\",1,1,0,0,0,1,1,10,5,3,2,1,40,0,0";
    assert_eq!(line, want);
    let seats = world.get("/api/v1/seats?format=csv", "ann").await;
    assert!(
        seats.body.starts_with("user,first_day,last_day,interceptions,"),
        "{}",
        seats.body
    );
    assert!(
        seats.body.contains("\r\nann,2026-11-20,2026-11-20,1,"),
        "{}",
        seats.body
    );
}
