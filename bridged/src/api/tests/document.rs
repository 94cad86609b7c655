//! The document says what the API does: every route is in it, every answer fits it, every field of it is answered.

use std::collections::BTreeSet;
use std::path::Path;

use providers::Api;
use serde_json::Map;

use super::*;
use crate::api::openapi::Document;
use crate::api::route::Route;
use crate::reload::{NotReloaded, Reloaded};
use crate::troubles::Sign;

#[test]
fn the_document_that_is_kept_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let document = Document::of(&routes());
    if std::env::var_os("CAUSEWAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, document.text()).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    assert!(
        kept == document.text(),
        "docs/openapi.json is stale: run CAUSEWAY_WRITE_DOCS=1 cargo test -p bridged the_document_that_is_kept"
    );
}

/// Holds answers against the document.
struct Reader {
    document: Value,
    /// The fields that were answered with something.
    seen: BTreeSet<String>,
}

impl Reader {
    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix("#/components/schemas/").unwrap();
            let schema = self.document["components"]["schemas"][name].clone();
            assert!(schema.is_object(), "{at}: there is no schema {name}");
            return self.check(&schema, value, name);
        }
        if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            let is_null = |choice: &&Value| choice["type"] == "null";
            let choice = choices.iter().find(|choice| is_null(choice) == value.is_null());
            let choice = choice.unwrap_or_else(|| panic!("{at}: {value} is none of {choices:?}"));
            return self.check(choice, value, at);
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => vec!["object"],
        };
        let is_a = |kind: &&str| match *kind {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            _ => value.is_object(),
        };
        assert!(types.iter().any(is_a), "{at}: {value} is not {types:?}");
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value}");
        }
        for value in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], value, at);
        }
        if let Some(object) = value.as_object() {
            self.check_object(schema, object, at);
        }
    }

    fn check_object(&mut self, schema: &Value, object: &Map<String, Value>, at: &str) {
        let (mut properties, mut required) = (BTreeMap::new(), BTreeSet::new());
        self.gather(schema, at, &mut properties, &mut required);
        if properties.is_empty() {
            return;
        }
        for name in required {
            assert!(object.contains_key(&name), "{at}.{name} is missing");
        }
        for (name, value) in object {
            let known = properties.get(name);
            let (owner, schema) = known.unwrap_or_else(|| panic!("{at}.{name} is not in the document"));
            if !value.is_null() {
                self.seen.insert(format!("{owner}.{name}"));
            }
            self.check(schema, value, &format!("{owner}.{name}"));
        }
    }

    /// The properties of an object, with the schema that each stands in.
    fn gather(
        &self,
        schema: &Value,
        at: &str,
        properties: &mut BTreeMap<String, (String, Value)>,
        required: &mut BTreeSet<String>,
    ) {
        for part in schema["allOf"].as_array().into_iter().flatten() {
            match part["$ref"].as_str() {
                Some(name) => {
                    let name = name.rsplit('/').next().unwrap();
                    let schema = &self.document["components"]["schemas"][name];
                    self.gather(schema, name, properties, required);
                }
                None => self.gather(part, at, properties, required),
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            properties.insert(name.clone(), (at.to_owned(), schema.clone()));
        }
        let names = schema["required"].as_array().into_iter().flatten();
        required.extend(names.filter_map(|name| name.as_str().map(str::to_owned)));
    }

    /// Every field of every schema.
    fn fields(&self) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        for (name, schema) in self.document["components"]["schemas"].as_object().unwrap() {
            let (mut properties, mut required) = (BTreeMap::new(), BTreeSet::new());
            self.gather(schema, name, &mut properties, &mut required);
            fields.extend(
                properties
                    .into_iter()
                    .map(|(field, (owner, _))| format!("{owner}.{field}")),
            );
        }
        fields
    }

    /// Holds an answer against what the document says of its operation.
    fn check_answer(&mut self, operation: &Value, answer: &Answer, name: &str) {
        let responses = &operation["responses"];
        let response = match &responses[answer.status.as_str()] {
            Value::Null => &responses["default"],
            found => found,
        };
        let content = response["content"].as_object().cloned().unwrap_or_default();
        if answer.body.is_empty() {
            assert!(content.is_empty(), "{name}: {} has a body", answer.status);
            return;
        }
        let kind = answer.header("content-type").split(';').next().unwrap();
        let media = content
            .get(kind)
            .unwrap_or_else(|| panic!("{name}: {kind} is not in the document"));
        if kind == "application/json" || kind.ends_with("+json") {
            self.check(&media["schema"], &answer.json(), name);
        }
    }
}

static SIGN: Sign = Sign {
    reason: "tls_unknown_ca",
    story: "does not trust the CA",
    cure: "trust it",
    fleeting: false,
};

/// A world in which every field of every answer has something to say.
async fn full() -> World {
    let later = |number| Call {
        number,
        at: "2026-11-23T10:00:00Z",
        outcome: Some(Outcome::Failed),
        ..CALL
    };
    let world = World::with(everyones().into_iter().chain([later(300)]).collect()).await;
    let app = &world.app;
    let peer = std::net::IpAddr::from([127, 0, 0, 1]);
    app.troubles
        .note(app.clock.micros(), peer, "api.openai.com", &SIGN);
    let providers = app.providers();
    let upstream = providers
        .upstreams()
        .find(|upstream| &*upstream.name == "openai")
        .unwrap();
    let watch = upstream
        .health
        .admit_call(Api::Responses, Some("gpt-5.5"))
        .unwrap();
    watch.failed("status", Some(503), None);
    let mut wishes = app.reloads.take().unwrap();
    app.tracker.spawn(async move {
        let mut outcomes = [
            Ok(Reloaded {
                needs_restart: vec!["bridge.listen".to_owned()],
            }),
            Err(NotReloaded(vec!["limit: 0 is too few".to_owned()])),
        ]
        .into_iter();
        while let (Some(wish), Some(outcome)) = (wishes.recv().await, outcomes.next()) {
            let _ = wish.send(outcome);
        }
    });
    world
}

/// Asks a route in many ways, as everyone.
async fn check_route(reader: &mut Reader, world: &World, route: &Route) {
    let name = format!("{} {}", route.method, route.path);
    let method = route.method.as_str().to_ascii_lowercase();
    let operation = reader.document["paths"][route.path][&method].clone();
    assert!(operation.is_object(), "{name} is not in the document");
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let named: Vec<&str> = parameters
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let taken: Vec<&str> = route.takes.iter().map(|taken| taken.name).collect();
    assert_eq!(named, taken, "{name}");
    let body = (name == "POST /api/v1/tokens")
        .then_some(r#"{"user": "carol", "role": "member", "expires_at": "2026-12-01T00:00:00Z"}"#);
    let (interception, token) = (anns()[0].id().to_string(), world.tokens["bob"].0.to_string());
    let ids = [&*interception, "s-ann", &token, "nobodys"];
    let addresses = ids.map(|id| route.path.replace("{id}", id));
    let by_all = "?group=user&group=client&group=provider&group=model";
    for address in addresses.iter().collect::<BTreeSet<_>>() {
        for query in ["", by_all, "?format=csv", "?format=json", "?limit=1", "?odd="] {
            for who in ["nobody", "ann", "adam"] {
                let answer = world
                    .ask(route.method.clone(), &format!("{address}{query}"), who, body)
                    .await;
                reader.check_answer(&operation, &answer, &name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_fits_the_document_and_every_field_is_answered() {
    let world = full().await;
    let document = world.get("/api/v1/openapi.json", "nobody").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut reader = Reader {
        document: document.clone(),
        seen: BTreeSet::new(),
    };
    for route in routes() {
        check_route(&mut reader, &world, &route).await;
    }
    let paths = &document["paths"];
    let items = paths.as_object().unwrap().values();
    let operations: usize = items.map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(operations, routes().len(), "the document has what is no route");
    // When a token was used last; a configuration that cannot run.
    world.app.tokens.save_uses().await;
    let answer = world.get("/api/v1/tokens", "adam").await;
    reader.check_answer(&paths["/api/v1/tokens"]["get"], &answer, "tokens");
    let answer = world.ask(Method::POST, "/api/v1/reload", "adam", None).await;
    reader.check_answer(&paths["/api/v1/reload"]["post"], &answer, "reload");
    let silent: Vec<String> = reader
        .fields()
        .difference(&reader.seen)
        .filter(|field| !field.starts_with("Wanted."))
        .cloned()
        .collect();
    assert!(silent.is_empty(), "never answered: {silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_as_the_document_has_it() {
    let world = World::with(Vec::new()).await;
    let document = world.get("/api/v1/openapi.json", "nobody").await.json();
    let wanted = &document["components"]["schemas"]["Wanted"];
    let fields: Vec<&String> = wanted["properties"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["expires_at", "role", "user"]);
    assert_eq!(wanted["required"], serde_json::json!(["user"]));
    let roles = &document["components"]["schemas"]["Role"]["enum"];
    for role in roles.as_array().unwrap() {
        let body = serde_json::json!({"user": "dave", "role": role, "expires_at": null}).to_string();
        let made = world
            .ask(Method::POST, "/api/v1/tokens", "adam", Some(&body))
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
    }
}
