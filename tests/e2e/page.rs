//! What the proxy's port shows to those who open it in a browser: itself, the CA's certificate, a PAC file.

use std::fs;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::client::{Ask, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::start(Offers::Both).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

async fn get(gateway: &Gateway, ask: Ask) -> (u16, String, Vec<u8>) {
    let answer = base_url(gateway.proxy()).await.send(ask).await;
    let (status, kind) = (answer.status, answer.header("content-type").to_owned());
    (status, kind, answer.bytes().await.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_explains_itself() {
    let (_fake, gateway) = started().await;
    for (accept, want) in [("*/*", "text/plain"), ("text/html,*/*;q=0.8", "text/html")] {
        let (status, kind, body) = get(&gateway, Ask::get("/").header("accept", accept)).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, 200);
        assert!(kind.starts_with(want), "{kind}");
        for part in ["/ca.pem", "/ca.cer", "/proxy.pac", "SHA-256"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    for path in ["/index.html", "/ca.key", "/ca", "/v1/models"] {
        assert_eq!(get(&gateway, Ask::get(path)).await.0, 404, "{path}");
    }
    assert_eq!(get(&gateway, Ask::post("/", "x")).await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_given_out_and_the_key_is_not() {
    let (_fake, gateway) = started().await;
    let (status, kind, pem) = get(&gateway, Ask::get("/ca.pem")).await;
    assert_eq!((status, kind.as_str()), (200, "application/x-pem-file"));
    assert_eq!(pem, fs::read(gateway.ca_file()).unwrap());
    assert_eq!(
        String::from_utf8(pem.clone()).unwrap().matches("BEGIN").count(),
        1
    );
    let (status, kind, der) = get(&gateway, Ask::get("/ca.cer")).await;
    assert_eq!((status, kind.as_str()), (200, "application/pkix-cert"));
    assert_eq!(der, CertificateDer::from_pem_slice(&pem).unwrap().to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn head_requests_get_the_head_alone() {
    let (_fake, gateway) = started().await;
    let request = "HEAD /ca.pem HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let (head, mut tcp) = gateway.client().connect_raw(request).await;
    assert_eq!(head.status, 200);
    let length = fs::read(gateway.ca_file()).unwrap().len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    let next = crate::client::Head::read(&mut tcp).await;
    assert_eq!(next.status, 200, "no body lies between the two heads");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pac_file_sends_claimed_hosts_here_and_others_past() {
    let (_fake, gateway) = started().await;
    let pac = async |host: &str| {
        let ask = Ask::get("/proxy.pac").authority(host);
        let (status, kind, body) = get(&gateway, ask).await;
        assert_eq!(
            (status, kind.as_str()),
            (200, "application/x-ns-proxy-autoconfig")
        );
        String::from_utf8(body).unwrap()
    };
    let text = pac("gateway.corp:8888").await;
    for part in [
        "\"api.openai.com\"",
        "\"api.anthropic.com\"",
        "\"PROXY gateway.corp:8888\"",
        "\"DIRECT\"",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(pac("gateway.corp").await.contains("\"PROXY gateway.corp:80\""));
    // What is no host must not get into the script.
    let here = format!("\"PROXY {}\"", gateway.proxy());
    for host in ["x\";alert(1)//:80", "a b", "user@gateway.corp:1"] {
        let text = pac(host).await;
        assert!(text.contains(&here) && !text.contains("alert"), "{text}");
    }
}
