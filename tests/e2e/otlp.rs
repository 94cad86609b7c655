//! What an OpenTelemetry collector takes: a request with logs in the JSON encoding of OTLP, read as strictly as the
//! protocol's definition says.
//!
//! Names that the definition has not, values of another type, whole numbers that are no texts and attributes that
//! come twice are refused.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) resource_logs: Vec<ResourceLogs>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ResourceLogs {
    pub(crate) resource: Resource,
    pub(crate) scope_logs: Vec<ScopeLogs>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    pub(crate) attributes: Attributes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScopeLogs {
    pub(crate) scope: Scope,
    pub(crate) log_records: Vec<LogRecord>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    pub(crate) name: String,
    pub(crate) version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogRecord {
    #[serde(deserialize_with = "whole")]
    pub(crate) time_unix_nano: u64,
    #[serde(deserialize_with = "whole")]
    pub(crate) observed_time_unix_nano: u64,
    pub(crate) severity_number: u8,
    pub(crate) severity_text: String,
    pub(crate) event_name: String,
    pub(crate) body: AnyValue,
    pub(crate) attributes: Attributes,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) enum AnyValue {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "boolValue")]
    Truth(bool),
    #[serde(rename = "intValue", deserialize_with = "whole")]
    Whole(i64),
    #[serde(rename = "doubleValue")]
    Real(f64),
    #[serde(rename = "arrayValue")]
    Array(Array),
    #[serde(rename = "kvlistValue")]
    List(List),
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Array {
    pub(crate) values: Vec<AnyValue>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    pub(crate) values: Attributes,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct KeyValue {
    key: String,
    value: AnyValue,
}

/// Values by names, each of which is there once.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Vec<KeyValue>")]
pub(crate) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(crate) fn find(&self, key: &str) -> Option<&AnyValue> {
        let mut found = self.0.iter().filter(|pair| pair.key == key);
        found.next().map(|pair| &pair.value)
    }
}

impl TryFrom<Vec<KeyValue>> for Attributes {
    type Error = String;

    fn try_from(pairs: Vec<KeyValue>) -> Result<Attributes, String> {
        let mut seen = HashSet::new();
        match pairs
            .iter()
            .find(|pair| pair.key.is_empty() || !seen.insert(&pair.key))
        {
            Some(pair) => Err(format!("`{}` is empty or there twice", pair.key)),
            None => Ok(Attributes(pairs)),
        }
    }
}

/// A whole number of 64 bits, which is a text in JSON.
fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[test]
fn what_is_not_in_the_protocol_is_refused() {
    let value = serde_json::from_str::<AnyValue>;
    assert_eq!(value(r#"{"intValue":"-7"}"#).unwrap(), AnyValue::Whole(-7));
    for wrong in [
        r#"{"intValue":7}"#,
        r#"{"intValue":"7.5"}"#,
        r#"{"stringValue":7}"#,
        r#"{"string_value":"x"}"#,
        r#"{"stringValue":"x","boolValue":true}"#,
        r#"{"arrayValue":["x"]}"#,
        r#"{"kvlistValue":{"values":[{"key":"a","value":{"boolValue":true}},{"key":"a","value":{"boolValue":true}}]}}"#,
    ] {
        assert!(value(wrong).is_err(), "{wrong}");
    }
}
