//! Tables of routes.

use super::*;
use crate::api::Api::{
    self, ChatCompletions, Compact, Completions, CountTokens, Embeddings, Messages, Responses,
};
use crate::instance::{BaseUrl, HostClaim, ProviderName, builtin};
use crate::kind::kind;

fn instance(name: &str, of_kind: &str, base_url: &str, hosts: &[&str]) -> Instance {
    Instance {
        name: ProviderName::parse(name).unwrap(),
        kind: kind(of_kind).unwrap(),
        base_url: BaseUrl::parse(base_url).unwrap(),
        hosts: hosts.iter().map(|host| HostClaim::parse(host).unwrap()).collect(),
    }
}

fn registry() -> Registry {
    let mut all = builtin();
    all.push(instance(
        "vllm",
        "openai-compatible",
        "http://llm.corp:8000/v1",
        &["llm.corp"],
    ));
    all.push(instance(
        "deep",
        "anthropic-compatible",
        "https://deep.corp/anthropic",
        &["deep.corp"],
    ));
    all.push(instance(
        "demo",
        "simulated",
        "http://demo.invalid",
        &["demo.invalid"],
    ));
    Registry::new(all).unwrap()
}

/// A registry in which the operator points claimed hosts elsewhere.
fn redirected() -> Registry {
    Registry::new(vec![
        instance(
            "openai",
            "openai",
            "http://127.0.0.1:9000/fake",
            &["api.openai.com"],
        ),
        instance(
            "chatgpt",
            "openai",
            "http://127.0.0.1:9001/codex",
            &["chatgpt.com"],
        ),
        instance(
            "anthropic",
            "anthropic",
            "https://relay.corp:8443",
            &["api.anthropic.com"],
        ),
    ])
    .unwrap()
}

const PASSED: Option<Option<Api>> = Some(None);
const fn api(api: Api) -> Option<Option<Api>> {
    Some(Some(api))
}

fn found(route: Option<&Route>) -> Option<Option<Api>> {
    route.map(|route| route.endpoint.api())
}

/// A host, a path, and what a POST there is.
const ASKED: &[(&str, &str, Option<Option<Api>>)] = &[
    ("api.openai.com", "/v1/chat/completions", api(ChatCompletions)),
    ("api.openai.com", "/v1/responses", api(Responses)),
    ("api.openai.com", "/v1/responses?x=1", api(Responses)),
    ("api.openai.com", "/v1/completions", api(Completions)),
    ("api.openai.com", "/responses", api(Responses)),
    ("api.openai.com", "/v1//responses/", api(Responses)),
    ("api.openai.com", "/v1/%72esponses", api(Responses)),
    ("api.openai.com", "/v1/x/../responses", api(Responses)),
    ("api.openai.com", "/v1/responses/compact", api(Compact)),
    ("api.openai.com", "/v1/responses/resp_1", PASSED),
    ("api.openai.com", "/v1/responses/input_tokens", api(CountTokens)),
    ("api.openai.com", "/v1/embeddings", api(Embeddings)),
    ("api.githubcopilot.com", "/embeddings", api(Embeddings)),
    ("api.anthropic.com", "/v1/chat/completions", api(ChatCompletions)),
    ("api.openai.com", "/v1/messages", PASSED),
    ("chatgpt.com", "/backend-api/codex/responses", api(Responses)),
    (
        "chatgpt.com",
        "/backend-api/codex/responses/compact",
        api(Compact),
    ),
    ("chatgpt.com", "/backend-api/wham/usage", PASSED),
    ("chatgpt.com", "/", PASSED),
    (
        "api.individual.githubcopilot.com",
        "/chat/completions",
        api(ChatCompletions),
    ),
    ("api.business.githubcopilot.com", "/responses", api(Responses)),
    ("api.enterprise.githubcopilot.com", "/v1/messages", api(Messages)),
    (
        "proxy.individual.githubcopilot.com",
        "/v1/engines/gpt-41-copilot/completions",
        api(Completions),
    ),
    (
        "proxy.individual.githubcopilot.com",
        "/v1/engines/a/b/completions",
        PASSED,
    ),
    ("api.githubcopilot.com", "/models", PASSED),
    ("api.anthropic.com", "/v1/messages?beta=true", api(Messages)),
    ("api.anthropic.com", "/v1/messages/count_tokens", api(CountTokens)),
    ("api.anthropic.com", "/v1/messages/batches", PASSED),
    ("api.anthropic.com", "/api/oauth/usage", PASSED),
    ("llm.corp", "/v1/chat/completions", api(ChatCompletions)),
    ("llm.corp", "/chat/completions", api(ChatCompletions)),
    ("llm.corp", "/v1/messages", api(Messages)),
    ("deep.corp", "/anthropic/v1/messages", api(Messages)),
    ("demo.invalid", "/v1/messages", api(Messages)),
    ("demo.invalid", "/responses", api(Responses)),
    ("openai.com", "/v1/responses", None),
];

#[test]
fn proxy_mode_recognises_bridged_paths() {
    let registry = registry();
    for (host, path, want) in ASKED {
        let route = registry.route_origin(&Method::POST, host, 443, path);
        assert_eq!(found(route.as_ref()), *want, "{host}{path}");
        if let Some(route) = route {
            assert_eq!(
                route.target.to_string(),
                format!("https://{host}{path}"),
                "the URL asked for"
            );
        }
    }
}

#[test]
fn only_post_is_bridged() {
    let registry = registry();
    for method in [
        Method::GET,
        Method::PUT,
        Method::OPTIONS,
        Method::HEAD,
        Method::DELETE,
    ] {
        let route = registry.route_origin(&method, "api.openai.com", 443, "/v1/responses");
        assert_eq!(found(route.as_ref()), PASSED, "{method}");
    }
}

#[test]
fn targets_follow_the_asked_host_and_port() {
    let cases = [
        (
            "LLM.corp.",
            8000,
            "/v1/responses",
            "http://llm.corp:8000/v1/responses",
        ),
        ("llm.corp", 80, "/v1/responses", "http://llm.corp/v1/responses"),
        (
            "llm.corp",
            8443,
            "/v1/responses",
            "https://llm.corp:8443/v1/responses",
        ),
        ("llm.corp", 443, "", "https://llm.corp/"),
        ("llm.corp", 443, "?a=b", "https://llm.corp/?a=b"),
        ("llm.corp", 443, "*", "https://llm.corp*"),
    ];
    let registry = registry();
    for (host, port, path, want) in cases {
        let route = registry.route_origin(&Method::POST, host, port, path).unwrap();
        assert_eq!(route.target.to_string(), want, "{host}:{port}{path}");
    }
}

#[test]
fn redirected_hosts_send_bridged_paths_to_the_base_url() {
    let cases = [
        (
            "api.openai.com",
            "/v1/responses?a=b",
            "http://127.0.0.1:9000/fake/responses?a=b",
        ),
        (
            "api.openai.com",
            "/fake/chat/completions",
            "http://127.0.0.1:9000/fake/chat/completions",
        ),
        ("api.openai.com", "/v1/models", "https://api.openai.com/v1/models"),
        (
            "chatgpt.com",
            "/backend-api/codex/responses",
            "http://127.0.0.1:9001/codex/responses",
        ),
        (
            "chatgpt.com",
            "/backend-api/codex/models",
            "https://chatgpt.com/backend-api/codex/models",
        ),
        (
            "api.anthropic.com",
            "/v1/messages?beta=true",
            "https://relay.corp:8443/v1/messages?beta=true",
        ),
        (
            "api.anthropic.com",
            "/v1/messages/count_tokens",
            "https://relay.corp:8443/v1/messages/count_tokens",
        ),
    ];
    let registry = redirected();
    for (host, path, want) in cases {
        let route = registry.route_origin(&Method::POST, host, 443, path).unwrap();
        assert_eq!(route.target.to_string(), want, "{host}{path}");
    }
}

const NAMED: &[(&str, &str, Option<Option<Api>>, &str)] = &[
    (
        "openai",
        "/v1/chat/completions",
        api(ChatCompletions),
        "https://api.openai.com/v1/chat/completions",
    ),
    (
        "openai",
        "/responses?a=b",
        api(Responses),
        "https://api.openai.com/v1/responses?a=b",
    ),
    (
        "openai",
        "/v1/completions",
        api(Completions),
        "https://api.openai.com/v1/completions",
    ),
    (
        "openai",
        "/v1/responses/r1/cancel",
        PASSED,
        "https://api.openai.com/v1/responses/r1/cancel",
    ),
    (
        "openai",
        "/v1/responses/compact",
        api(Compact),
        "https://api.openai.com/v1/responses/compact",
    ),
    (
        "openai",
        "/v1/conversations",
        PASSED,
        "https://api.openai.com/v1/conversations",
    ),
    (
        "chatgpt",
        "/v1/responses",
        api(Responses),
        "https://chatgpt.com/backend-api/codex/responses",
    ),
    (
        "copilot",
        "/chat/completions",
        api(ChatCompletions),
        "https://api.individual.githubcopilot.com/chat/completions",
    ),
    (
        "copilot",
        "/v1/messages",
        api(Messages),
        "https://api.individual.githubcopilot.com/v1/messages",
    ),
    (
        "copilot",
        "/v1/engines/m/completions",
        api(Completions),
        "https://api.individual.githubcopilot.com/v1/engines/m/completions",
    ),
    (
        "copilot",
        "/mcp/readonly",
        PASSED,
        "https://api.individual.githubcopilot.com/mcp/readonly",
    ),
    (
        "anthropic",
        "/v1/messages?beta=true",
        api(Messages),
        "https://api.anthropic.com/v1/messages?beta=true",
    ),
    (
        "anthropic",
        "/v1/messages/count_tokens",
        api(CountTokens),
        "https://api.anthropic.com/v1/messages/count_tokens",
    ),
    (
        "anthropic",
        "/api/event_logging/v2/batch",
        PASSED,
        "https://api.anthropic.com/api/event_logging/v2/batch",
    ),
    (
        "deep",
        "/v1/messages",
        api(Messages),
        "https://deep.corp/anthropic/v1/messages",
    ),
    (
        "vllm",
        "/chat/completions",
        api(ChatCompletions),
        "http://llm.corp:8000/v1/chat/completions",
    ),
    (
        "demo",
        "/v1/messages",
        api(Messages),
        "http://demo.invalid/messages",
    ),
    (
        "demo",
        "/v1/engines/m/completions",
        api(Completions),
        "http://demo.invalid/engines/m/completions",
    ),
];

#[test]
fn base_url_mode_joins_the_base_url() {
    let registry = registry();
    for (name, path, want, url) in NAMED {
        let route = registry.route_named(&Method::POST, name, path);
        assert_eq!(found(route.as_ref().ok()), *want, "{name}{path}");
        assert_eq!(route.unwrap().target.to_string(), *url, "{name}{path}");
    }
    let models = registry
        .route_named(&Method::GET, "openai", "/v1/models/org%2Fname")
        .unwrap();
    assert_eq!(
        models.target.to_string(),
        "https://api.openai.com/v1/models/org%2Fname"
    );
    assert!(
        registry.route_named(&Method::HEAD, "anthropic", "").is_ok(),
        "Claude Code's probe"
    );
}

#[test]
fn base_url_mode_refuses_the_rest() {
    let registry = registry();
    let unknown = |name, path| {
        let index = registry.named(name).unwrap();
        let got = registry.route_named(&Method::POST, name, path);
        assert_eq!(got, Err(NamedRouteError::UnknownRoute { index }), "{name}{path}");
    };
    for path in [
        "",
        "/",
        "/v1",
        "/v1/files",
        "/organization/admin_api_keys",
        "/v1/v1/responses",
        "/responses/",
        "//responses",
        "/responses/../organization/keys",
        "/responses/%2e%2e/organization/keys",
        "/responsesx",
        "/conversations//x",
        "/models/gpt-5",
        "/v1/messages",
        "responses",
        "*",
        "/Responses",
        "/v1beta/responses",
    ] {
        unknown("openai", path);
    }
    for path in [
        "/messages",
        "/v1/complete",
        "/v1/messages/batches",
        "/v1/messages/",
        "/v1/organizations/users",
    ] {
        unknown("anthropic", path);
    }
    for path in [
        "/v1/engines//completions",
        "/v1/engines/a/b/completions",
        "/modelsx",
    ] {
        unknown("copilot", path);
    }
    assert_eq!(
        registry.route_named(&Method::POST, "nobody", "/x"),
        Err(NamedRouteError::UnknownProvider)
    );
    assert!(
        registry
            .route_named(&Method::DELETE, "openai", "/v1/models/ft-1")
            .is_err(),
        "keys may have admin rights"
    );
}
