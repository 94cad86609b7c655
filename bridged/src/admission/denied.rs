//! Why a call is not admitted: its status, its word, its sentence, and when asking again may help.

use std::sync::Arc;
use std::time::Duration;

use super::{BudgetConfig, Per, Spent, seconds};
use crate::clock::Micros;

/// What a caller should wait before asking again where nothing better is known.
const SHORT_WAIT: Duration = Duration::from_secs(2);

/// Why a call is not admitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Policy.
    #[error("{} not allowed for you here", describe(model.as_deref()))]
    Model {
        /// The configured status.
        status: u16,
        /// The model, if it could be read.
        model: Option<String>,
    },
    /// Policy, for everything of a provider.
    #[error("this provider is not allowed for you here")]
    Provider {
        /// The configured status.
        status: u16,
    },
    /// Too many at once.
    #[error("too many requests at once: at most {most} {}", per.describe())]
    Concurrency {
        /// What shares the counter.
        per: Per,
        /// The limit.
        most: u32,
    },
    /// Too fast.
    #[error("too many requests: try again in {} s", seconds(*wait))]
    Rate {
        /// What shares the counter.
        per: Per,
        /// When there will be room.
        wait: Duration,
    },
    /// Too many tokens.
    #[error("more than {most} tokens in a minute {}: try again in {} s", per.describe(), seconds(*wait))]
    Tokens {
        /// What shares the counter.
        per: Per,
        /// The limit.
        most: u64,
        /// When there will be room.
        wait: Duration,
    },
    /// A budget is used up.
    #[error("the budget `{}` is used up ({}): it begins anew at {}", budget.name, amount(budget, *spent), until.rfc3339())]
    Budget {
        /// The budget.
        budget: Arc<BudgetConfig>,
        /// What of it.
        spent: Spent,
        /// When its next period begins.
        until: Micros,
    },
    /// A budget of money, and a model without price.
    #[error("the budget `{budget}` takes no model without a known price")]
    Unpriced {
        /// The configured status.
        status: u16,
        /// The budget's name.
        budget: Arc<str>,
    },
    /// The process does not keep up.
    #[error("the gateway has too much to do at the moment")]
    Overloaded,
    /// There are more users at once than can be counted.
    #[error("the gateway serves too many users at the moment")]
    Crowded,
}

fn describe(model: Option<&str>) -> String {
    model.map_or_else(
        || "a request whose model cannot be read is".to_owned(),
        |model| format!("the model `{model}` is"),
    )
}

fn amount(budget: &BudgetConfig, spent: Spent) -> String {
    let (period, per) = (budget.period.describe(), budget.per.describe());
    match spent {
        Spent::Money => {
            let cents = budget.micros.unwrap_or_default() / 10_000;
            format!("{}.{:02} {period} {per}", cents / 100, cents % 100)
        }
        Spent::Tokens => format!("{} tokens {period} {per}", budget.tokens.unwrap_or_default()),
    }
}

impl Denied {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Denied::Model { status, .. } | Denied::Provider { status } | Denied::Unpriced { status, .. } => {
                *status
            }
            Denied::Budget { budget, .. } => budget.refusal_status,
            Denied::Concurrency { per, .. } | Denied::Rate { per, .. } | Denied::Tokens { per, .. }
                if per.is_personal() =>
            {
                429
            }
            Denied::Concurrency { .. }
            | Denied::Rate { .. }
            | Denied::Tokens { .. }
            | Denied::Overloaded
            | Denied::Crowded => 503,
        }
    }

    /// One stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Denied::Model { .. } => "model_not_allowed",
            Denied::Provider { .. } => "provider_not_allowed",
            Denied::Concurrency { .. } => "too_many_at_once",
            Denied::Rate { .. } => "too_many_requests",
            Denied::Tokens { .. } => "too_many_tokens",
            Denied::Budget { .. } => "budget_exceeded",
            Denied::Unpriced { .. } => "model_without_price",
            Denied::Overloaded => "overloaded",
            Denied::Crowded => "too_many_users",
        }
    }

    /// When asking again may help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            // Where it is over within the hour or next month, the message says when.
            Denied::Model { .. }
            | Denied::Provider { .. }
            | Denied::Budget { .. }
            | Denied::Unpriced { .. } => None,
            Denied::Concurrency { .. } => Some(Duration::from_secs(1)),
            Denied::Rate { wait, .. } | Denied::Tokens { wait, .. } => Some(*wait),
            Denied::Overloaded | Denied::Crowded => Some(SHORT_WAIT),
        }
    }
}
