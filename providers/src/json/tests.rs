//! The scanner against serde_json, and against hostile bytes.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn parse(text: &str) -> Option<Json<'_>> {
    Json::parse(text.as_bytes())
}

#[test]
fn members_are_found_by_their_decoded_names() {
    let json =
        parse(r#" {"a" : 1, "\u0062":"x\"}" , "deep":[{"a":2}], "a": {"b":[3]} , "n":null} "#).unwrap();
    let [a, b, deep, missing, n] = json.members(["a", "b", "deep", "missing", "n"]);
    assert_eq!(a.unwrap().raw(), r#"{"b":[3]}"#, "the last of equal names");
    assert_eq!(b.unwrap().text().unwrap(), "x\"}");
    assert_eq!(deep.unwrap().raw(), r#"[{"a":2}]"#);
    assert_eq!(missing, None);
    assert!(n.unwrap().is_null());
}

#[test]
fn breaks_are_noticed() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "\"",
        "\"\\",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "[1",
        "nope",
        "{\"a\" 1}",
        "1 2",
        "{} x",
        "}",
        "-x",
        "[1}",
    ] {
        let ok = parse(text).is_some_and(|json| {
            let mut cursor = Cursor::new(json.bytes());
            cursor.object(|_, _| {});
            let mut elements = Cursor::new(json.bytes());
            elements.array(|_| {});
            !cursor.is_broken() && !elements.is_broken()
        });
        assert!(!ok, "{text:?}");
    }
}

#[test]
fn numbers_are_counts() {
    let cases = [
        ("12", Some(12)),
        ("12.7", Some(12)),
        ("1e3", Some(1000)),
        ("-1", None),
        ("null", None),
        ("1e99", Some(u64::MAX)),
        ("\"1\"", None),
    ];
    for (text, want) in cases {
        assert_eq!(parse(text).unwrap().number(), want, "{text}");
    }
}

#[test]
fn depth_costs_nothing() {
    let deep = [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat();
    assert!(Json::parse(&deep).is_some());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[ab\"\\\\é]{0,3}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Reads a value back with nothing but the scanner.
fn rebuild(json: Json<'_>) -> Value {
    let mut cursor = Cursor::new(json.bytes());
    match cursor.peek() {
        Some(b'{') => {
            let mut map = serde_json::Map::new();
            assert!(cursor.object(|cursor, key| {
                let key = String::from_utf8(key.to_vec()).unwrap();
                map.insert(key, rebuild(cursor.value().unwrap()));
            }));
            assert!(!cursor.is_broken());
            Value::Object(map)
        }
        Some(b'[') => {
            let mut list = Vec::new();
            assert!(json.each(|element| list.push(rebuild(element))));
            Value::Array(list)
        }
        Some(b'"') => Value::from(json.text().unwrap().into_owned()),
        Some(b't' | b'f') => Value::from(json.boolean().unwrap()),
        Some(b'n') => Value::Null,
        _ => Value::from(json.number().unwrap()),
    }
}

proptest! {
    #[test]
    fn agrees_with_serde_json(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(rebuild(parse(&text).unwrap()), value);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), max in 0_usize..20) {
        let mut cursor = Cursor::new(&bytes);
        cursor.object(|cursor, _| {
            cursor.array(|cursor| {
                let _ = cursor.value().map(|json| (json.text_within(max), json.number(), json.raw().len()));
            });
        });
    }

    #[test]
    fn json_like_bytes_are_survived(text in r#"[\[\]{}:,"\\ua1n ]{0,60}"#, max in 0_usize..20) {
        let mut cursor = Cursor::new(text.as_bytes());
        cursor.object(|cursor, _| {
            let _ = cursor.value().map(|json| json.text_within(max));
        });
        let _ = parse(&text).map(|json| json.members(["a", "n"]));
    }
}
