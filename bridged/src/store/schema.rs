//! The tables, as versioned migrations.
//!
//! Ids are 16 bytes, times are microseconds since the Unix epoch, enums are the small integers of their
//! `code()`. Words that repeat (users, models, clients …) are stored once in `label`. Only ever append to
//! `MIGRATIONS`: each entry raises `PRAGMA user_version` by one.

/// Marks the file as ours (`PRAGMA application_id`): "CWAY".
pub(super) const APPLICATION_ID: i32 = 0x4357_4159;

/// The steps from an empty database to the present one.
pub(super) const MIGRATIONS: [&str; 2] = [
    "
CREATE TABLE label (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
);
CREATE TABLE token (
    id BLOB PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    user TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) WITHOUT ROWID;
CREATE TABLE version (
    of TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO version VALUES ('tokens', 0);

CREATE TABLE session (
    seq INTEGER PRIMARY KEY,
    user INTEGER NOT NULL,
    id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL,
    interceptions INTEGER NOT NULL,
    threads INTEGER NOT NULL,
    prompts INTEGER NOT NULL,
    tool_calls INTEGER NOT NULL DEFAULT 0,
    input INTEGER NOT NULL DEFAULT 0,
    output INTEGER NOT NULL DEFAULT 0,
    cache_read INTEGER NOT NULL DEFAULT 0,
    cache_write INTEGER NOT NULL DEFAULT 0,
    reasoning INTEGER NOT NULL DEFAULT 0,
    cost_micros INTEGER,
    last_prompt TEXT,
    last_prompt_at INTEGER,
    UNIQUE (user, id)
);
CREATE INDEX session_recent ON session (last_active_at, seq);
CREATE INDEX session_of_user ON session (user, last_active_at, seq);
CREATE TABLE session_label (
    session INTEGER NOT NULL,
    facet INTEGER NOT NULL,
    label INTEGER NOT NULL,
    PRIMARY KEY (session, facet, label)
) WITHOUT ROWID;

CREATE TABLE interception (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    request_id BLOB NOT NULL,
    connect_id BLOB,
    session INTEGER NOT NULL,
    thread_root BLOB NOT NULL,
    thread_parent BLOB,
    user INTEGER NOT NULL,
    provider INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    api INTEGER NOT NULL,
    model INTEGER,
    model_answered INTEGER,
    client INTEGER NOT NULL,
    client_version INTEGER,
    user_agent INTEGER,
    mode INTEGER NOT NULL,
    credential INTEGER NOT NULL,
    credential_hint TEXT,
    stream INTEGER NOT NULL,
    status INTEGER,
    outcome INTEGER,
    error_kind TEXT,
    error_message TEXT,
    started_at INTEGER NOT NULL,
    first_token_at INTEGER,
    ended_at INTEGER,
    overhead_us INTEGER,
    request_bytes INTEGER NOT NULL,
    response_bytes INTEGER,
    finish_reason INTEGER,
    response_id TEXT,
    retries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX interception_of_user ON interception (user, id);
CREATE INDEX interception_of_session ON interception (session, id);
CREATE INDEX interception_open ON interception (id) WHERE outcome IS NULL;
CREATE TABLE prompt (
    interception INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    truncated INTEGER NOT NULL
);
CREATE TABLE usage (
    interception INTEGER NOT NULL,
    n INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    extra TEXT,
    source INTEGER NOT NULL,
    cost_micros INTEGER,
    PRIMARY KEY (interception, n)
) WITHOUT ROWID;
CREATE TABLE tool_call (
    interception INTEGER NOT NULL,
    n INTEGER NOT NULL,
    id TEXT NOT NULL,
    name INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    arguments TEXT NOT NULL,
    truncated INTEGER NOT NULL,
    result INTEGER,
    PRIMARY KEY (interception, n)
) WITHOUT ROWID;
CREATE INDEX tool_call_by_id ON tool_call (id);
CREATE TABLE thought (
    interception INTEGER NOT NULL,
    n INTEGER NOT NULL,
    source INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (interception, n)
) WITHOUT ROWID;
CREATE TABLE output (
    interception INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);
",
    "
ALTER TABLE interception ADD COLUMN agent_id TEXT;
ALTER TABLE interception ADD COLUMN parent_agent_id TEXT;
ALTER TABLE session ADD COLUMN unmetered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0;
",
];
