//! What a webhook gets: `{"id", "sink", "items"}`, signed with the secret that it shares with the gateway.
//!
//! `X-Causeway-Signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of `SECONDS.BODY`. Receivers refuse old
//! dates, and what is delivered again has the same `Idempotency-Key` and the same ids.

use aws_lc_rs::hmac;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::Batch;
use crate::clock::Micros;
use crate::export::json;
use crate::hex::hex;
use crate::secret::Secret;
use crate::store::InterceptionRow;

const SIGNATURE: HeaderName = HeaderName::from_static("x-causeway-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Serialize)]
struct Delivery<'b> {
    id: &'b str,
    sink: &'b str,
    items: &'b [InterceptionRow],
}

/// The body of a delivery.
pub(super) fn body(sink: &str, batch: &Batch) -> String {
    json(&Delivery {
        id: &batch.id,
        sink,
        items: &batch.rows,
    })
}

/// The headers of a delivery that is sent at `now`.
pub(super) fn headers(secret: &Secret, batch: &Batch, body: &str, now: Micros) -> HeaderMap {
    let signature = signature(secret, body, now.0.div_euclid(1_000_000));
    let fields = [(SIGNATURE, signature.as_str()), (IDEMPOTENCY_KEY, &batch.id)];
    let field = |(name, value): (HeaderName, &str)| Some((name, HeaderValue::from_str(value).ok()?));
    fields.into_iter().filter_map(field).collect()
}

fn signature(secret: &Secret, body: &str, seconds: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", hex(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_known_one() {
        // As `printf '%s' '1700000000.{"id":"x"}' | openssl dgst -sha256 -hmac …` says.
        let secret = Secret::new("whsec_0123456789abcdef");
        assert_eq!(
            signature(&secret, "{\"id\":\"x\"}", 1_700_000_000),
            "t=1700000000,v1=770060346ddf9638ee9bbc8d6403946c9480679bbe3216ada9c05ceb9db9010e"
        );
    }
}
