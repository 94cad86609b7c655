//! What the proxy port says to those who visit it like a web site: what it is, the CA's certificate, and a PAC
//! file that sends only the claimed hosts here.
//!
//! Nothing here needs a token, and nothing here is secret.

use std::fmt::Write as _;

use http::header::{ACCEPT, ALLOW, HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::authority::{Authority, HTTP_PORT, HTTPS_PORT};
use crate::front::Door;
use crate::proxy::Proxy;
use crate::reply::Reply;

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers an origin-form request.
pub(crate) fn answer<B>(proxy: &Proxy, request: &Request<B>, door: &Door) -> Response<Reply> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "Causeway: this is a proxy port; only GET and HEAD are answered here\n";
        let mut response = Reply::text(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let ok = |kind, bytes: Vec<u8>| Reply::text(StatusCode::OK, kind, bytes);
    let authority = proxy.rules().authority.clone();
    match request.uri().path() {
        "/" if wants_html(request.headers()) => {
            ok("text/html; charset=utf-8", html(&authority.fingerprint()).into())
        }
        "/" => ok(TEXT, plain(&authority.fingerprint()).into()),
        "/ca.pem" => ok("application/x-pem-file", authority.certificate_pem().into()),
        "/ca.cer" => ok("application/pkix-cert", authority.certificate_der().into()),
        "/proxy.pac" => ok(
            "application/x-ns-proxy-autoconfig",
            pac(proxy, request, door).into(),
        ),
        _ => {
            let text = "Causeway: this is a proxy port; here are /, /ca.pem, /ca.cer and /proxy.pac\n";
            Reply::text(StatusCode::NOT_FOUND, TEXT, text)
        }
    }
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|value| value.contains("text/html"))
}

fn plain(fingerprint: &str) -> String {
    format!(
        "Causeway: this is the proxy port of an AI governance gateway.\n\n\
         Set it as HTTPS_PROXY, with a gateway token as password. Connections to AI providers are\n\
         decrypted and recorded here; others are tunnelled or refused, as the operator decides.\n\n\
         CA certificate   /ca.pem (PEM), /ca.cer (DER)\n\
         SHA-256          {fingerprint}\n\
         PAC file         /proxy.pac\n"
    )
}

fn html(fingerprint: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Causeway</title>\n\
         <h1>Causeway</h1>\n\
         <p>This is the proxy port of an AI governance gateway. Set it as <code>HTTPS_PROXY</code>, with a \
         gateway token as password. Connections to AI providers are decrypted and recorded here; others are \
         tunnelled or refused, as the operator decides.</p>\n\
         <ul>\n\
         <li>CA certificate: <a href=\"/ca.pem\">PEM</a>, <a href=\"/ca.cer\">DER</a></li>\n\
         <li>Its SHA-256 fingerprint: <code>{fingerprint}</code></li>\n\
         <li><a href=\"/proxy.pac\">PAC file</a></li>\n\
         </ul>\n</html>\n"
    )
}

fn pac<B>(proxy: &Proxy, request: &Request<B>, door: &Door) -> String {
    let providers = proxy.app.providers();
    let claims = providers.registry.claimed_hosts();
    let claims = claims.map(|claim| (claim.host.as_str(), claim.port));
    let (word, default) = if door.tls {
        ("HTTPS", HTTPS_PORT)
    } else {
        ("PROXY", HTTP_PORT)
    };
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let called = in_uri
        .or(host)
        .and_then(|value| Authority::parse_or(value, default).ok());
    let here = called.map_or_else(|| door.local.to_string(), |called| called.to_string());
    script(claims, &format!("{word} {here}"))
}

/// The PAC file. Hosts and `way` hold no character that would end a JavaScript string: both were parsed.
fn script<'a>(claims: impl Iterator<Item = (&'a str, Option<u16>)>, way: &str) -> String {
    let mut hosts = String::new();
    for (host, port) in claims {
        // 0 is every port.
        let _ = writeln!(hosts, "  [\"{host}\", {}],", port.unwrap_or(0));
    }
    // Engines are old: some know neither trailing commas nor `const`.
    let hosts = hosts.trim_end().trim_end_matches(',');
    format!(
        "// Only what the gateway governs goes through it.\n\
         var claimed = [\n{hosts}\n];\n\
         function FindProxyForURL(url, host) {{\n\
         \x20 var parts = /^([a-z]+):\\/\\/(?:\\[[^\\]]*\\]|[^\\/:]*)(?::(\\d+))?/.exec(url.toLowerCase());\n\
         \x20 var port = parts && parts[2] ? parts[2] : /^(http|ws):/i.test(url) ? \"80\" : \"443\";\n\
         \x20 host = host.toLowerCase().replace(/^\\[|\\]$|\\.$/g, \"\");\n\
         \x20 for (var i = 0; i < claimed.length; i++) {{\n\
         \x20   if (host === claimed[i][0] && (claimed[i][1] === 0 || String(claimed[i][1]) === port)) {{\n\
         \x20     return \"{way}\";\n\
         \x20   }}\n\
         \x20 }}\n\
         \x20 return \"DIRECT\";\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pac_files_list_the_claims_and_nothing_else() {
        let claims = [("api.openai.com", None), ("llm.corp", Some(8443))];
        let text = script(claims.into_iter(), "PROXY gateway.corp:8888");
        assert!(
            text.contains("[\"api.openai.com\", 0],\n  [\"llm.corp\", 8443]\n];"),
            "{text}"
        );
        assert_eq!(text.matches("PROXY gateway.corp:8888").count(), 1, "{text}");
        assert_eq!(text.matches("DIRECT").count(), 1, "{text}");
    }
}
