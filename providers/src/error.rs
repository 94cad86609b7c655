//! Error bodies in the shape that each API's clients can read.
//!
//! `type` follows the status as the real APIs set it; `code` and the message are the gateway's own.

use serde::Serialize;

use crate::api::{Api, Endpoint};

/// A family of error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error":{"message","type","param","code"}}`.
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`.
    Anthropic,
}

impl ErrorShape {
    /// The shape that an API's own clients expect, whoever serves it.
    pub(crate) const fn of(endpoint: Endpoint) -> ErrorShape {
        match endpoint {
            Endpoint::Bridged(Api::Messages | Api::CountTokens) => ErrorShape::Anthropic,
            _ => ErrorShape::OpenAi,
        }
    }
}

/// What an error body says.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFacts<'a> {
    /// The HTTP status it goes with.
    pub status: u16,
    /// A stable machine-readable code.
    pub code: &'a str,
    /// A sentence for the user.
    pub message: &'a str,
    /// The gateway's id of the request.
    pub request_id: &'a str,
    /// Seconds after which asking again may help. Replies with a head say it there.
    pub retry_after: Option<u64>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiFrame<'a> {
    r#type: &'static str,
    status: u16,
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

/// Makes a JSON error body.
#[must_use]
pub fn error_body(shape: ErrorShape, e: &ErrorFacts<'_>) -> Vec<u8> {
    match shape {
        ErrorShape::OpenAi => encode(&OpenAiBody { error: openai(e) }),
        ErrorShape::Anthropic => encode(&AnthropicBody {
            r#type: "error",
            error: AnthropicError {
                r#type: anthropic_type(e.status),
                message: e.message,
            },
            request_id: e.request_id,
        }),
    }
}

/// Makes the text of an error event: one message of the responses API's WebSocket, or one `data:` of a stream.
#[must_use]
pub fn error_frame(shape: ErrorShape, e: &ErrorFacts<'_>) -> Vec<u8> {
    match shape {
        ErrorShape::OpenAi => encode(&OpenAiFrame {
            r#type: "error",
            status: e.status,
            error: openai(e),
        }),
        ErrorShape::Anthropic => error_body(shape, e),
    }
}

fn openai<'a>(e: &ErrorFacts<'a>) -> OpenAiError<'a> {
    OpenAiError {
        message: e.message,
        r#type: openai_type(e.status),
        param: None,
        code: e.code,
    }
}

/// Structs of texts and numbers always encode.
fn encode(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

const fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

const fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn facts(status: u16) -> ErrorFacts<'static> {
        ErrorFacts {
            status,
            code: "model_not_allowed",
            message: "No \"gpt\"\nfor you",
            request_id: "req_1",
            retry_after: None,
        }
    }

    #[test]
    fn bodies_have_the_providers_shapes() {
        let parse = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).unwrap();
        let message = "No \"gpt\"\nfor you";
        assert_eq!(
            parse(error_body(ErrorShape::OpenAi, &facts(400))),
            json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": "model_not_allowed"}})
        );
        assert_eq!(
            parse(error_body(ErrorShape::Anthropic, &facts(503))),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": message}, "request_id": "req_1"})
        );
        assert_eq!(
            parse(error_frame(ErrorShape::OpenAi, &facts(429))),
            json!({"type": "error", "status": 429, "error": {"message": message, "type": "rate_limit_error", "param": null, "code": "model_not_allowed"}})
        );
    }

    #[test]
    fn types_follow_the_status() {
        let cases = [
            (400, "invalid_request_error", "invalid_request_error"),
            (401, "authentication_error", "authentication_error"),
            (403, "permission_error", "permission_error"),
            (404, "invalid_request_error", "not_found_error"),
            (413, "invalid_request_error", "request_too_large"),
            (429, "rate_limit_error", "rate_limit_error"),
            (451, "invalid_request_error", "invalid_request_error"),
            (500, "server_error", "api_error"),
            (502, "server_error", "api_error"),
            (503, "server_error", "overloaded_error"),
            (504, "server_error", "timeout_error"),
            (529, "server_error", "overloaded_error"),
        ];
        for (status, openai, anthropic) in cases {
            assert_eq!(
                (openai_type(status), anthropic_type(status)),
                (openai, anthropic),
                "{status}"
            );
        }
    }
}
