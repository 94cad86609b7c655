//! `[[price]]`: the operator's own prices, which come before the bundled list.

use providers::{Glob, OwnPrice, Price, Rate};
use serde::Deserialize;

use super::ProviderConfig;
use super::source::Problems;

/// One `[[price]]` entry as it stands in the text; amounts are a million tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PriceFile {
    /// Model ids; `*` stands for any run of characters.
    pub model: String,
    /// An instance's name; left out, every instance.
    pub provider: Option<String>,
    /// Input that no cache holds.
    pub input: f64,
    /// Output, reasoning included.
    pub output: f64,
    /// Input read from a cache; left out, as `input`.
    pub cache_read: Option<f64>,
    /// Input written to a cache; left out, as `input`.
    pub cache_write: Option<f64>,
}

/// Checks the entries; the first that fits a call will be its price.
pub(super) fn build(
    entries: &[PriceFile],
    providers: &[ProviderConfig],
    problems: &mut Problems,
) -> Vec<OwnPrice> {
    let check = |entry: &PriceFile| {
        let key = format!("price.{}", entry.model);
        let known = |name: &String| providers.iter().any(|known| known.instance.name.as_str() == name);
        if entry.model.trim().is_empty() {
            problems.add(&key, "`model` is empty: write a model's id, e.g. \"gpt-5*\"");
        }
        if let Some(name) = entry.provider.as_ref().filter(|name| !known(name)) {
            problems.add(
                &format!("{key}.provider"),
                format!("`{name}` is not a provider that runs"),
            );
        }
        let mut rate = |name: &str, units: f64| {
            let rate = Rate::of(units);
            if rate.is_none() {
                let cure = format!("{units} is not a price a million tokens: write e.g. 1.25");
                problems.add(&format!("{key}.{name}"), cure);
            }
            rate.unwrap_or(Rate(0))
        };
        let (input, output) = (rate("input", entry.input), rate("output", entry.output));
        let cache_read = entry.cache_read.map(|units| rate("cache-read", units));
        let cache_write = entry.cache_write.map(|units| rate("cache-write", units));
        OwnPrice {
            model: Glob::new(&entry.model),
            provider: entry.provider.clone(),
            price: Price::flat(input, output, cache_read, cache_write),
        }
    };
    entries.iter().map(check).collect()
}
