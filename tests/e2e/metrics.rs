//! The metrics that are promised are there, and the alerts and the dashboard ask for no others.

use crate::cases;
use crate::client::{Ask, Http};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

/// Every promised name that is there after one AI call, one passed request, one refused CONNECT and one tunnel.
const PROMISED: [&str; 38] = [
    "causeway_interceptions_total",
    "causeway_interceptions_inflight",
    "causeway_request_duration_seconds",
    "causeway_overhead_seconds",
    "causeway_time_to_first_token_seconds",
    "causeway_tokens_total",
    "causeway_cost_micros_total",
    "causeway_prompts_total",
    "causeway_tool_calls_total",
    "causeway_passthrough_total",
    "causeway_upstream_responses_total",
    "causeway_upstream_errors_total",
    "causeway_circuit_breaker_state",
    "causeway_circuit_breaker_trips_total",
    "causeway_circuit_breaker_rejects_total",
    "causeway_key_state",
    "causeway_unpriced_total",
    "causeway_refusals_total",
    "causeway_connects_total",
    "causeway_tunnels_open",
    "causeway_tunnel_bytes_total",
    "causeway_tls_handshakes_total",
    "causeway_leaf_cache_total",
    "causeway_records_queued",
    "causeway_records_written_total",
    "causeway_records_spooled_total",
    "causeway_records_in_spool",
    "causeway_records_lost_total",
    "causeway_records_unindexed",
    "causeway_config_last_reload_success_timestamp_seconds",
    "causeway_config_last_reload_successful",
    "causeway_config_reload_failures_total",
    "causeway_budget_warnings_total",
    "causeway_event_loop_lag_seconds",
    "causeway_provider_info",
    "gen_ai_client_token_usage",
    "gen_ai_server_time_to_first_token",
    "gen_ai_client_operation_duration",
];

/// The metrics after something of each kind has happened.
async fn busy() -> String {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let settings = Settings::in_front_of(&fake)
        .provider("keys = [{ literal = \"sk-own\" }]")
        .more("[[price]]\nmodel = \"*\"\ninput = 1\noutput = 1");
    let gateway = Gateway::start(settings).await;
    let case = cases::CHAT_STREAM;
    let mut session = gateway.client().open(case.host, Http::V2).await;
    let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    let answer = session.send(ask).await;
    let id = answer.request_id();
    answer.bytes().await;
    gateway.record(&id).await;
    session.send(Ask::get("/v1/models")).await.bytes().await;
    let (head, _) = gateway.client_of("cw_wrong").connect("api.openai.com:443").await;
    assert_eq!(head.status, 407);
    drop(fake);
    let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    let answer = gateway
        .client()
        .open(cases::MESSAGES.host, Http::V1)
        .await
        .send(ask)
        .await;
    assert!(answer.status >= 400);
    gateway.metrics().await
}

fn has(text: &str, name: &str) -> bool {
    ["", "_bucket", "_sum", "_count"].iter().any(|suffix| {
        let name = format!("{name}{suffix}");
        text.lines()
            .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promised_metric_is_there() {
    let text = busy().await;
    let missing: Vec<_> = PROMISED.iter().filter(|name| !has(&text, name)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in\n{text}");
    let started = text
        .lines()
        .find_map(|line| line.strip_prefix("causeway_config_last_reload_success_timestamp_seconds "));
    let started: f64 = started.unwrap().parse().unwrap();
    assert!(started > 1.7e9);
}

#[test]
fn alerts_and_dashboard_ask_for_promised_metrics_only() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    // Published once something has happened that this file's other test does not do.
    let elsewhere = [
        "causeway_websockets_open",
        "causeway_ca_expiry_seconds",
        "causeway_sink_lag",
        "causeway_sink_delivered_total",
    ];
    for file in ["prometheus/causeway.rules.yml", "grafana/causeway.json"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<_> = words
            .filter(|word| word.starts_with("causeway_") || word.starts_with("gen_ai_"))
            .collect();
        assert!(names.len() > 10, "{file} asks for metrics");
        for name in names {
            let plain = name.trim_end_matches("_bucket");
            assert!(
                PROMISED.contains(&plain) || elsewhere.contains(&plain),
                "{file}: {name}"
            );
        }
    }
    let dashboard = std::fs::read(folder.join("grafana/causeway.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
}
