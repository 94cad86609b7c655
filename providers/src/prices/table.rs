//! The bundled table: from `table.toml` to hash look-ups by kind and model.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::dated;
use super::day::{self, Day};
use super::price::{Long, ONE, Price, Rate};

const BUNDLED: &str = include_str!("table.toml");

/// Prices by kind and model, of each model the latest first.
#[derive(Debug, Default)]
pub(super) struct Table {
    kinds: HashMap<String, HashMap<String, Vec<(Day, Price)>>>,
}

/// One entry as it stands in the text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Entry {
    pub(super) kind: String,
    pub(super) models: Vec<String>,
    pub(super) from: Option<String>,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_long: Option<f64>,
    long: Option<LongEntry>,
    #[serde(default)]
    tiers: BTreeMap<String, f64>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who read the table"))]
    pub(super) source: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who read the table"))]
    pub(super) as_of: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongEntry {
    above: u64,
    input: f64,
    output: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    price: Vec<Entry>,
}

impl Table {
    /// The table that comes with the program. A test shows that all of it can be read.
    pub(super) fn bundled() -> Table {
        Table::of(entries())
    }

    fn of(entries: Vec<Entry>) -> Table {
        let mut table = Table::default();
        for entry in entries {
            let Some((from, price)) = entry.price() else {
                debug_assert!(false, "an entry for {:?} is not a price", entry.models);
                continue;
            };
            let models = table.kinds.entry(entry.kind).or_default();
            for model in entry.models {
                let versions = models.entry(model).or_default();
                versions.push((from, price.clone()));
                versions.sort_by_key(|(from, _)| std::cmp::Reverse(*from));
            }
        }
        table
    }

    /// The price of `model` on `day`: under its own id, else under the one without a date.
    pub(super) fn find(&self, kind: &str, model: &str, day: Day) -> Option<&Price> {
        let models = self.kinds.get(kind)?;
        let versions = models.get(model).or_else(|| models.get(dated::undated(model)?))?;
        versions
            .iter()
            .find(|(from, _)| *from <= day)
            .map(|(_, price)| price)
    }
}

/// The entries of the bundled table, in their order.
pub(super) fn entries() -> Vec<Entry> {
    let read: Result<Entries, _> = toml::from_str(BUNDLED);
    debug_assert!(read.is_ok(), "the bundled table is read: {read:?}");
    read.map(|entries| entries.price).unwrap_or_default()
}

impl Entry {
    fn price(&self) -> Option<(Day, Price)> {
        let optional = |rate: Option<f64>, other: Rate| rate.map_or(Some(other), Rate::of);
        let input = Rate::of(self.input)?;
        let cache_write = optional(self.cache_write, input)?;
        let tiers = self.tiers.iter();
        let price = Price {
            input,
            output: Rate::of(self.output)?,
            cache_read: optional(self.cache_read, input)?,
            cache_write,
            cache_write_long: optional(self.cache_write_long, cache_write)?,
            long: self
                .long
                .as_ref()
                .map_or(Some(None), |long| long.read().map(Some))?,
            tiers: Some(
                tiers
                    .map(|(name, factor)| Some((name.clone(), millionths(*factor)?)))
                    .collect::<Option<_>>()?,
            ),
        };
        let from = self.from.as_deref().map_or(Some(Day::MIN), day::parse)?;
        Some((from, price))
    }
}

impl LongEntry {
    fn read(&self) -> Option<Long> {
        Some(Long {
            above: self.above,
            input: millionths(self.input)?,
            output: millionths(self.output)?,
        })
    }
}

/// A factor in millionths.
fn millionths(factor: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the range is checked"
    )]
    (0.0..=100.0)
        .contains(&factor)
        .then(|| (factor * ONE as f64).round() as u64)
}
