//! Which price applies, and what it comes to.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};

fn on(date: &str) -> SystemTime {
    let days = u64::try_from(day::parse(date).unwrap()).unwrap();
    UNIX_EPOCH + Duration::from_secs(days * 86_400)
}

fn of<'a>(provider: &'a str, kind: &'a str, model: &'a str) -> Priced<'a> {
    Priced {
        provider,
        kind,
        answered: None,
        asked: Some(model),
        tier: None,
    }
}

fn prompt() -> Usage {
    Usage {
        input: 100_000,
        ..Usage::default()
    }
}

/// The price of 100,000 input tokens of a model on a day.
fn input(kind: &str, model: &str, date: &str) -> Option<i64> {
    Prices::new(Vec::new()).cost(&of("any", kind, model), &prompt(), on(date))
}

#[test]
fn the_bundled_table_can_be_read_and_names_its_sources() {
    let entries = table::entries();
    assert!(entries.len() > 50);
    let mut seen = HashSet::new();
    for entry in &entries {
        assert!(entry.source.starts_with("https://"), "{:?}", entry.models);
        assert!(day::parse(&entry.as_of).is_some(), "{:?}", entry.models);
        assert!(crate::kind(&entry.kind).is_some(), "{}", entry.kind);
        for model in &entry.models {
            let new = seen.insert((&entry.kind, model, &entry.from));
            assert!(new, "{model} has two prices from the same day");
            let date = entry.from.as_deref().unwrap_or("2026-11-22");
            assert!(input(&entry.kind, model, date).is_some(), "{model}");
        }
    }
}

#[test]
fn ids_aliases_and_dates_find_their_price() {
    let now = "2026-11-22";
    let cases = [
        ("anthropic", "claude-sonnet-4-5", now, Some(300_000)),
        ("anthropic", "claude-sonnet-4-5-20250929", now, Some(300_000)),
        ("anthropic", "claude-3-5-haiku-latest", now, Some(80_000)),
        ("openai", "gpt-5-2025-08-07", now, Some(125_000)),
        // A dated id with an entry of its own is not its family.
        ("openai", "gpt-4o-2024-05-13", now, Some(500_000)),
        ("openai", "gpt-4o-2024-11-20", now, Some(250_000)),
        // Prices change on a day, and have a beginning.
        ("openai", "gpt-5.6-terra", "2026-07-08", None),
        ("openai", "gpt-5.6-terra", "2026-07-09", Some(250_000)),
        ("openai", "gpt-5.6-terra", "2026-07-29", Some(250_000)),
        ("openai", "gpt-5.6-terra", "2026-07-30", Some(200_000)),
        // Nothing is guessed.
        ("openai", "gpt-5-nonesuch", now, None),
        ("openai", "ft:gpt-4o-2024-08-06:org::id", now, None),
        ("openai", "claude-sonnet-4-5", now, None),
        ("copilot", "gpt-5", now, None),
        ("openai-compatible", "gpt-5", now, None),
        ("openai", "", now, None),
    ];
    for (kind, model, date, want) in cases {
        assert_eq!(input(kind, model, date), want, "{kind} {model} {date}");
    }
}

#[test]
fn every_count_has_its_rate() {
    let usage = Usage {
        input: 1_000,
        output: 2_000,
        cache_read: 30_000,
        cache_write: 5_000,
        reasoning: 1_500,
        extra: BTreeMap::from([("cache_ephemeral_1h_input".to_owned(), 2_000)]),
    };
    let prices = Prices::new(Vec::new());
    let cost = |model, usage: &Usage, tier| {
        let asked = Priced {
            tier,
            ..of("anthropic", "anthropic", model)
        };
        prices.cost(&asked, usage, on("2026-11-22"))
    };
    // 1,000 × 3 + 2,000 × 15 + 30,000 × 0.30 + 3,000 × 3.75 + 2,000 × 6, in millionths.
    let plain = 3_000 + 30_000 + 9_000 + 11_250 + 12_000;
    assert_eq!(cost("claude-sonnet-4-5", &usage, None), Some(plain));
    assert_eq!(cost("claude-sonnet-4-5", &usage, Some("standard")), Some(plain));
    assert_eq!(cost("claude-sonnet-4-5", &usage, Some("batch")), Some(plain / 2));
    assert_eq!(
        cost("claude-sonnet-4-5", &usage, Some("priority")),
        None,
        "by contract"
    );
}

#[test]
fn a_tier_costs_what_the_list_says_and_an_unlisted_one_nothing_that_is_known() {
    let prices = Prices::new(Vec::new());
    let usage = Usage {
        input: 600,
        output: 100,
        cache_read: 400,
        ..Usage::default()
    };
    let cost = |kind, model, tier| {
        let asked = Priced {
            tier: Some(tier),
            ..of(kind, kind, model)
        };
        prices.cost(&asked, &usage, on("2026-11-22"))
    };
    // 600 × 5 + 100 × 30 + 400 × 0.5 = 6,200 millionths.
    for (tier, want) in [
        ("default", Some(6_200)),
        ("auto", Some(6_200)),
        ("flex", Some(3_100)),
        ("batch", Some(3_100)),
        ("priority", Some(15_500)),
        ("scale", None),
        ("", None),
    ] {
        assert_eq!(cost("openai", "gpt-5.5", tier), want, "{tier}");
    }
    // 600 × 0.25 + 100 × 1 + 400 × 0.125 = 300: this list's factor has no end.
    assert_eq!(cost("openai", "gpt-4o-mini", "priority"), Some(300));
    // 600 × 12 + 100 × 60 + 400 × 0.6.
    assert_eq!(cost("openai", "gpt-6.1-sol", "ultrafast"), Some(13_440));
    // 600 × 8 + 100 × 40 + 400 × 0.4.
    assert_eq!(cost("anthropic", "claude-opus-5-5", "fast"), Some(8_960));
}

#[test]
fn cache_writes_that_stay_longer_cost_more_in_both_dialects() {
    let prices = Prices::new(Vec::new());
    let cost = |kind, model, name: &str| {
        let usage = Usage {
            cache_write: 3_000,
            extra: BTreeMap::from([(name.to_owned(), 1_000)]),
            ..Usage::default()
        };
        prices.cost(&of(kind, kind, model), &usage, on("2026-11-22"))
    };
    // 2,000 × 2.5 + 1,000 × 5.
    assert_eq!(cost("openai", "gpt-6-sol", "cache_write_ttl_12h"), Some(10_000));
    assert_eq!(cost("openai", "gpt-6-sol", "cache_write_ttl_30m"), Some(7_500));
    // 2,000 × 5 + 1,000 × 8.
    let hour = cost("anthropic", "claude-opus-5-5", "cache_ephemeral_1h_input");
    assert_eq!(hour, Some(18_000));
}

#[test]
fn long_prompts_cost_what_the_list_says() {
    let prices = Prices::new(Vec::new());
    let cost = |kind, model, input, cache_read| {
        let usage = Usage {
            input,
            cache_read,
            output: 1_000,
            ..Usage::default()
        };
        prices.cost(&of(kind, kind, model), &usage, on("2026-11-22"))
    };
    let haiku = |input, cached| cost("anthropic", "claude-haiku-5-5", input, cached);
    assert_eq!(haiku(60_000, 40_000), Some(6_000 + 400 + 500));
    assert_eq!(
        haiku(60_001, 40_000),
        Some(30_001 + 2_000 + 2_500),
        "30,000.5 is rounded up"
    );
    let sol = |input| cost("openai", "gpt-6.1-sol", input, 0);
    assert_eq!(sol(272_000), Some(544_000 + 10_000));
    assert_eq!(sol(272_001), Some(1_088_004 + 15_000));
}

#[test]
fn the_operators_prices_come_first() {
    let rate = |units| Rate::of(units).unwrap();
    let own = |model: &str, provider: Option<&str>, input| OwnPrice {
        model: Glob::new(model),
        provider: provider.map(str::to_owned),
        price: Price::flat(rate(input), rate(0.0), None, None),
    };
    let prices = Prices::new(vec![
        own("gpt-5-mini", Some("copilot"), 7.0),
        own("gpt-5*", None, 9.0),
        own("my-deployment", None, 11.0),
    ]);
    let cost = |asked: Priced<'_>| prices.cost(&asked, &prompt(), on("2026-11-22"));
    assert_eq!(cost(of("copilot", "copilot", "gpt-5-mini")), Some(700_000));
    assert_eq!(cost(of("openai", "openai", "gpt-5-mini")), Some(900_000));
    assert_eq!(cost(of("openai", "openai", "gpt-4.1")), Some(200_000));
    let tier = Priced {
        tier: Some("priority"),
        ..of("openai", "openai", "gpt-5")
    };
    assert_eq!(cost(tier), Some(900_000));
    let azure = Priced {
        answered: Some("gpt-4.1-2025-04-14"),
        ..of("azure", "openai-compatible", "my-deployment")
    };
    assert_eq!(cost(azure), Some(1_100_000));
    let routed = Priced {
        answered: Some("gpt-4.1-2025-04-14"),
        ..of("openai", "openai", "gpt-4o")
    };
    assert_eq!(
        cost(routed),
        Some(200_000),
        "the model that answered is the one to pay"
    );
}

proptest! {
    #[test]
    fn no_usage_overflows_and_more_tokens_never_cost_less(
        counts in prop::array::uniform4(prop_oneof![any::<u64>(), 0_u64..10_000_000]),
        hour in any::<u64>(),
        more in 0_u64..1_000,
    ) {
        let [input, output, cache_read, cache_write] = counts;
        let extra = BTreeMap::from([("cache_ephemeral_1h_input".to_owned(), hour)]);
        let usage = Usage { input, output, cache_read, cache_write, reasoning: 0, extra };
        let mut larger = usage.clone();
        larger.output = output.saturating_add(more);
        let prices = Prices::new(Vec::new());
        let cost = |usage| prices.cost(&of("a", "anthropic", "claude-sonnet-4-5"), usage, on("2026-11-22"));
        if let (Some(less), Some(much)) = (cost(&usage), cost(&larger)) {
            prop_assert!(0 <= less && less <= much);
        }
    }
}
