//! Tables of bodies, and hostile ones.

use super::*;
use Api::{ChatCompletions, Completions, Messages, Responses};
use proptest::prelude::*;

fn read(api: Api, body: &str) -> Inspection {
    inspect(api, "/v1/x", body.as_bytes(), &Limits::default())
}

fn prompt(api: Api, body: &str) -> Option<String> {
    let found = read(api, body);
    assert_eq!(found.problem, None, "{body}");
    found.prompt
}

fn results(found: &Inspection) -> Vec<(&str, Option<bool>)> {
    found
        .tool_results
        .iter()
        .map(|result| (result.call_id.as_str(), result.is_error))
        .collect()
}

#[test]
fn scalars_are_read() {
    let cases: &[(&str, Option<&str>, bool)] = &[
        (r#"{"model":"gpt-5.5","stream":true}"#, Some("gpt-5.5"), true),
        (r#"{"stream":"true","model":7}"#, None, false),
        (r#"{"stream":1}"#, None, false),
        (
            r#"{"model":"a","model":"b","stream":true,"stream":false}"#,
            Some("b"),
            false,
        ),
        (r#"{"m\u006fdel":"a","\ud800":0}"#, Some("a"), false),
        (r#"{"x":{"model":"inner"},"y":[{"stream":true}]}"#, None, false),
    ];
    for api in Api::ALL {
        for (body, model, stream) in cases {
            let found = read(api, body);
            assert_eq!(
                (found.model.as_deref(), found.stream),
                (*model, *stream),
                "{api} {body}"
            );
        }
    }
    let long = format!(r#"{{"model":"{}"}}"#, "é".repeat(200));
    assert_eq!(read(Messages, &long).model.unwrap().len(), 256);
}

#[test]
fn chat_prompts() {
    let cases: &[(&str, Option<&str>)] = &[
        (r#"[{"role":"user","content":" hi "}]"#, Some("hi")),
        (r#"[{"role":"user","content":"  "}]"#, None),
        (r#"[{"role":"user","content":[]}]"#, None),
        (
            r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"image_url","image_url":{"url":"data:"}}]}]"#,
            Some("b"),
        ),
        (r#"[{"role":"user","content":[{"type":"image_url"}]}]"#, None),
        (r#"[{"role":"user","content":7}]"#, None),
        (
            r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#,
            None,
        ),
        (
            r#"[{"role":"user","content":"q"},{"role":"system","content":"s"}]"#,
            Some("q"),
        ),
        (
            r#"[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[]},{"role":"tool","tool_call_id":"c1","content":"r"}]"#,
            None,
        ),
        (r#"[7,"x",null]"#, None),
        (r#"{"role":"user"}"#, None),
        (r#"[]"#, None),
    ];
    for (messages, want) in cases {
        let body = format!(r#"{{"messages":{messages},"model":"m"}}"#);
        assert_eq!(prompt(ChatCompletions, &body).as_deref(), *want, "{messages}");
    }
}

#[test]
fn chat_tool_results() {
    let found = read(
        ChatCompletions,
        r#"{"messages":[{"role":"tool","tool_call_id":"old"},{"role":"assistant"},{"role":"tool","tool_call_id":"c1"},
            {"role":"tool","tool_call_id":"c2"},{"role":"tool"},{"role":"user","content":"stop"}]}"#,
    );
    assert_eq!(results(&found), [("c1", None), ("c2", None)]);
    assert_eq!(found.prompt.as_deref(), Some("stop"));
    let answered =
        r#"{"messages":[{"role":"tool","tool_call_id":"old"},{"role":"assistant","content":"done"}]}"#;
    assert_eq!(results(&read(ChatCompletions, answered)), []);
}

#[test]
fn responses_prompts() {
    let cases: &[(&str, Option<&str>)] = &[
        (r#""hello ""#, Some("hello")),
        (r#""""#, None),
        ("7", None),
        ("null", None),
        (r#"[{"role":"user","content":"q"}]"#, Some("q")),
        (
            r#"[{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image"},{"type":"input_text","text":"b"}]}]"#,
            Some("a\nb"),
        ),
        (
            r#"[{"type":"message","role":"user","content":[{"type":"input_text","text":7}]}]"#,
            None,
        ),
        (r#"[{"role":"user","content":[{"type":"input_image"}]}]"#, None),
        (
            r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#,
            None,
        ),
        (
            r#"[{"type":"message","role":"user","content":"q"},{"type":"additional_tools","tools":[]},{"type":"message","role":"developer","content":"d"}]"#,
            Some("q"),
        ),
        (
            r#"[{"role":"user","content":"q"},{"type":"function_call","call_id":"c"},{"type":"function_call_output","call_id":"c","output":"r"}]"#,
            None,
        ),
        (r#"[{"role":"user","content":"q"},{"type":"reasoning"}]"#, None),
    ];
    for (input, want) in cases {
        let body = format!(r#"{{"input":{input},"prompt_cache_key":"no session"}}"#);
        assert_eq!(prompt(Responses, &body).as_deref(), *want, "{input}");
    }
    assert_eq!(prompt(Responses, r#"{"model":"m"}"#), None);
}

#[test]
fn responses_tool_results_and_warm_up() {
    let found = read(
        Responses,
        r#"{"type":"response.create","generate":false,"input":[{"type":"function_call_output","call_id":"c0"},{"type":"reasoning"},
            {"type":"function_call_output","call_id":"c1","output":"r"},{"type":"custom_tool_call_output","call_id":"c2"},
            {"type":"function_call_output","call_id":""},{"type":"local_shell_call_output","id":"c3"},{"type":"tool_search_output","call_id":"c4"},
            {"type":"mcp_approval_response","approve":true}]}"#,
    );
    assert_eq!(
        results(&found),
        [("c1", None), ("c2", None), ("c3", None), ("c4", None)]
    );
    assert!(found.warm_up && found.session_id.is_none());
}

#[test]
fn steering_a_response_is_a_prompt() {
    let body = r#"{"type":"response.steer","previous_response_id":"r","input":[{"type":"message","role":"user","content":"Stop that."}]}"#;
    assert_eq!(prompt(Responses, body).as_deref(), Some("Stop that."));
}

#[test]
fn messages_prompts() {
    let cases: &[(&str, Option<&str>)] = &[
        (r#""q""#, Some("q")),
        (
            r#"[{"type":"image"},{"type":"text","text":"first"},{"type":"text","text":"last"}]"#,
            Some("last"),
        ),
        (
            r#"[{"type":"text","text":"<system-reminder>x</system-reminder>"},{"type":"text","text":"q"}]"#,
            Some("q"),
        ),
        (
            r#"[{"type":"text","text":"q"},{"type":"text","text":"<system-reminder>x</system-reminder>"}]"#,
            Some("q"),
        ),
        (
            r#"[{"type":"text","text":"<system-reminder>x"}]"#,
            Some("<system-reminder>x"),
        ),
        (
            r#"[{"type":"text","text":"q"},{"type":"tool_result","tool_use_id":"t"}]"#,
            None,
        ),
        (
            r#"[{"type":"tool_result","tool_use_id":"t"},{"type":"text","text":"go on"}]"#,
            Some("go on"),
        ),
        (
            r#"[{"type":"tool_result","tool_use_id":"t"},{"type":"text","text":"<system-reminder>x</system-reminder>"}]"#,
            None,
        ),
        (r#"[{"type":"text","text":7}]"#, None),
        ("{}", None),
    ];
    for (content, want) in cases {
        let body = format!(
            r#"{{"messages":[{{"role":"assistant","content":"a"}},{{"role":"user","content":{content}}}]}}"#
        );
        assert_eq!(prompt(Messages, &body).as_deref(), *want, "{content}");
    }
    assert_eq!(
        prompt(
            Messages,
            r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"{"}]}"#
        ),
        None
    );
    assert_eq!(
        prompt(Messages, r#"{"messages":"test"}"#).as_deref(),
        Some("test")
    );
}

#[test]
fn messages_tool_results() {
    let found = read(
        Messages,
        r#"{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"old"}]},{"role":"assistant","content":[]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true},{"type":"tool_result","tool_use_id":"t2","is_error":false}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t3"},{"type":"tool_result"}]}]}"#,
    );
    assert_eq!(
        results(&found),
        [("t1", Some(true)), ("t2", Some(false)), ("t3", None)]
    );
    for none in [
        r#"[{"role":"user","content":[{"type":"text","text":"q"}]}]"#,
        r#""test""#,
        "{}",
    ] {
        assert_eq!(
            results(&read(Messages, &format!(r#"{{"messages":{none}}}"#))),
            [],
            "{none}"
        );
    }
}

#[test]
fn sessions_in_claude_codes_metadata() {
    let cases = [
        (r#""user_a_account_b_session_1f2e""#, Some("1f2e")),
        (r#""user_session_a_session_b""#, Some("a_session_b")),
        (r#""{\"device_id\":\"d\",\"session_id\":\"s-1\"}""#, Some("s-1")),
        (r#""{\"session_id\":\"\"}""#, None),
        (r#""{\"session_id\":\" x_session_y\"}""#, Some("x_session_y")),
        (r#""user_session_""#, None),
        (r#""someone""#, None),
        ("7", None),
    ];
    for (user_id, want) in cases {
        let body = format!(r#"{{"metadata":{{"user_id":{user_id}}}}}"#);
        assert_eq!(read(Messages, &body).session_id.as_deref(), want, "{user_id}");
        assert_eq!(read(ChatCompletions, &body).session_id, None);
    }
}

#[test]
fn completions_name_the_model_in_the_path() {
    let body = br#"{"prompt":"fn main() {","model":"ignored","stream":true,"extra":{"language":"rust"}}"#;
    let found = inspect(
        Completions,
        "/v1/engines/gpt-41%2Dcopilot/completions?x=1",
        body,
        &Limits::default(),
    );
    assert_eq!(
        (found.model.as_deref(), found.prompt.as_deref(), found.stream),
        (Some("gpt-41-copilot"), Some("fn main() {"), true)
    );
    let found = inspect(
        Completions,
        "/v1/completions",
        br#"{"prompt":["a","b"],"model":"m"}"#,
        &Limits::default(),
    );
    assert_eq!(
        (found.model.as_deref(), found.prompt.as_deref()),
        (Some("m"), Some("b"))
    );
}

/// A body, and the problem, model and prompt found in it.
type Broken = (
    &'static [u8],
    Option<InspectProblem>,
    Option<&'static str>,
    Option<&'static str>,
);

const BROKEN: &[Broken] = &[
    (b"", Some(InspectProblem::Empty), None, None),
    (b"  \n\t ", Some(InspectProblem::Empty), None, None),
    (b"\xef\xbb\xbf{\"model\":\"m\"}", None, Some("m"), None),
    (b"[]", Some(InspectProblem::NotAnObject), None, None),
    (b"7", Some(InspectProblem::NotAnObject), None, None),
    (b"{\"model\":", Some(InspectProblem::NotJson), None, None),
    (b"model=m", Some(InspectProblem::NotJson), None, None),
    (
        b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}",
        Some(InspectProblem::NotJson),
        Some("m"),
        Some("q"),
    ),
    (
        b"{\"model\":\"m\"}{",
        Some(InspectProblem::NotJson),
        Some("m"),
        None,
    ),
    (
        b"{\"model\":\"\xff\",\"messages\":[{\"role\":\"user\",\"content\":\"a\xffb\"}]}",
        Some(InspectProblem::NotUtf8),
        Some("\u{fffd}"),
        Some("a\u{fffd}b"),
    ),
];

#[test]
fn broken_bodies_say_what_they_can() {
    for (body, problem, model, prompt) in BROKEN {
        let found = inspect(ChatCompletions, "/", body, &Limits::default());
        let got = (found.problem, found.model.as_deref(), found.prompt.as_deref());
        assert_eq!(
            got,
            (*problem, *model, *prompt),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn limits_hold() {
    let limits = Limits { text: 5, items: 2 };
    let body = r#"{"messages":[{"role":"tool","tool_call_id":"a"},{"role":"tool","tool_call_id":"b"},{"role":"tool","tool_call_id":"c"}]}"#;
    let found = inspect(ChatCompletions, "/", body.as_bytes(), &limits);
    assert_eq!(results(&found), [("b", None), ("c", None)]);
    let found = inspect(
        Messages,
        "/",
        r#"{"messages":[{"role":"user","content":"aé€x"}]}"#.as_bytes(),
        &limits,
    );
    assert_eq!(
        (found.prompt.as_deref(), found.prompt_truncated),
        (Some("aé"), true)
    );
    let found = inspect(Responses, "/", br#"{"input":[{"role":"user","content":[{"type":"input_text","text":"abc"},{"type":"input_text","text":"def"}]}]}"#, &limits);
    assert_eq!(
        (found.prompt.as_deref(), found.prompt_truncated),
        (Some("abc\nd"), true)
    );
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for api in Api::ALL {
            let _ = inspect(api, "/v1/engines/%/completions", &bytes, &Limits { text: 3, items: 2 });
        }
    }

    #[test]
    fn cut_bodies_are_survived(cut in 0_usize..400) {
        let body = r#"{"model":"m","metadata":{"user_id":"{\"session_id\":\"s\"}"},"messages":[{"role":"user","content":[{"type":"text","text":"\ud83d\ude00"},
            {"type":"tool_result","tool_use_id":"t","is_error":true}]}],"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"a"}]}],"prompt":["x"]}"#;
        let cut = cut.min(body.len());
        for api in Api::ALL {
            let found = inspect(api, "/", &body.as_bytes()[..cut], &Limits::default());
            prop_assert_eq!(found.problem.is_none(), cut == body.len());
        }
    }
}
