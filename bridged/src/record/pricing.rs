//! What an open record needs to know to say what its tokens cost.

use std::sync::Arc;
use std::time::SystemTime;

use providers::{Priced, Prices, ReplyFacts};

/// Whose prices apply to a call.
#[derive(Clone, Debug)]
pub struct Pricing {
    /// All prices.
    pub prices: Arc<Prices>,
    /// The instance's name.
    pub provider: Arc<str>,
    /// The instance's kind.
    pub kind: &'static str,
    /// The model asked for.
    pub asked: Option<String>,
}

impl Pricing {
    /// What a reply cost, in millionths of the price's currency; `None` where its tokens or their price are not
    /// known.
    pub fn cost(&self, facts: &ReplyFacts, now: SystemTime) -> Option<i64> {
        let of = Priced {
            provider: &self.provider,
            kind: self.kind,
            answered: facts.model.as_deref(),
            asked: self.asked.as_deref(),
            tier: facts.service_tier.as_deref(),
        };
        self.prices.cost(&of, facts.usage.as_ref()?, now)
    }
}
