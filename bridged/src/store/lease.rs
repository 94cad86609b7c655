//! Processes that write to the store, each with a lease that it renews while it lives.
//!
//! Only an interception whose process is dead may be ended by another: its lease has run out, or it was an earlier
//! process on the same data folder, of which there is never more than one. Leases are measured by the clock of
//! the database, which all processes share.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::StoreError;
use super::chain::Head;
use super::sql::Database;

/// How long a process counts as alive after its last sign of life.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// How often a process gives a sign of life.
pub(super) const RENEWAL: Duration = Duration::from_secs(10);

/// Enters this process, or finds it; returns its number and the end of its chain, which tells whether a commit
/// that nobody answered for was one.
pub(super) fn enter(database: &mut dyn Database, name: Uuid) -> Result<(i64, Head), StoreError> {
    let head = Head::new(name);
    let now = database.dialect().now();
    let sql = format!(
        "INSERT INTO instance (name, started_at, lease_until, head_n, head_hash)
         VALUES (?1, {now}, {now} + ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET lease_until = excluded.lease_until
         RETURNING id, head_n, head_hash"
    );
    let values = [
        name.into(),
        micros(LEASE).into(),
        head.n.into(),
        head.hash.to_vec().into(),
    ];
    let mut rows = database.query(&sql, &values)?;
    let mut row = rows.pop().ok_or(StoreError::Unreadable)?.read();
    let (id, n, hash) = (row.int()?, row.int()?, row.blob()?);
    let hash = hash.try_into().map_err(|_| StoreError::Unreadable)?;
    Ok((id, Head { n, hash }))
}

/// Gives a sign of life.
pub(super) fn renew(database: &mut dyn Database, instance: i64) -> Result<(), StoreError> {
    let now = database.dialect().now();
    let sql = format!("UPDATE instance SET lease_until = {now} + ?2 WHERE id = ?1");
    database
        .execute(&sql, &[instance.into(), micros(LEASE).into()])
        .map(drop)
}

/// Ends a lease: the process has nothing more to write.
pub(super) fn end(database: &mut dyn Database, instance: i64) -> Result<(), StoreError> {
    let sql = "UPDATE instance SET lease_until = 0 WHERE id = ?1";
    database.execute(sql, &[instance.into()]).map(drop)
}

/// Ends the leases of processes that are known to be gone.
pub(super) fn end_of(database: &mut dyn Database, names: &[Uuid]) -> Result<(), StoreError> {
    for name in names {
        let sql = "UPDATE instance SET lease_until = 0 WHERE name = ?1";
        database.execute(sql, &[(*name).into()])?;
        let sql = "UPDATE search_lease SET until = 0 WHERE holder = ?1";
        database.execute(sql, &[(*name).into()])?;
    }
    Ok(())
}

/// Processes that have open interceptions and are dead: by their lease, or because they are among `before`.
pub(super) fn dead(
    database: &mut dyn Database,
    instance: i64,
    before: &[Uuid],
    also_expired: bool,
) -> Result<Vec<i64>, StoreError> {
    let now = database.dialect().now();
    let mut values = vec![instance.into(), i64::from(also_expired).into()];
    let mut marks = String::from("NULL");
    for name in before {
        values.push((*name).into());
        marks.push_str(&format!(", ?{}", values.len()));
    }
    let sql = format!(
        "SELECT p.id FROM instance p WHERE p.id <> ?1 AND (p.name IN ({marks}) OR ?2 = 1 AND p.lease_until < {now})
         AND EXISTS (SELECT 1 FROM open o WHERE o.instance = p.id)"
    );
    let rows = database.query(&sql, &values)?;
    rows.into_iter().map(super::sql::Row::int).collect()
}

/// Interceptions that a dead process left open, at most `most`.
pub(super) fn left_open(
    database: &mut dyn Database,
    instance: i64,
    most: usize,
) -> Result<Vec<Uuid>, StoreError> {
    let sql = "SELECT id FROM open WHERE instance = ?1 ORDER BY id LIMIT ?2";
    let rows = database.query(sql, &[instance.into(), (most as u64).into()])?;
    rows.into_iter().map(|row| row.read().id()).collect()
}

/// The names of the processes of a data folder, in a file there.
#[derive(Debug)]
pub(super) struct Names {
    file: PathBuf,
    /// Earlier processes whose interceptions may still be open.
    pub(super) before: Vec<Uuid>,
    pub(super) own: Uuid,
}

impl Names {
    /// Reads the earlier names in `folder` and adds one for this process.
    pub(super) fn take(folder: &Path) -> io::Result<Names> {
        let file = folder.join("instances");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let names = Names {
            file,
            before: text.lines().filter_map(|line| line.parse().ok()).collect(),
            own: Uuid::now_v7(),
        };
        names.save()?;
        Ok(names)
    }

    /// Forgets the earlier processes: nothing of theirs is open.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.before.clear();
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let draft = self.file.with_extension("draft");
        let mut file = fs::File::create(&draft)?;
        for name in self.before.iter().chain([&self.own]) {
            writeln!(file, "{name}")?;
        }
        file.sync_all()?;
        fs::rename(draft, &self.file)
    }
}

pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
