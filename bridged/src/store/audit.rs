//! Checks every chain against what is stored, and names what was changed, deleted, inserted or moved.
//!
//! A link that does not fit is reported once: the check goes on from what the link says. What retention and
//! erasure deleted is known from notes in the chains themselves. Somebody who can rewrite a whole chain is found out
//! by an earlier checkpoint that was kept elsewhere.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::{Head, LinkKind, reseal_end, reseal_start};
use super::content::{Digest, sha256};
use super::read;
use super::retention::Note;
use super::rows::InterceptionRow;
use super::sql::{Database, Row};
use super::{Store, StoreError};
use crate::hex::hex;

/// Links that are checked together.
const PAGE: i64 = 500;
/// Faults that are named; the rest is counted.
const NAMED: usize = 1_000;

/// The end of a process's chain, to be kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// The process.
    pub instance: Uuid,
    /// How many links the chain has.
    pub links: i64,
    /// The last link's hash, in hexadecimal.
    pub hash: String,
}

/// What an audit found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Links that were checked.
    pub links: u64,
    /// Chains that were checked.
    pub chains: u64,
    /// What is wrong; at most the first thousand.
    pub faults: Vec<Fault>,
    /// How many are wrong.
    pub count: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A record does not say what its link covers.
    Changed {
        /// The interception.
        id: Uuid,
        /// `start` or `end`.
        part: &'static str,
    },
    /// An interception is gone, and no deletion was noted.
    Deleted {
        /// The interception.
        id: Uuid,
    },
    /// The texts of an interception are gone, and no erasure was noted.
    Erased {
        /// The interception.
        id: Uuid,
    },
    /// An interception is in no chain.
    Inserted {
        /// The interception.
        id: Uuid,
    },
    /// A note of a deletion was changed.
    Note {
        /// The process whose chain it is in.
        instance: Uuid,
        /// Its place there.
        link: i64,
    },
    /// Links are gone.
    Missing {
        /// The process whose chain they were in.
        instance: Uuid,
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// A chain does not contain what an earlier checkpoint says.
    Rewritten {
        /// The process whose chain it is.
        instance: Uuid,
        /// The link of the checkpoint.
        link: i64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Changed { id, part } => write!(f, "interception {id}: its {part} was changed"),
            Fault::Deleted { id } => write!(f, "interception {id}: it was deleted"),
            Fault::Erased { id } => write!(f, "interception {id}: its texts were deleted"),
            Fault::Inserted { id } => write!(f, "interception {id}: it was inserted"),
            Fault::Note { instance, link } => {
                write!(
                    f,
                    "chain {instance}: the note of a deletion at link {link} was changed"
                )
            }
            Fault::Missing { instance, from, to } => {
                write!(f, "chain {instance}: links {from} to {to} are missing")
            }
            Fault::Rewritten { instance, link } => {
                write!(
                    f,
                    "chain {instance}: link {link} is not the one of the checkpoint"
                )
            }
        }
    }
}

impl Store {
    /// The ends of all chains, to be signed or kept where nobody can change them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn chain_heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        self.ask(|database| {
            let heads = instances(database)?;
            let head = |instance: Instance| ChainHead {
                instance: instance.name,
                links: instance.head.n,
                hash: hex(&instance.head.hash),
            };
            Ok(heads.into_iter().map(head).collect())
        })
        .await
    }

    /// Checks all chains, and that they contain `earlier`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn audit(&self, earlier: Vec<ChainHead>) -> Result<Audit, StoreError> {
        self.ask(move |database| {
            database.begin_reading()?;
            let outcome = audit_now(database, &earlier);
            database.roll_back();
            outcome
        })
        .await
    }
}

/// Checks everything in the transaction that is open.
pub(super) fn audit_now(database: &mut dyn Database, earlier: &[ChainHead]) -> Result<Audit, StoreError> {
    Auditor::prepare(database)?.run(database, earlier)
}

struct Instance {
    id: i64,
    name: Uuid,
    head: Head,
}

fn instances(database: &mut dyn Database) -> Result<Vec<Instance>, StoreError> {
    let rows = database.query(
        "SELECT id, name, head_n, head_hash FROM instance ORDER BY id",
        &[],
    )?;
    let read = |row: Row| {
        let mut row = row.read();
        let (id, name, n) = (row.int()?, row.id()?, row.int()?);
        let hash = digest(row.blob()?)?;
        Ok(Instance {
            id,
            name,
            head: Head { n, hash },
        })
    };
    rows.into_iter().map(read).collect()
}

fn digest(bytes: Vec<u8>) -> Result<Digest, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Unreadable)
}

/// A link as it is stored.
struct Link {
    n: i64,
    kind: Option<LinkKind>,
    id: Option<Uuid>,
    note: Option<String>,
    hash: Digest,
}

impl Link {
    fn read(row: Row) -> Result<Link, StoreError> {
        let mut row = row.read();
        Ok(Link {
            n: row.int()?,
            kind: row.code()?.and_then(LinkKind::from_code),
            id: row.optional_id()?,
            note: row.optional_text()?,
            hash: digest(row.blob()?)?,
        })
    }
}

struct Auditor {
    notes: Vec<Note>,
    /// Interceptions that ended more than once, because one process thought another dead. One of the ends is what
    /// is stored.
    twice: HashMap<Uuid, bool>,
    present: HashSet<Uuid>,
    audit: Audit,
}

impl Auditor {
    fn prepare(database: &mut dyn Database) -> Result<Auditor, StoreError> {
        let rows = database.query("SELECT note FROM chain WHERE kind = 3", &[])?;
        let mut notes = Vec::new();
        for row in rows {
            notes.extend(row.read().optional_text()?.as_deref().and_then(Note::parse));
        }
        let rows = database.query(
            "SELECT id FROM chain WHERE kind = 2 GROUP BY id HAVING count(*) > 1",
            &[],
        )?;
        let mut twice = HashMap::new();
        for row in rows {
            twice.insert(row.read().id()?, false);
        }
        Ok(Auditor {
            notes,
            twice,
            present: HashSet::new(),
            audit: Audit::default(),
        })
    }

    fn run(mut self, database: &mut dyn Database, earlier: &[ChainHead]) -> Result<Audit, StoreError> {
        let mut unmet: HashMap<(Uuid, i64), &str> = earlier
            .iter()
            .map(|head| ((head.instance, head.links), head.hash.as_str()))
            .filter(|((_, links), _)| *links > 0)
            .collect();
        for instance in instances(database)? {
            self.check_chain(database, &instance, &mut unmet)?;
        }
        for (instance, link) in unmet.into_keys() {
            self.fault(Fault::Rewritten { instance, link });
        }
        let unmatched: Vec<Uuid> = self
            .twice
            .iter()
            .filter(|(id, matched)| !**matched && self.present.contains(*id))
            .map(|(id, _)| *id)
            .collect();
        for id in unmatched {
            self.fault(Fault::Changed { id, part: "end" });
        }
        self.find_inserted(database)?;
        Ok(self.audit)
    }

    fn fault(&mut self, fault: Fault) {
        self.audit.count += 1;
        if self.audit.faults.len() < NAMED {
            self.audit.faults.push(fault);
        }
    }

    fn check_chain(
        &mut self,
        database: &mut dyn Database,
        instance: &Instance,
        unmet: &mut HashMap<(Uuid, i64), &str>,
    ) -> Result<(), StoreError> {
        self.audit.chains += 1;
        let mut head = Head::new(instance.name);
        loop {
            let rows = database.query(
                "SELECT n, kind, id, note, hash FROM chain WHERE instance = ?1 AND n > ?2 ORDER BY n LIMIT ?3",
                &[instance.id.into(), head.n.into(), PAGE.into()],
            )?;
            let links: Vec<Link> = rows.into_iter().map(Link::read).collect::<Result<_, _>>()?;
            if links.is_empty() {
                break;
            }
            let mut ids: Vec<Uuid> = links.iter().filter_map(|link| link.id).collect();
            ids.sort_unstable();
            ids.dedup();
            let rows = read::by_ids(database, &ids)?;
            let rows: HashMap<Uuid, InterceptionRow> = rows.into_iter().map(|row| (row.id, row)).collect();
            for link in &links {
                head = self.check_link(instance.name, head, link, &rows);
                if unmet
                    .get(&(instance.name, link.n))
                    .is_some_and(|hash| *hash == hex(&link.hash))
                {
                    unmet.remove(&(instance.name, link.n));
                }
            }
        }
        if head.n < instance.head.n {
            self.fault(Fault::Missing {
                instance: instance.name,
                from: head.n + 1,
                to: instance.head.n,
            });
        }
        Ok(())
    }

    /// Checks a link against its record and the link before it; returns where the chain goes on.
    fn check_link(
        &mut self,
        instance: Uuid,
        head: Head,
        link: &Link,
        rows: &HashMap<Uuid, InterceptionRow>,
    ) -> Head {
        self.audit.links += 1;
        let next = Head {
            n: link.n,
            hash: link.hash,
        };
        if link.n != head.n + 1 {
            self.fault(Fault::Missing {
                instance,
                from: head.n + 1,
                to: link.n - 1,
            });
            return next;
        }
        let fits = |kind, id, seal: &Digest| head.then(kind, id, seal) == next;
        match (link.kind, link.id) {
            (Some(kind @ (LinkKind::Start | LinkKind::End)), Some(id)) => {
                let row = rows.get(&id);
                self.check_record(kind, id, row, |seal| fits(kind, Some(id), seal));
            }
            (Some(LinkKind::Note), None) => {
                let text = link.note.as_deref().unwrap_or_default();
                if !fits(LinkKind::Note, None, &sha256(text.as_bytes())) {
                    self.fault(Fault::Note {
                        instance,
                        link: link.n,
                    });
                }
            }
            _ => self.fault(Fault::Note {
                instance,
                link: link.n,
            }),
        }
        next
    }

    fn check_record(
        &mut self,
        kind: LinkKind,
        id: Uuid,
        row: Option<&InterceptionRow>,
        fits: impl Fn(&Digest) -> bool,
    ) {
        let Some(row) = row else {
            if kind == LinkKind::Start && !self.notes.iter().any(|note| note.covers_deletion(id)) {
                self.fault(Fault::Deleted { id });
            }
            return;
        };
        if kind == LinkKind::Start {
            self.present.insert(id);
            if row.erased && !self.notes.iter().any(|note| note.covers_erasure(id, &row.user)) {
                self.fault(Fault::Erased { id });
            }
            if !fits(&reseal_start(row)) {
                self.fault(Fault::Changed { id, part: "start" });
            }
            return;
        }
        let fits = fits(&reseal_end(row));
        match self.twice.get_mut(&id) {
            Some(matched) => *matched |= fits,
            None if !fits => self.fault(Fault::Changed { id, part: "end" }),
            None => {}
        }
    }

    fn find_inserted(&mut self, database: &mut dyn Database) -> Result<(), StoreError> {
        let mut rows = database.query("SELECT count(*) FROM interception", &[])?;
        let stored = rows.pop().ok_or(StoreError::Unreadable)?.int()?;
        if stored == i64::try_from(self.present.len()).unwrap_or(i64::MAX) {
            return Ok(());
        }
        let rows = database.query(
            "SELECT i.id FROM interception i
             WHERE i.id NOT IN (SELECT c.id FROM chain c WHERE c.kind = 1 AND c.id IS NOT NULL) LIMIT 1000",
            &[],
        )?;
        for row in rows {
            let id = row.read().id()?;
            self.fault(Fault::Inserted { id });
        }
        Ok(())
    }
}
