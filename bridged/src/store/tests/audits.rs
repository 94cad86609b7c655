//! Tampering is found and named; deleting on purpose is not taken for it.

use super::*;
use crate::hex::hex;

/// Some ended interceptions of two users; returns their ids.
pub(super) async fn filled(fixture: &Fixture) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for number in 0..6 {
        let user = if number % 2 == 0 { "ann" } else { "bob" };
        let start = started(user, Some(user), &"planted-prompt ".repeat(40));
        let id = start.id;
        let mut end = ended(id);
        let facts = end.facts.as_mut().unwrap();
        facts.tool_calls = vec![call(&format!("call_{number}"))];
        facts.thoughts = vec![Thought {
            text: "planted-thought".to_owned(),
            source: ThoughtSource::Thinking,
        }];
        facts.output = Some("planted-output".to_owned());
        facts
            .usage
            .as_mut()
            .unwrap()
            .extra
            .insert("web_search".to_owned(), 2);
        fixture.start(start).await;
        fixture.end(end).await;
        ids.push(id);
    }
    ids
}

pub(super) async fn faults(store: &Store, earlier: Vec<ChainHead>) -> Vec<Fault> {
    store.audit(earlier).await.unwrap().faults
}

pub(super) async fn an_audit_names_what_was_changed(home: Home) {
    let fixture = fresh(home).await;
    let ids = filled(&fixture).await;
    let store = fixture.store.clone();
    let checkpoint = store.chain_heads().await.unwrap();
    assert_eq!(faults(&store, checkpoint.clone()).await, []);
    fixture.start(started("ann", None, "more")).await;
    assert_eq!(faults(&store, checkpoint.clone()).await, [], "a chain may grow");

    let id = ids[2];
    let row = blob(&store, &hex(id.as_bytes()));
    let start = Fault::Changed { id, part: "start" };
    let end = Fault::Changed { id, part: "end" };
    let cases = [
        (
            format!("UPDATE interception SET started_at = started_at + 1 WHERE id = {row}"),
            start.clone(),
        ),
        (
            format!("UPDATE interception SET credential_plan = NULL WHERE id = {row}"),
            start.clone(),
        ),
        (
            format!("UPDATE reply SET status = 500 WHERE interception = {row}"),
            end.clone(),
        ),
        (
            format!("UPDATE reply SET output = 1 WHERE interception = {row}"),
            end.clone(),
        ),
        (
            format!("UPDATE tool_call SET truncated = 1 WHERE interception = {row}"),
            end.clone(),
        ),
        (
            format!(
                "UPDATE thought SET body = {} WHERE interception = {row}",
                blob(&store, "0041")
            ),
            end.clone(),
        ),
        (format!("DELETE FROM output WHERE interception = {row}"), end),
        (
            format!(
                "UPDATE prompt SET body = {} WHERE interception = {row}",
                blob(&store, "0041")
            ),
            start,
        ),
        (
            format!("DELETE FROM interception WHERE id = {row}"),
            Fault::Deleted { id },
        ),
    ];
    for (change, want) in cases {
        let found = tampered(&store, change.clone(), checkpoint.clone()).await;
        assert_eq!(found, [want], "{change}");
    }
}

pub(super) async fn an_audit_names_what_is_missing_or_moved(home: Home) {
    let fixture = fresh(home).await;
    let ids = filled(&fixture).await;
    let store = fixture.store.clone();
    let checkpoint = store.chain_heads().await.unwrap();
    fixture.start(started("ann", None, "more")).await;
    let row = blob(&store, &hex(ids[2].as_bytes()));
    let instance = checkpoint[0].instance;
    let gone = tampered(&store, "DELETE FROM chain WHERE n = 4".to_owned(), Vec::new()).await;
    assert!(
        gone.contains(&Fault::Missing {
            instance,
            from: 4,
            to: 4
        }),
        "{gone:?}"
    );
    let tail = "DELETE FROM chain WHERE n > 11".to_owned();
    let tail = tampered(&store, tail, checkpoint.clone()).await;
    assert!(
        tail.contains(&Fault::Missing {
            instance,
            from: 12,
            to: 13
        }),
        "{tail:?}"
    );
    assert!(
        tail.contains(&Fault::Rewritten { instance, link: 12 }),
        "{tail:?}"
    );
    let swap = "UPDATE chain SET n = CASE n WHEN 3 THEN -5 ELSE -3 END WHERE n IN (3, 5);
        UPDATE chain SET n = -n WHERE n < 0"
        .to_owned();
    assert!(tampered(&store, swap, Vec::new()).await.len() >= 2, "moved links");
    let copy = format!(
        "INSERT INTO interception (id, instance, session, who, combo, api, mode, credential, stream, started_at,
            request_bytes) SELECT {}, instance, session, who, combo, api, mode, credential, stream, started_at,
            request_bytes FROM interception WHERE id = {row}",
        blob(&store, &"7".repeat(32))
    );
    let copy = tampered(&store, copy, Vec::new()).await;
    assert!(matches!(copy[..], [Fault::Inserted { .. }]), "{copy:?}");
}

/// Bytes as the database writes them.
fn blob(store: &Store, hex: &str) -> String {
    match home_dialect(store) {
        Dialect::Sqlite => format!("x'{hex}'"),
        Dialect::Postgres => format!("'\\x{hex}'::bytea"),
    }
}

pub(super) fn home_dialect(store: &Store) -> Dialect {
    match store.0.place {
        Place::Sqlite(_) => Dialect::Sqlite,
        Place::Postgres(_) => Dialect::Postgres,
    }
}

/// What an audit finds after `change`, which is undone.
pub(super) async fn tampered(store: &Store, change: String, earlier: Vec<ChainHead>) -> Vec<Fault> {
    let found = store.ask(move |database| {
        database.begin()?;
        database.script(&change)?;
        let found = audit::audit_now(database, &earlier);
        database.roll_back();
        found
    });
    found.await.unwrap().faults
}

pub(super) async fn deletion_on_purpose_keeps_the_chain_whole(home: Home) {
    let fixture = fresh(home).await;
    let ids = filled(&fixture).await;
    let store = fixture.store.clone();
    let checkpoint = store.chain_heads().await.unwrap();
    let hour = std::time::Duration::from_secs(3_600);
    let later = Clock::system().micros().plus(2 * hour);
    let content = RetentionConfig {
        content: Some(hour),
        metadata: None,
    };
    let deleted = store.clean_up(content, later).await.unwrap();
    assert_eq!((deleted.texts, deleted.interceptions), (6, 0));
    assert_eq!(
        store.clean_up(content, later).await.unwrap().texts,
        0,
        "once is enough"
    );
    let row = store.interception(ids[0], None).await.unwrap().unwrap();
    assert!(row.erased && row.prompt.is_none() && row.output.is_none());
    assert_eq!(
        (row.tool_calls.len(), row.tool_calls[0].arguments.as_str()),
        (1, "")
    );
    assert_eq!(faults(&store, checkpoint.clone()).await, []);

    let all = RetentionConfig {
        content: Some(hour),
        metadata: Some(hour),
    };
    assert_eq!(store.clean_up(all, later).await.unwrap().interceptions, 6);
    assert!(store.interception(ids[0], None).await.unwrap().is_none());
    let (sessions, _) = store.sessions(Filter::default(), PAGE).await.unwrap();
    assert!(sessions.is_empty());
    assert_eq!(faults(&store, checkpoint).await, []);
}

pub(super) async fn a_retention_that_is_set_while_the_writer_runs_is_kept(home: Home) {
    let fixture = fresh(home).await;
    let mut old = started("ann", Some("s"), "hello");
    // Of the first second of 1970.
    old.id = Uuid::from_u128(1 << 80);
    let id = old.id;
    fixture.start(old).await;
    fixture.end(ended(id)).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert!(!row.erased);

    let content = Some(std::time::Duration::from_secs(3_600));
    fixture
        .bounds
        .send_modify(|bounds| bounds.retention.content = content);
    // Whoever sleeps until something comes finds it with the next record.
    fixture.start(started("ann", Some("s"), "hello")).await;
    for _ in 0..500 {
        let row = fixture.store.interception(id, None).await.unwrap().unwrap();
        if row.erased {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the text is still there");
}

pub(super) async fn an_erased_user_leaves_no_text(home: Home) {
    let fixture = fresh(home).await;
    let ids = filled(&fixture).await;
    let store = fixture.store.clone();
    assert_eq!(store.erase_user("nobody".to_owned()).await.unwrap(), 0);
    assert_eq!(store.erase_user("ann".to_owned()).await.unwrap(), 3);
    assert_eq!(store.erase_user("bob".to_owned()).await.unwrap(), 3);
    let row = store.interception(ids[0], None).await.unwrap().unwrap();
    assert_eq!(
        (row.prompt, row.user.as_str(), row.usage[0].output),
        (None, "ann", 5)
    );
    let (sessions, _) = store.sessions(Filter::default(), PAGE).await.unwrap();
    assert!(sessions.iter().all(|session| session.last_prompt.is_none()));
    assert_eq!(faults(&store, Vec::new()).await, []);
    store
        .clean_up(RetentionConfig::default(), Micros(0))
        .await
        .unwrap();
    let home = fixture.close().await;
    for bytes in home.files() {
        for planted in [&b"planted-thought"[..], b"planted-output", b"secret"] {
            assert!(!bytes.windows(planted.len()).any(|window| window == planted));
        }
    }
}
