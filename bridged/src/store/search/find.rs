//! Lists of interceptions and sessions whose prompts have what is looked for.
//!
//! The index names candidates; a statement with the list's own conditions decides about each, so that the index can
//! never show what the filter does not allow, whatever it holds. What it cannot know (words in a row, beginnings) is
//! looked for in the prompt itself. Interceptions come as in every list, the latest first. Sessions come by their
//! latest fitting prompt, and all of the filter is about that prompt's interception.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

use super::fresh;
use super::plan::Plan;
use super::query::{Query, Term};
use super::scan::Scan;
use super::walk::Search;
use crate::store::content::{self, Content};
use crate::store::filter::{Cursor, Filter, Page, Question, Status};
use crate::store::rows::InterceptionRow;
use crate::store::sessions::{self, SessionRow};
use crate::store::sql::Database;
use crate::store::{StoreError, read};

/// Candidates in one statement: mostly all of a page fit, so the first of them are enough.
const CHECKED: [usize; 2] = [51, 512];
/// Most candidates that are looked at for one page, which ends there; the next goes on.
const LOOKED_AT: usize = 4_096;
/// The same where all of their prompts have to be read.
const READ: usize = 320;
/// Candidates that are asked for beyond what will do, so that it mostly does.
const SPARE: usize = 8;
/// Candidates that are asked for at once.
const MOST_WANTED: usize = 1_024;

/// A page of interceptions.
pub(in crate::store) fn interceptions(
    database: &mut dyn Database,
    filter: &Filter,
    query: &Query,
    page: Page,
) -> Result<(Vec<InterceptionRow>, Option<Cursor>), StoreError> {
    let full = page.limit as usize;
    let mut hits = Hits::begin(database, filter, query, page.cursor.map(id_at))?;
    let mut ids = Vec::new();
    while ids.len() <= full
        && let Some(found) = hits.next(database, full + 1 - ids.len())?
    {
        ids.extend(found.into_iter().map(|hit| hit.id));
    }
    let next = page.cut(&mut ids, |id| read::cursor_of(*id)).or(hits.goes_on());
    Ok((read::by_ids(database, &ids)?, next))
}

/// A page of sessions.
pub(in crate::store) fn sessions(
    database: &mut dyn Database,
    filter: &Filter,
    query: &Query,
    page: Page,
) -> Result<(Vec<SessionRow>, Option<Cursor>), StoreError> {
    let full = page.limit as usize;
    let from = page.cursor.map(id_at);
    let mut hits = Hits::begin(database, filter, query, from)?;
    let (mut seen, mut shown) = (HashSet::new(), Vec::new());
    while shown.len() <= full
        && let Some(found) = hits.next(database, full + 1 - shown.len())?
    {
        for hit in found {
            let is_new = shown.len() <= full && seen.insert(hit.session);
            // What has a later prompt that fits was on an earlier page.
            if is_new && !has_later(database, filter, &hits.scan, (hit.session, from))? {
                shown.push(hit);
            }
        }
    }
    let next = page
        .cut(&mut shown, |hit| read::cursor_of(hit.id))
        .or(hits.goes_on());
    let rows = sessions::by_numbers(database, shown.iter().map(|hit| hit.session))?;
    Ok((rows, next))
}

fn id_at(Cursor(high, low): Cursor) -> Uuid {
    Uuid::from_u64_pair(high, low)
}

/// Whether a session has a prompt that fits at or after the beginning of this page.
fn has_later(
    database: &mut dyn Database,
    filter: &Filter,
    scan: &Scan<'_>,
    (session, from): (i64, Option<Uuid>),
) -> Result<bool, StoreError> {
    let Some(mut from) = from else { return Ok(false) };
    loop {
        let sql = "SELECT id FROM interception WHERE session = ?1 AND id >= ?2 ORDER BY id LIMIT ?3";
        let values = [session.into(), from.into(), (MOST_WANTED as u64).into()];
        let ids = read::ids(database.query(sql, &values)?)?;
        let Some(last) = ids.last() else { return Ok(false) };
        let fit = read_for(database, scan, &ids)?;
        if !allowed(database, filter, &fit)?.is_empty() {
            return Ok(true);
        }
        from = Uuid::from_u128(last.as_u128().saturating_add(1));
    }
}

/// An interception that fits.
#[derive(Clone, Copy, Debug)]
struct Hit {
    id: Uuid,
    session: i64,
}

/// Interceptions that fit, the latest first.
struct Hits<'q> {
    filter: &'q Filter,
    scan: Scan<'q>,
    /// Whether all prompts have to be read.
    is_read: bool,
    /// Candidates of which the index knows nothing.
    fresh: BTreeSet<Uuid>,
    candidates: Candidates,
    looked_at: usize,
    /// How many are looked at for a page.
    most: usize,
    /// How many were wanted last, and how many candidates were asked for.
    wanted: usize,
    asked: usize,
    /// The last candidate, if there may be more.
    reached: Option<Uuid>,
}

/// Where candidates come from.
enum Candidates {
    Index(Box<Search>),
    /// A list that is short by its filter.
    List {
        below: Option<Uuid>,
    },
    None,
}

impl<'q> Hits<'q> {
    fn begin(
        database: &mut dyn Database,
        filter: &'q Filter,
        query: &'q Query,
        below: Option<Uuid>,
    ) -> Result<Hits<'q>, StoreError> {
        // An interception in flight is not in the index as such, and there are never many.
        let is_short = !filter.session.is_empty() || filter.status == [Status::InFlight];
        let mut fresh = BTreeSet::new();
        let candidates = if is_short {
            Candidates::List { below }
        } else if let Some(plan) = Plan::make(database, filter, query)? {
            fresh = fresh::unread(database)?;
            Candidates::Index(Box::new(Search::begin(database, plan, below, &fresh)?))
        } else {
            Candidates::None
        };
        let is_plain = |term: &Term| term.words.len() == 1 && !term.is_open;
        let is_read = is_short || !query.terms.iter().all(is_plain);
        Ok(Hits {
            filter,
            scan: Scan::new(query),
            is_read,
            fresh,
            candidates,
            looked_at: 0,
            most: if is_read { READ } else { LOOKED_AT },
            wanted: 0,
            asked: 0,
            reached: None,
        })
    }

    /// Some more, perhaps none; nothing at the end.
    fn next(&mut self, database: &mut dyn Database, want: usize) -> Result<Option<Vec<Hit>>, StoreError> {
        if self.looked_at >= self.most {
            return Ok(None);
        }
        self.ask_for(want);
        let found = match &mut self.candidates {
            Candidates::Index(search) => search.next(database, self.asked)?,
            Candidates::List { below } => {
                let page = Page {
                    cursor: below.map(read::cursor_of),
                    limit: u32::try_from(self.asked).unwrap_or(u32::MAX),
                };
                let (sql, question) = read::page_of(database.dialect(), self.filter, page);
                let found = read::ids(database.query(&sql, &question.values)?)?;
                *below = found.last().copied().or(*below);
                found
            }
            Candidates::None => Vec::new(),
        };
        self.reached = found.last().copied();
        if found.is_empty() {
            return Ok(None);
        }
        self.looked_at += found.len();
        let (unread, mut known): (Vec<Uuid>, Vec<Uuid>) = found
            .iter()
            .partition(|id| self.is_read || self.fresh.contains(id));
        known.extend(read_for(database, &self.scan, &unread)?);
        allowed(database, self.filter, &known).map(Some)
    }

    /// As many candidates as will be enough if as many of them serve as of the last ones.
    fn ask_for(&mut self, want: usize) {
        let (asked, served) = (self.asked, self.wanted - want.min(self.wanted));
        let enough = match asked.checked_mul(want).and_then(|all| all.checked_div(served)) {
            Some(enough) => (enough + SPARE).min(asked * 2),
            None => asked * 2,
        };
        self.asked = enough.max(want).min(MOST_WANTED).min(self.most - self.looked_at);
        self.wanted = want;
    }

    /// Where to go on although the page is not full.
    fn goes_on(&self) -> Option<Cursor> {
        let reached = self.reached.filter(|_| self.looked_at >= self.most);
        reached.map(read::cursor_of)
    }
}

/// Those of `ids` whose prompts fit.
fn read_for(database: &mut dyn Database, scan: &Scan<'_>, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let mut fit = Vec::new();
    each_of(ids, |question, marks| {
        let sql = format!("SELECT interception, body FROM prompt WHERE interception IN ({marks})");
        for row in database.query(&sql, &question.values)? {
            let mut row = row.read();
            let (id, body) = (row.id()?, row.blob()?);
            let text = Content::read(&body)?.text();
            if text.is_some_and(|text| scan.fits(&text)) {
                fit.push(id);
            }
        }
        Ok(())
    })?;
    Ok(fit)
}

/// Those of `ids` that the filter allows, the latest first.
fn allowed(database: &mut dyn Database, filter: &Filter, ids: &[Uuid]) -> Result<Vec<Hit>, StoreError> {
    let mut hits = Vec::new();
    each_of(ids, |mut question, marks| {
        let mut conditions = vec![format!("x.id IN ({marks})")];
        conditions.extend(read::conditions(&mut question, filter));
        let sql = format!(
            "SELECT x.id, x.session, substr(p.body, 1, 1) FROM interception x
             JOIN prompt p ON p.interception = x.id WHERE {}",
            conditions.join(" AND ")
        );
        for row in database.query(&sql, &question.values)? {
            let mut row = row.read();
            let (id, session) = (row.id()?, row.int()?);
            if !content::is_erased(&row.blob()?) {
                hits.push(Hit { id, session });
            }
        }
        Ok(())
    })?;
    hits.sort_unstable_by_key(|hit| Reverse(hit.id));
    Ok(hits)
}

/// Asks about some ids in statements of one of two lengths, which are kept prepared.
fn each_of(
    ids: &[Uuid],
    mut ask: impl FnMut(Question, String) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let [few, many] = CHECKED;
    let count = if ids.len() <= few { few } else { many };
    ids.chunks(count).try_for_each(|ids| {
        let mut question = Question::default();
        let marks = question.marks(ids, count);
        ask(question, marks)
    })
}
