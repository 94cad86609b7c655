//! One price, and what a reply costs at it.

use crate::tap::Usage;

/// A price a million tokens, in millionths of a currency; the same number is the cost of one token in 10⁻¹² of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Rate {
    /// The highest price a million tokens that is believed, in units of the currency.
    pub const MAX: f64 = 1_000_000.0;

    /// The rate of so many units of the currency a million tokens; `None` if that is not a price.
    #[must_use]
    pub fn of(units: f64) -> Option<Rate> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked"
        )]
        (0.0..=Rate::MAX)
            .contains(&units)
            .then(|| Rate((units * 1e6).round() as u64))
    }
}

/// What a model's tokens cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// Input that is neither read from a cache nor written to one.
    pub input: Rate,
    /// Output, reasoning included.
    pub output: Rate,
    /// Input read from a cache.
    pub cache_read: Rate,
    /// Input written to a cache.
    pub cache_write: Rate,
    /// Input written to a cache for longer than usual: an hour at Anthropic, twelve at OpenAI.
    pub cache_write_long: Rate,
    /// What long prompts cost more.
    pub long: Option<Long>,
    /// What other service tiers cost, as factors in millionths; `None` means that every tier costs the same.
    pub tiers: Option<Vec<(String, u64)>>,
}

/// Factors, in millionths, on the prices of requests with a long prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Long {
    /// The prompt is longer than so many tokens.
    pub above: u64,
    /// On the prompt's tokens.
    pub input: u64,
    /// On the answer's.
    pub output: u64,
}

/// A factor of one.
pub(super) const ONE: u64 = 1_000_000;

/// The names of the tier that costs the plain price.
const PLAIN_TIERS: [&str; 3] = ["default", "standard", "auto"];

/// Where [`Usage::extra`] keeps how much of the cache writes is for longer.
const LONG_WRITES: [&str; 2] = ["cache_ephemeral_1h_input", "cache_write_ttl_12h"];

/// More than any one reply costs: a thousand million units.
const MOST: i64 = 1_000_000_000_000_000;

impl Price {
    /// A price that is the same for every prompt and tier; what is not given costs what input costs.
    #[must_use]
    pub fn flat(input: Rate, output: Rate, cache_read: Option<Rate>, cache_write: Option<Rate>) -> Price {
        let cache_write = cache_write.unwrap_or(input);
        Price {
            input,
            output,
            cache_read: cache_read.unwrap_or(input),
            cache_write,
            cache_write_long: cache_write,
            long: None,
            tiers: None,
        }
    }

    /// The cost of `usage` in `tier`, in millionths of the currency, rounded half up; `None` if the tier has no
    /// price or the amount is not plausible.
    #[must_use]
    pub fn cost(&self, usage: &Usage, tier: Option<&str>) -> Option<i64> {
        let tier = self.tier(tier)?;
        let (input, output) = self.factors(usage);
        let long = LONG_WRITES.iter().find_map(|name| usage.extra.get(*name));
        let long = long.copied().unwrap_or(0).min(usage.cache_write);
        let prompt = sum(&[
            (usage.input, self.input),
            (usage.cache_read, self.cache_read),
            (usage.cache_write - long, self.cache_write),
            (long, self.cache_write_long),
        ])?;
        let answer = sum(&[(usage.output, self.output)])?;
        let total = prompt
            .checked_mul(input.into())?
            .checked_add(answer.checked_mul(output.into())?)?
            .checked_mul(tier.into())?;
        // Rates are a million tokens, both factors millionths.
        let unit = 1_000_000 * u128::from(ONE) * u128::from(ONE);
        let micros = total.checked_add(unit / 2)? / unit;
        i64::try_from(micros).ok().filter(|micros| *micros <= MOST)
    }

    fn tier(&self, tier: Option<&str>) -> Option<u64> {
        let (Some(tier), Some(known)) = (tier, &self.tiers) else {
            return Some(ONE);
        };
        if PLAIN_TIERS.contains(&tier) {
            return Some(ONE);
        }
        known
            .iter()
            .find(|(name, _)| name == tier)
            .map(|(_, factor)| *factor)
    }

    fn factors(&self, usage: &Usage) -> (u64, u64) {
        let prompt = usage
            .input
            .saturating_add(usage.cache_read)
            .saturating_add(usage.cache_write);
        match self.long {
            Some(long) if prompt > long.above => (long.input, long.output),
            _ => (ONE, ONE),
        }
    }
}

fn sum(parts: &[(u64, Rate)]) -> Option<u128> {
    parts.iter().try_fold(0_u128, |sum, (tokens, rate)| {
        sum.checked_add(u128::from(*tokens) * u128::from(rate.0))
    })
}
