//! `causeway sessions` and `causeway show`: records on the terminal, read straight from the store.

use bridged::config::StoreLocation;
use bridged::store::{Cursor, Filter, InterceptionRow, Page, SessionRow, Store, StoreError, ThreadRow};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::cli::{Globals, SessionsOptions, ShowOptions};
use crate::config;
use crate::failure::Failure;
use crate::table::{Table, cut, printable};

pub(crate) async fn sessions(globals: &Globals, options: SessionsOptions) -> Result<(), Failure> {
    let store = open(globals).await?;
    let (rows, next) = first_sessions(&store, options.which.into(), options.limit.clamp(1, 100_000))
        .await
        .map_err(unreadable)?;
    if options.json {
        print_json(&json!({"items": rows, "next": next.map(|cursor| cursor.to_string())}));
        return Ok(());
    }
    let mut table = Table::new([
        "ACTIVE",
        "USER",
        "CLIENT",
        "MODELS",
        "REQS",
        "IN",
        "OUT",
        "COST",
        "TOOLS",
        "SESSION",
        "LAST PROMPT",
    ]);
    for row in &rows {
        table.row([
            row.last_active_at.get(..19).unwrap_or_default().to_owned(),
            row.user.clone(),
            row.clients.join(", "),
            row.models.join(", "),
            row.interceptions.to_string(),
            (row.usage.input + row.usage.cache_read + row.usage.cache_write).to_string(),
            row.usage.output.to_string(),
            cost(row.cost_micros, row.unpriced + row.unmetered > 0),
            row.tool_calls.to_string(),
            row.id.clone(),
            cut(row.last_prompt.as_deref().unwrap_or("-"), 48),
        ]);
    }
    print!("{table}");
    Ok(())
}

/// So many sessions, where there are: a page of a search may be short although there are more.
async fn first_sessions(
    store: &Store,
    filter: Filter,
    limit: u32,
) -> Result<(Vec<SessionRow>, Option<Cursor>), StoreError> {
    let mut page = Page { cursor: None, limit };
    let mut rows = Vec::new();
    loop {
        let (more, next) = store.sessions(filter.clone(), page).await?;
        page.limit = page
            .limit
            .saturating_sub(u32::try_from(more.len()).unwrap_or(u32::MAX));
        rows.extend(more);
        if page.limit == 0 || next.is_none() {
            return Ok((rows, next));
        }
        page.cursor = next;
    }
}

pub(crate) async fn show(globals: &Globals, options: &ShowOptions) -> Result<(), Failure> {
    let store = open(globals).await?;
    if let Ok(id) = Uuid::parse_str(&options.id)
        && let Some(row) = store.interception(id, None).await.map_err(unreadable)?
    {
        if options.json {
            print_json(&row)
        } else {
            print_interception(&row)
        }
        return Ok(());
    }
    let found = store
        .session(options.id.clone(), Vec::new())
        .await
        .map_err(unreadable)?;
    if found.is_empty() {
        return Err(Failure::new(format!(
            "no session or interception has the id `{}`",
            options.id
        )));
    }
    for (session, threads) in &found {
        if options.json {
            print_json(&json!({"session": session, "thread_list": threads}));
        } else {
            print_session(&store, session, threads).await?;
        }
    }
    Ok(())
}

/// Opens the store that the configuration names, which must exist.
pub(crate) async fn open(globals: &Globals) -> Result<Store, Failure> {
    let config = config::load(globals)?;
    if let StoreLocation::Sqlite(path) = &config.bridge.store.location
        && !path.exists()
    {
        return Err(Failure::new(format!(
            "there are no records at {}: run `causeway serve` first",
            path.display()
        )));
    }
    Store::open(&config.bridge.store)
        .await
        .map_err(|error| Failure::because("the record store cannot be opened", error))
}

pub(crate) fn unreadable(error: StoreError) -> Failure {
    Failure::because("the records cannot be read", error)
}

fn print_json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// An amount of the prices' currency; `+` where some of it is not known, `-` where none is.
fn cost(micros: Option<i64>, has_gaps: bool) -> String {
    let Some(micros) = micros else {
        return "-".to_owned();
    };
    let gap = if has_gaps { "+" } else { "" };
    format!("{}.{:06}{gap}", micros / 1_000_000, micros % 1_000_000)
}

fn line(name: &str, value: impl Into<Option<String>>) {
    if let Some(value) = value.into() {
        println!("{name:<13}{}", printable(&value));
    }
}

fn print_interception(row: &InterceptionRow) {
    line("interception", row.id.to_string());
    line("request", row.request_id.to_string());
    line("session", row.session_id.clone());
    line("user", row.user.clone());
    line(
        "client",
        format!(
            "{} {}",
            row.client,
            row.client_version.as_deref().unwrap_or_default()
        ),
    );
    line("agent", row.agent_id.clone());
    line("parent agent", row.parent_agent_id.clone());
    line(
        "provider",
        format!("{} ({}, {})", row.provider, row.api, row.mode),
    );
    line("model", row.model.clone());
    line("answered by", row.model_answered.clone());
    line(
        "credential",
        row.credential_hint
            .as_ref()
            .map(|hint| format!("{} {hint}", row.credential_kind)),
    );
    line("fingerprint", row.credential_fingerprint.clone());
    line("plan", row.credential_plan.clone());
    line("account", row.credential_account.clone());
    line("started", row.started_at.clone());
    line(
        "duration",
        row.duration_ms
            .map(|ms| format!("{ms:.1} ms, of these {} µs here", row.overhead_us.unwrap_or(0))),
    );
    line(
        "outcome",
        format!(
            "{} {}",
            row.outcome.unwrap_or("in flight"),
            row.status.map(|s| s.to_string()).unwrap_or_default()
        ),
    );
    line("error", row.error_message.clone());
    line("finished by", row.finish_reason.clone());
    print_usage(row);
    line("prompt", row.prompt.clone());
    for call in &row.tool_calls {
        line("tool call", format!("{} {}", call.name, call.arguments));
    }
    for thought in &row.thoughts {
        line("thought", thought.text.clone());
    }
    line("output", row.output.clone());
}

fn print_usage(row: &InterceptionRow) {
    for usage in &row.usage {
        line(
            "tokens",
            format!(
                "{} in, {} out, {} cache read, {} cache written ({})",
                usage.input, usage.output, usage.cache_read, usage.cache_write, usage.source
            ),
        );
        let unpriced = || "unpriced".to_owned();
        line(
            "cost",
            usage
                .cost_micros
                .map_or_else(unpriced, |micros| cost(Some(micros), false)),
        );
    }
    if row.usage.is_empty() {
        line("tokens", row.usage_source.map(str::to_owned));
    }
}

async fn print_session(store: &Store, session: &SessionRow, threads: &[ThreadRow]) -> Result<(), Failure> {
    line("session", session.id.clone());
    line("user", session.user.clone());
    line("clients", session.clients.join(", "));
    line("models", session.models.join(", "));
    line(
        "active",
        format!("{} to {}", session.started_at, session.last_active_at),
    );
    line(
        "tokens",
        format!("{} in, {} out", session.usage.input, session.usage.output),
    );
    line(
        "cost",
        format!(
            "{} ({} requests unpriced, {} of unknown usage)",
            cost(session.cost_micros, false),
            session.unpriced,
            session.unmetered
        ),
    );
    for thread in threads {
        println!(
            "\n{}  {}",
            thread.started_at,
            printable(&cut(thread.prompt.as_deref().unwrap_or("(no prompt)"), 100))
        );
        for id in &thread.interceptions {
            let Some(row) = store.interception(*id, None).await.map_err(unreadable)? else {
                continue;
            };
            let tools: Vec<&str> = row.tool_calls.iter().map(|call| call.name.as_str()).collect();
            println!(
                "  {}  {}  {}  {}",
                row.id,
                printable(row.model.as_deref().unwrap_or("-")),
                row.outcome.unwrap_or("in flight"),
                printable(&tools.join(", "))
            );
        }
    }
    Ok(())
}
