//! What does it cost a request to be let in? Identity, policy, limits and budgets of a well-governed organisation:
//! 1,000 users, 20 rules, 6 limits, 4 budgets. The aim is 10 µs of CPU.

#![allow(missing_docs, reason = "a benchmark has no readers of documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on fails"
)]

use std::sync::Arc;
use std::time::Duration;

use bridged::admission::{
    Admission, AdmissionConfig, BudgetConfig, Caps, Facts, LimitConfig, Load, Per, Period, Policy, Rate,
    Rule, Scope, Usage,
};
use bridged::clock::Micros;
use bridged::identity::{Identity, Proof};
use bridged::token::Role;
use providers::Glob;
use tokio::time::Instant;

fn main() {
    divan::main();
}

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text)).collect()
}

fn rules() -> Vec<Rule> {
    (0..20)
        .map(|number| Rule {
            scope: Scope {
                groups: globs(&[&format!("group-{number}")]),
                ..Scope::default()
            },
            allow: globs(&["gpt-*", "claude-*", "o?-*"]),
            deny: globs(&["*-preview", "*-experimental"]),
        })
        .collect()
}

fn limits() -> Vec<LimitConfig> {
    let caps = Caps {
        concurrent: Some(1_000_000),
        rate: Some(Rate {
            interval: Duration::from_nanos(1),
            burst: 1_000_000,
        }),
        tokens: Some(u64::MAX / 2),
    };
    [
        Per::All,
        Per::Provider,
        Per::Group,
        Per::User,
        Per::User,
        Per::All,
    ]
    .map(|per| LimitConfig {
        scope: Scope::default(),
        per,
        caps,
    })
    .into()
}

fn budgets() -> Vec<BudgetConfig> {
    [Per::All, Per::Provider, Per::Group, Per::User]
        .map(|per| BudgetConfig {
            name: format!("{per:?}").into(),
            scope: Scope::default(),
            per,
            period: Period::Month,
            micros: Some(u64::MAX / 2),
            tokens: Some(u64::MAX / 2),
            refuse_unpriced: false,
            refusal_status: 400,
        })
        .into()
}

fn governed() -> Admission {
    let config = AdmissionConfig {
        policy: Policy {
            rules: rules(),
            ..Policy::default()
        },
        limits: limits(),
        budgets: budgets(),
        ..AdmissionConfig::default()
    };
    Admission::new(config, None)
}

fn users() -> Vec<Identity> {
    (0..1_000)
        .map(|number| Identity {
            user: format!("user-{number}@example.com").into(),
            role: Role::Member,
            groups: Arc::from([format!("group-{}", number % 20).into(), "staff".into()]),
            proof: Proof::Header,
        })
        .collect()
}

fn measure(bencher: divan::Bencher<'_, '_>, admission: &Admission) {
    let (users, provider, load) = (users(), Arc::from("openai"), Load::default());
    let next = std::sync::atomic::AtomicUsize::new(0);
    bencher.bench(|| {
        let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % users.len();
        let estimate = Usage {
            tokens: 5_000,
            micros: 20_000,
        };
        let facts = Facts {
            identity: &users[index],
            provider: &provider,
            model: Some("gpt-5.2-codex"),
            estimate,
            priced: true,
            date: Micros(1_795_000_000_000_000),
            queued: 10,
        };
        let admitted = admission.admit(&facts, &load, Instant::now()).unwrap();
        admitted.settle(estimate);
    });
}

/// Nothing is configured.
#[divan::bench]
fn ungoverned(bencher: divan::Bencher<'_, '_>) {
    let admission = Admission::new(AdmissionConfig::default(), None);
    measure(bencher, &admission);
}

/// Everything is.
#[divan::bench(threads = [1, 2])]
fn governed_in_full(bencher: divan::Bencher<'_, '_>) {
    measure(bencher, &governed());
}

/// A gateway token's way into an identity: the hash is most of it.
#[divan::bench]
fn token_hash() -> [u8; 32] {
    bridged::token::hash(divan::black_box(
        "cw_0123456789abcdef0123456789abcdef0123456789abcdef",
    ))
}
