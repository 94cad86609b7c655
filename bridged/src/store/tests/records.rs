//! What is written is what is read.

use super::audits::faults;
use super::*;

pub(super) async fn what_is_recorded_can_be_read(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", Some("s1"), "hello");
    let id = start.id;
    fixture.start(start).await;
    let open = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!((open.outcome, open.prompt.as_deref()), (None, Some("hello")));

    fixture.end(ended(id)).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(row.outcome, Some("completed"));
    assert_eq!(row.model_answered.as_deref(), Some("gpt-5.5-2026"));
    assert_eq!(row.duration_ms, Some(1_000.0));
    assert_eq!(
        (row.usage[0].input, row.usage[0].cache_read, row.usage[0].source),
        (10, 3, "reported")
    );

    let (sessions, next) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    let session = &sessions[0];
    assert_eq!((session.id.as_str(), session.user.as_str()), ("s1", "ann"));
    assert_eq!(
        (session.interceptions, session.threads, session.prompts),
        (1, 1, 1)
    );
    assert_eq!((session.usage.input, session.usage.output), (10, 5));
    assert_eq!(
        (&session.clients[..], &session.models[..]),
        (&["Codex".to_owned()][..], &["gpt-5.5".to_owned()][..])
    );
    assert_eq!(session.last_prompt.as_deref(), Some("hello"));
    assert!(next.is_none());
}

pub(super) async fn costs_add_up_and_gaps_are_counted(home: Home) {
    let fixture = fresh(home).await;
    let ends: [fn(&mut Ended); 5] = [
        |_| {},
        |_| {},
        |end| end.cost_micros = None,
        |end| (end.facts, end.cost_micros) = (None, None),
        |end| (end.facts, end.cost_micros, end.outcome) = (None, None, Outcome::Refused),
    ];
    let mut sources = Vec::new();
    for change in ends {
        let start = started("ann", Some("s1"), "hello");
        let mut end = ended(start.id);
        change(&mut end);
        let id = start.id;
        fixture.start(start).await;
        fixture.end(end).await;
        let row = fixture.store.interception(id, None).await.unwrap().unwrap();
        assert_eq!(
            (row.agent_id.as_deref(), row.parent_agent_id),
            (Some("agent-7"), None)
        );
        sources.push((
            row.usage_source,
            row.usage.first().and_then(|usage| usage.cost_micros),
        ));
    }
    assert_eq!(
        sources,
        [
            (Some("reported"), Some(40)),
            (Some("reported"), Some(40)),
            (Some("reported"), None),
            (Some("unknown"), None),
            (None, None),
        ]
    );
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    let session = &sessions[0];
    assert_eq!(session.cost_micros, Some(80));
    assert_eq!((session.unpriced, session.unmetered), (1, 1));
}

pub(super) async fn no_report_of_an_upstream_makes_a_session_unreadable(home: Home) {
    let fixture = fresh(home).await;
    for _ in 0..3 {
        let start = started("ann", Some("s1"), "hello");
        let mut end = ended(start.id);
        if let Some(usage) = end.facts.as_mut().and_then(|facts| facts.usage.as_mut()) {
            (usage.input, usage.output) = (u64::MAX, u64::MAX);
        }
        fixture.start(start).await;
        fixture.end(end).await;
    }
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!(sessions[0].usage.input, 3 << 40);
}

pub(super) async fn a_call_that_was_answered_elsewhere_is_recorded_there(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", Some("s1"), "hello");
    let id = start.id;
    fixture.start(start).await;
    let answerer = Answerer {
        provider: Arc::from("backup"),
        credential_hint: "sk-b...7f3a".to_owned(),
    };
    fixture
        .end(Ended {
            answerer: Some(answerer),
            ..ended(id)
        })
        .await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(row.provider, "backup");
    assert_eq!(row.credential_hint.as_deref(), Some("sk-b...7f3a"));
    let filter = Filter {
        provider: vec!["backup".to_owned()],
        ..Filter::default()
    };
    let (rows, _) = fixture.store.interceptions(filter.clone(), PAGE).await.unwrap();
    let (sessions, _) = fixture.store.sessions(filter, PAGE).await.unwrap();
    assert_eq!((rows.len(), sessions.len()), (1, 1));
    assert_eq!(sessions[0].providers, ["backup", "openai"]);
    assert_eq!(super::days::are_right(&fixture.store).await, 1);
    assert_eq!(faults(&fixture.store, Vec::new()).await, []);
}

pub(super) async fn metadata_only_keeps_no_text(home: Home) {
    let fixture = open(home, Content::Metadata).await;
    let start = started("ann", Some("s"), "planted-prompt");
    let id = start.id;
    fixture.start(start).await;
    let mut end = ended(id);
    end.facts.as_mut().unwrap().tool_calls = vec![call("call_1")];
    fixture.end(end).await;
    let home = fixture.close().await;
    let row = again(&home).await.interception(id, None).await.unwrap().unwrap();
    assert_eq!((row.prompt, row.tool_calls[0].arguments.as_str()), (None, ""));
    for bytes in home.files() {
        for planted in [&b"planted-prompt"[..], b"secret"] {
            assert!(!bytes.windows(planted.len()).any(|window| window == planted));
        }
    }
}

pub(super) async fn tokens_are_found_by_hash_and_never_stored(home: Home) {
    let fixture = fresh(home).await;
    let now = Micros(5);
    let new = NewToken {
        user: "ann".to_owned(),
        role: crate::token::Role::Member,
        created_at: now,
        expires_at: Some(Micros(100)),
    };
    let before = fixture.store.versions().await.unwrap().tokens;
    let (record, secret) = fixture.store.create_token(new).await.unwrap();
    assert!(fixture.store.versions().await.unwrap().tokens > before);
    let tokens = crate::token::Tokens::load(fixture.store.clone()).await.unwrap();
    assert_eq!(
        &*tokens
            .find(secret.expose(), Micros(99))
            .await
            .unwrap()
            .unwrap()
            .user,
        "ann"
    );
    assert!(
        tokens.find(secret.expose(), Micros(100)).await.unwrap().is_none(),
        "expired"
    );
    assert!(fixture.store.revoke_token(record.id, now).await.unwrap());
    assert!(!fixture.store.revoke_token(record.id, now).await.unwrap());
    tokens.refresh().await;
    assert!(
        tokens.find(secret.expose(), Micros(99)).await.unwrap().is_none(),
        "revoked"
    );
    let home = fixture.close().await;
    for bytes in home.files() {
        let secret = secret.expose().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

pub(super) async fn a_newer_schema_is_refused(home: Home) {
    let store = again(&home).await;
    store
        .ask(|database| database.execute("UPDATE version SET number = 99 WHERE of = 'schema'", &[]))
        .await
        .unwrap();
    let config = StoreConfig {
        location: home.location.clone(),
        extra_ca: Vec::new(),
    };
    let refused = Store::open(&config).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::Newer { found: 99, .. }),
        "{refused:?}"
    );
    assert!(!format!("{refused:?} {refused}").contains("hunter2"));
}

pub(super) async fn odd_texts_are_kept(home: Home) {
    let fixture = fresh(home).await;
    let start = Started {
        model: Some("m".repeat(5_000)),
        prompt: Some("a\0b '; DROP TABLE session; -- \u{1F98A} ?1".to_owned()),
        session_id: Some("s\0".repeat(3_000)),
        ..started("o'brien\0", None, "")
    };
    let id = start.id;
    fixture.start(start).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(
        row.prompt.as_deref(),
        Some("a\u{fffd}b '; DROP TABLE session; -- \u{1F98A} ?1")
    );
    assert_eq!(row.user, "o'brien\u{fffd}");
    assert!(row.model.unwrap().ends_with('…'));
}
