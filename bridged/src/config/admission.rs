//! `[policy]`, `[[limit]]`, `[[budget]]` and `[shed]`: who may use what, and how much.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use providers::Glob;
use serde::Deserialize;

use super::scalar::Span;
use super::source::Problems;
use crate::admission::{BudgetConfig, Caps, LimitConfig, Per, Period, Policy, Rate, Rule, Scope, ShedConfig};

/// `[policy]` as it stands in the text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicyFile {
    /// The status of refusals.
    pub refusal_status: Option<u16>,
    /// `[[policy.rule]]`
    pub rule: Vec<RuleFile>,
}

/// `[[policy.rule]]` as it stands in the text. Every text is a pattern with `*` and `?`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuleFile {
    /// The users it is about; none: all.
    pub users: Vec<String>,
    /// The groups it is about; none: all.
    pub groups: Vec<String>,
    /// The providers it is about; none: all.
    pub providers: Vec<String>,
    /// The models that may be used; none: no restriction by this rule.
    pub allow: Vec<String>,
    /// The models that may not.
    pub deny: Vec<String>,
}

/// `[[limit]]` as it stands in the text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitFile {
    /// The users it is about; none: all.
    pub users: Vec<String>,
    /// The groups it is about; none: all.
    pub groups: Vec<String>,
    /// The providers it is about; none: all.
    pub providers: Vec<String>,
    /// What shares one counter: `all`, `provider`, `group` or `user`.
    pub per: Per,
    /// Requests at once.
    pub concurrent: Option<u32>,
    /// Requests in a second.
    pub requests_per_second: Option<f64>,
    /// Requests that may come at once after a pause.
    pub burst: Option<u32>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u64>,
}

/// `[[budget]]` as it stands in the text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BudgetFile {
    /// Names it; an account is kept under this name.
    pub name: String,
    /// The users it is about; none: all.
    #[serde(default)]
    pub users: Vec<String>,
    /// The groups it is about; none: all.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The providers it is about; none: all.
    #[serde(default)]
    pub providers: Vec<String>,
    /// What shares one account: `all`, `provider`, `group` or `user`.
    #[serde(default)]
    pub per: Per,
    /// `day`, `week` or `month`, in UTC.
    pub period: Period,
    /// Most money, in the currency of the prices.
    pub money: Option<f64>,
    /// Most tokens.
    pub tokens: Option<u64>,
    /// What becomes of calls without a known price under a budget of money.
    #[serde(default)]
    pub unpriced: Unpriced,
}

/// What becomes of calls without a known price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unpriced {
    /// They are free.
    #[default]
    Allow,
    /// They are refused.
    Refuse,
}

/// `[shed]` as it stands in the text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShedFile {
    /// `false` switches it off.
    pub enabled: Option<bool>,
    /// How late timers may fire.
    pub lag: Option<Span>,
    /// Record events that may wait.
    pub queued_records: Option<usize>,
}

/// Checks `[policy]`.
pub(super) fn policy(file: &PolicyFile, problems: &mut Problems) -> Policy {
    let refusal_status = file.refusal_status.unwrap_or(400);
    if !(400..500).contains(&refusal_status) {
        problems.add("policy.refusal-status", "must be from 400 to 499");
    }
    for (index, rule) in file.rule.iter().enumerate() {
        if rule.allow.is_empty() && rule.deny.is_empty() {
            problems.add(
                &format!("policy.rule[{index}]"),
                "says nothing: give it `allow` or `deny`",
            );
        }
    }
    let rule = |rule: &RuleFile| Rule {
        scope: scope(&rule.users, &rule.groups, &rule.providers),
        allow: globs(&rule.allow),
        deny: globs(&rule.deny),
    };
    Policy {
        refusal_status,
        rules: file.rule.iter().map(rule).collect(),
    }
}

/// Checks every `[[limit]]`.
pub(super) fn limits(files: &[LimitFile], problems: &mut Problems) -> Vec<LimitConfig> {
    let make = |(index, file): (usize, &LimitFile)| {
        let key = format!("limit[{index}]");
        let rate = file
            .requests_per_second
            .and_then(|rate| self::rate(rate, file.burst, &key, problems));
        if file.burst.is_some() && file.requests_per_second.is_none() {
            problems.add(&format!("{key}.burst"), "needs `requests-per-second`");
        }
        if file.concurrent == Some(0) || file.tokens_per_minute == Some(0) {
            problems.add(
                &key,
                "0 would let nothing pass: deny models in [[policy.rule]] instead",
            );
        }
        if file.concurrent.is_none() && file.requests_per_second.is_none() && file.tokens_per_minute.is_none()
        {
            problems.add(
                &key,
                "limits nothing: give it `concurrent`, `requests-per-second` or `tokens-per-minute`",
            );
        }
        LimitConfig {
            scope: scope(&file.users, &file.groups, &file.providers),
            per: file.per,
            caps: Caps {
                concurrent: file.concurrent,
                rate,
                tokens: file.tokens_per_minute,
            },
        }
    };
    files.iter().enumerate().map(make).collect()
}

/// Checks every `[[budget]]`.
pub(super) fn budgets(
    files: &[BudgetFile],
    refusal_status: u16,
    problems: &mut Problems,
) -> Vec<BudgetConfig> {
    let mut seen = HashSet::new();
    let make = |file: &BudgetFile| {
        let key = format!("budget.{}", file.name);
        if file.name.trim().is_empty() || !seen.insert(file.name.clone()) {
            problems.add(&key, "needs a `name` of its own");
        }
        if file.money.is_none() && file.tokens.is_none() {
            problems.add(&key, "bounds nothing: give it `money` or `tokens`");
        }
        let money = file.money.filter(|units| (0.0..=1e9).contains(units));
        if file.money.is_some() && money.is_none() {
            problems.add(&format!("{key}.money"), "must be from 0 to 1000000000");
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 10^15"
        )]
        let micros = money.map(|units| (units * 1e6).round() as u64);
        BudgetConfig {
            name: Arc::from(file.name.as_str()),
            scope: scope(&file.users, &file.groups, &file.providers),
            per: file.per,
            period: file.period,
            micros,
            tokens: file.tokens,
            refuse_unpriced: file.unpriced == Unpriced::Refuse,
            refusal_status,
        }
    };
    files.iter().map(make).collect()
}

/// Checks `[shed]`.
pub(super) fn shed(file: &ShedFile) -> ShedConfig {
    if file.enabled == Some(false) {
        return ShedConfig {
            lag: None,
            queued: None,
        };
    }
    let default = ShedConfig::default();
    ShedConfig {
        lag: file.lag.map(Span::duration).or(default.lag),
        queued: file.queued_records.or(default.queued),
    }
}

/// Whom a rule is about.
pub(super) fn scope(users: &[String], groups: &[String], providers: &[String]) -> Scope {
    Scope {
        users: globs(users),
        groups: globs(groups),
        providers: globs(providers),
    }
}

fn globs(texts: &[String]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text)).collect()
}

fn rate(per_second: f64, burst: Option<u32>, key: &str, problems: &mut Problems) -> Option<Rate> {
    if !(0.000_1..=1e6).contains(&per_second) {
        problems.add(
            &format!("{key}.requests-per-second"),
            "must be from 0.0001 to 1000000",
        );
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to a million"
    )]
    let second_s_worth = per_second.ceil().max(1.0) as u32;
    let burst = burst.unwrap_or(second_s_worth);
    if burst == 0 {
        problems.add(&format!("{key}.burst"), "must be at least 1");
    }
    Some(Rate {
        interval: Duration::from_secs_f64(1.0 / per_second),
        burst: burst.max(1),
    })
}
