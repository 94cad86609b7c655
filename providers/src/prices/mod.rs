//! What tokens cost: a bundled table of published list prices, and the operator's own prices before it.
//!
//! In come an instance, the models asked for and answered, the date and a [`Usage`]; out comes an amount in
//! millionths of the price's currency, or nothing: *unpriced* is an answer of its own and never zero. The table
//! (`table.toml`) is parsed once; a look-up tries the operator's patterns in their order, then two hash look-ups.
//! Only tokens are priced, not searches or other tools that a provider charges apart.

mod dated;
mod day;
mod price;
mod table;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use crate::glob::Glob;
use crate::tap::Usage;
pub use price::{Long, Price, Rate};
use table::Table;

/// The prices that apply.
#[derive(Debug)]
pub struct Prices {
    own: Vec<OwnPrice>,
    table: Table,
}

/// A price that the operator sets. It holds for every service tier.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnPrice {
    /// The models' ids.
    pub model: Glob,
    /// The instance's name; `None` means every instance.
    pub provider: Option<String>,
    /// The price.
    pub price: Price,
}

/// What was asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Priced<'a> {
    /// The instance's name.
    pub provider: &'a str,
    /// The instance's kind.
    pub kind: &'a str,
    /// The model that answered.
    pub answered: Option<&'a str>,
    /// The model asked for.
    pub asked: Option<&'a str>,
    /// The service tier that the reply names.
    pub tier: Option<&'a str>,
}

impl Prices {
    /// The operator's prices, the first that fits winning, and after them the bundled ones.
    #[must_use]
    pub fn new(own: Vec<OwnPrice>) -> Prices {
        Prices {
            own,
            table: Table::bundled(),
        }
    }

    /// The cost of `usage` in millionths of the price's currency, rounded half up once at the end. `None` where
    /// there is no price, or the amount is not one that a reply can cost.
    #[must_use]
    pub fn cost(&self, of: &Priced<'_>, usage: &Usage, now: SystemTime) -> Option<i64> {
        self.find(of, now)?.cost(usage, of.tier)
    }

    /// The price that applies: the answered model's before the asked one's, the operator's before the table's.
    #[must_use]
    pub fn find(&self, of: &Priced<'_>, now: SystemTime) -> Option<&Price> {
        let models = || [of.answered, of.asked].into_iter().flatten();
        let own = models().find_map(|model| self.own.iter().find(|own| own.covers(of.provider, model)));
        let day = day::of(now);
        own.map(|own| &own.price)
            .or_else(|| models().find_map(|model| self.table.find(of.kind, model, day)))
    }
}

impl OwnPrice {
    fn covers(&self, provider: &str, model: &str) -> bool {
        self.provider.as_deref().is_none_or(|name| name == provider) && self.model.matches(model)
    }
}
