//! Budgets: money and tokens for a day, a week or a month.
//!
//! A call reserves what it may use before it is sent, and settles what it has used at its end. Whoever has anything
//! left may ask once more, so that a budget can be used up; reservations count as spent, so that any number of
//! parallel calls exceed it by no more than one call's reservation. What was spent goes to the store in small
//! sums (`unsaved`), and what other processes spent comes from there (`learn`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::period::Period;
use super::scope::{Per, Scope, Subject};
use super::{Denied, Facts, Usage};
use crate::clock::Micros;
use crate::store::Warning;

/// Accounts of one budget: users, groups or providers.
const MOST: usize = 65_536;
/// The share of a budget from which on its use is worth a warning, in percent.
const NEAR: u128 = 85;

/// One `[[budget]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetConfig {
    /// Names it in messages and in the store.
    pub name: Arc<str>,
    /// Whom it is about.
    pub scope: Scope,
    /// What shares one account.
    pub per: Per,
    /// How long it lasts.
    pub period: Period,
    /// Most money, in millionths.
    pub micros: Option<u64>,
    /// Most tokens.
    pub tokens: Option<u64>,
    /// Whether calls without a known price are refused, rather than free.
    pub refuse_unpriced: bool,
    /// The status of refusals.
    pub refusal_status: u16,
}

/// What of a budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its money.
    Money,
    /// Its tokens.
    Tokens,
}

/// A line of an account for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The budget's name.
    pub budget: Arc<str>,
    /// Whose account.
    pub account: Arc<str>,
    /// When the period began.
    pub since: Micros,
    /// What was used.
    pub used: Usage,
}

/// A budget with its accounts.
#[derive(Debug)]
pub(super) struct Budget {
    config: Arc<BudgetConfig>,
    accounts: Arc<Accounts>,
}

type Accounts = RwLock<HashMap<Arc<str>, Arc<Account>>>;

/// One account.
#[derive(Debug, Default)]
struct Account(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    since: i64,
    spent: Usage,
    reserved: Usage,
    /// What of `spent` the store does not know.
    unsaved: Usage,
    /// What earlier periods still owe to the store.
    late: Vec<(i64, Usage)>,
    /// The highest level that was reached in this period.
    level: Level,
    /// Whether that is still to be told.
    is_news: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Fine,
    Near,
    Full,
}

/// What a call has reserved. Dropped without being settled, it has used nothing.
#[derive(Debug)]
pub(super) struct Reservation {
    account: Arc<Account>,
    config: Arc<BudgetConfig>,
    held: Usage,
}

impl Budget {
    /// A budget that goes on counting where the one of the same name stopped.
    pub(super) fn new(config: BudgetConfig, previous: &[Budget]) -> Budget {
        let old = previous
            .iter()
            .find(|old| old.config.name == config.name && old.config.per == config.per);
        Budget {
            config: Arc::new(config),
            accounts: old.map_or_else(Arc::default, |old| old.accounts.clone()),
        }
    }

    /// Reserves the estimate on every account that `subject` uses.
    pub(super) fn reserve(
        &self,
        subject: Subject<'_>,
        facts: &Facts<'_>,
        all: &Arc<str>,
        reservations: &mut Vec<Reservation>,
    ) -> Result<(), Denied> {
        self.reserve_beside((&[], &mut Vec::new()), subject, facts, all, reservations)
    }

    /// The same for a call that holds reservations: on an account where it has one already nothing is reserved again,
    /// but that is noted.
    pub(super) fn reserve_beside(
        &self,
        (held, kept): (&[Reservation], &mut Vec<usize>),
        subject: Subject<'_>,
        facts: &Facts<'_>,
        all: &Arc<str>,
        reservations: &mut Vec<Reservation>,
    ) -> Result<(), Denied> {
        let config = &self.config;
        if !config.scope.covers(subject) {
            return Ok(());
        }
        if config.refuse_unpriced && config.micros.is_some() && !facts.priced {
            return Err(Denied::Unpriced {
                status: config.refusal_status,
                budget: config.name.clone(),
            });
        }
        config.per.each(&config.scope, subject, all, |name| {
            let account = self.account(name).ok_or(Denied::Crowded)?;
            let same = |held: &Reservation| Arc::ptr_eq(&held.account, &account);
            if let Some(at) = held.iter().position(same) {
                kept.push(at);
                return Ok(());
            }
            account
                .reserve(config, facts.estimate, facts.date)
                .map_err(|(spent, until)| self.denied(spent, until))?;
            reservations.push(Reservation {
                account,
                config: config.clone(),
                held: facts.estimate,
            });
            Ok(())
        })
    }

    pub(super) fn counts_money(&self) -> bool {
        self.config.micros.is_some()
    }

    fn account(&self, name: &Arc<str>) -> Option<Arc<Account>> {
        let known = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = known.get(name) {
            return Some(account.clone());
        }
        drop(known);
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        // Forgetting an account would be giving it a new budget.
        (accounts.len() < MOST).then(|| accounts.entry(name.clone()).or_default().clone())
    }

    fn denied(&self, spent: Spent, until: Micros) -> Denied {
        Denied::Budget {
            budget: self.config.clone(),
            spent,
            until,
        }
    }

    /// Takes what the store does not know yet.
    pub(super) fn take_unsaved(&self, out: &mut Vec<Entry>) {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        for (name, account) in accounts.iter() {
            account.take_unsaved(|since, used| {
                out.push(Entry {
                    budget: self.config.name.clone(),
                    account: name.clone(),
                    since: Micros(since),
                    used,
                });
            });
        }
    }

    /// Takes what is to be told of accounts that are nearly or wholly used up.
    pub(super) fn take_warnings(&self, now: Micros, out: &mut Vec<Warning>) {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        for (name, account) in accounts.iter() {
            let Some((level, share, since)) = account.take_news(&self.config) else {
                continue;
            };
            out.push(Warning {
                budget: self.config.name.clone(),
                per: self.config.per.as_str().into(),
                account: name.clone(),
                level,
                share,
                since,
                resets_at: self.config.period.bounds(since).1,
                at: now,
            });
        }
    }

    /// Puts back a warning that could not be told.
    pub(super) fn put_back_warning(&self, warning: &Warning) {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if *warning.budget == *self.config.name
            && let Some(account) = accounts.get(&warning.account)
        {
            let mut books = account.lock();
            books.is_news |= books.since == warning.since.0;
        }
    }

    /// Puts back what could not be saved.
    pub(super) fn put_back(&self, entry: &Entry) {
        if let Some(account) = self.known(entry) {
            account.put_back(entry.since, entry.used);
        }
    }

    /// Learns what the store says that was spent in all.
    pub(super) fn learn(&self, entry: &Entry, now: Micros) {
        let (since, _) = self.config.period.bounds(now);
        if *entry.budget == *self.config.name
            && since == entry.since
            && let Some(account) = self.account(&entry.account)
        {
            account.learn(&self.config, entry.since, entry.used);
        }
    }

    fn known(&self, entry: &Entry) -> Option<Arc<Account>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let ours = *entry.budget == *self.config.name;
        ours.then(|| accounts.get(&entry.account).cloned()).flatten()
    }
}

impl Account {
    fn reserve(&self, config: &BudgetConfig, estimate: Usage, date: Micros) -> Result<(), (Spent, Micros)> {
        let (since, until) = config.period.bounds(date);
        let mut books = self.lock();
        books.turn_to(since);
        let taken = books.spent.plus(books.reserved);
        if config.micros.is_some_and(|most| taken.micros >= most) {
            return Err((Spent::Money, until));
        }
        if config.tokens.is_some_and(|most| taken.tokens >= most) {
            return Err((Spent::Tokens, until));
        }
        books.reserved = books.reserved.plus(estimate);
        Ok(())
    }

    /// Turns a reservation into what was used.
    fn settle(&self, config: &BudgetConfig, held: Usage, used: Usage) {
        let mut books = self.lock();
        books.reserved = books.reserved.minus(held);
        books.spent = books.spent.plus(used);
        books.unsaved = books.unsaved.plus(used);
        books.notice(config);
    }

    /// The level to tell of, with the share that is spent and the beginning of the period.
    fn take_news(&self, config: &BudgetConfig) -> Option<(u8, f64, Micros)> {
        let mut books = self.lock();
        let level = match books.level {
            Level::Fine => return None,
            Level::Near => 85,
            Level::Full => 100,
        };
        std::mem::take(&mut books.is_news).then(|| (level, share(config, books.spent), Micros(books.since)))
    }

    /// Exchanges one estimate of a call for another.
    fn exchange(&self, held: Usage, estimate: Usage) {
        let mut books = self.lock();
        books.reserved = books.reserved.minus(held).plus(estimate);
    }

    fn take_unsaved(&self, mut each: impl FnMut(i64, Usage)) {
        let mut books = self.lock();
        for (since, used) in std::mem::take(&mut books.late) {
            each(since, used);
        }
        let used = std::mem::take(&mut books.unsaved);
        if used != Usage::default() {
            each(books.since, used);
        }
    }

    fn put_back(&self, since: Micros, used: Usage) {
        let mut books = self.lock();
        if books.since == since.0 {
            books.unsaved = books.unsaved.plus(used);
        } else {
            books.late.push((since.0, used));
        }
    }

    fn learn(&self, config: &BudgetConfig, since: Micros, total: Usage) {
        let mut books = self.lock();
        books.turn_to(since);
        books.spent = total.plus(books.unsaved);
        books.notice(config);
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Begins a new period where that has come. Reservations stay: their calls run on and are paid in the new one.
    fn turn_to(&mut self, since: Micros) {
        if self.since >= since.0 {
            return;
        }
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved != Usage::default() {
            self.late.push((self.since, unsaved));
        }
        self.since = since.0;
        self.spent = Usage::default();
        self.level = Level::Fine;
        self.is_news = false;
    }

    /// Notes when a level is reached that was not reached before.
    fn notice(&mut self, config: &BudgetConfig) {
        let level = level(config, self.spent);
        if level > self.level {
            self.level = level;
            self.is_news = true;
        }
    }
}

fn level(config: &BudgetConfig, spent: Usage) -> Level {
    let of = |spent: u64, most: Option<u64>| match most {
        Some(most) if spent >= most => Level::Full,
        Some(most) if u128::from(spent) * 100 >= u128::from(most) * NEAR => Level::Near,
        _ => Level::Fine,
    };
    of(spent.micros, config.micros).max(of(spent.tokens, config.tokens))
}

/// The share that is spent, of money or of tokens, whichever is more.
fn share(config: &BudgetConfig, spent: Usage) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is for people to read")]
    let of = |spent: u64, most: Option<u64>| most.map_or(0.0, |most| spent as f64 / most.max(1) as f64);
    of(spent.micros, config.micros).max(of(spent.tokens, config.tokens))
}

impl Reservation {
    /// Holds another estimate: a call that has begun is not refused for it.
    pub(super) fn hold(&mut self, estimate: Usage) {
        let held = std::mem::replace(&mut self.held, estimate);
        self.account.exchange(held, estimate);
    }

    /// Replaces what was held by what was used.
    pub(super) fn settle(&mut self, used: Usage) {
        let held = std::mem::take(&mut self.held);
        if held == Usage::default() && used == Usage::default() {
            return;
        }
        self.account.settle(&self.config, held, used);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(Usage::default());
    }
}

#[cfg(test)]
mod tests;
