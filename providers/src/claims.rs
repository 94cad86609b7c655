//! What a user's credential says of itself: the plan and the account that a ChatGPT sign-in names.
//!
//! In comes a credential, out come its claims that are no secrets. A credential that is no JSON Web Token (RFC 7519)
//! has none. Invariant: nobody has checked the token's signature, so what is read here is for records alone and
//! decides nothing; and neither a long token nor a long claim is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::json::Json;

/// Longest payload that is read, in bytes of base64.
const LONGEST_PAYLOAD: usize = 16 << 10;
/// Longest claim that is kept, in bytes.
const LONGEST_CLAIM: usize = 128;
/// Where OpenAI puts its own claims.
const OPENAI: &str = "https://api.openai.com/auth";

/// The claims of a credential that may be shown. Unverified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The plan that the account is on.
    pub plan: Option<String>,
    /// The account's id.
    pub account: Option<String>,
}

/// Reads the claims of `credential`, which comes without its scheme.
#[must_use]
pub fn claims(credential: &[u8]) -> Claims {
    payload(credential)
        .as_deref()
        .and_then(Json::parse)
        .and_then(|payload| payload.member(OPENAI))
        .map_or_else(Claims::default, |ours| Claims {
            plan: ours.member("chatgpt_plan_type").and_then(word),
            account: ours.member("chatgpt_account_id").and_then(word),
        })
}

/// The second of a token's three parts, decoded.
fn payload(credential: &[u8]) -> Option<Vec<u8>> {
    let mut parts = credential.split(|byte| *byte == b'.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let sound = parts.next().is_none() && payload.len() <= LONGEST_PAYLOAD;
    sound.then(|| URL_SAFE_NO_PAD.decode(payload).ok()).flatten()
}

/// A claim in printable characters; what is longer says nothing.
fn word(json: Json<'_>) -> Option<String> {
    let (text, cut) = json.text_within(LONGEST_CLAIM)?;
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (!cut && !text.is_empty() && printable).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(payload: &str) -> Vec<u8> {
        let encoded = URL_SAFE_NO_PAD.encode(payload);
        format!("eyJhbGciOiJSUzI1NiJ9.{encoded}.c2lnbmF0dXJl").into_bytes()
    }

    fn read(payload: &str) -> (Option<String>, Option<String>) {
        let Claims { plan, account } = claims(&token(payload));
        (plan, account)
    }

    #[test]
    fn plan_and_account_of_a_sign_in_are_read() {
        let payload = r#"{"aud":["https://api.openai.com/v1"],"exp":1,"https://api.openai.com/auth":
            {"chatgpt_plan_type":"pro","chatgpt_account_id":"7b1e","user_id":"user-1"}}"#;
        assert_eq!(read(payload), (Some("pro".to_owned()), Some("7b1e".to_owned())));
        let half = r#"{"https://api.openai.com/auth":{"chatgpt_plan_type":"plus","chatgpt_account_id":7}}"#;
        assert_eq!(read(half), (Some("plus".to_owned()), None));
    }

    #[test]
    fn what_is_no_token_or_too_long_says_nothing() {
        let long = format!(
            r#"{{"https://api.openai.com/auth":{{"chatgpt_plan_type":"{}"}}}}"#,
            "x".repeat(LONGEST_CLAIM + 1)
        );
        let huge = format!(
            r#"{{"pad":"{}","https://api.openai.com/auth":{{"chatgpt_plan_type":"pro"}}}}"#,
            "x".repeat(LONGEST_PAYLOAD)
        );
        let line = r#"{"https://api.openai.com/auth":{"chatgpt_plan_type":"a\nb"}}"#;
        for payload in ["", "{}", "[]", "nonsense", &long, &huge, line] {
            assert_eq!(read(payload), (None, None), "{payload:.40}");
        }
        for text in ["sk-ant-api03-abc", "", ".", "a.b", "a.b.c.d", "a.!.c"] {
            assert_eq!(claims(text.as_bytes()), Claims::default(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let _ = (claims(&bytes), claims(&token(&text)));
        }
    }
}
