//! Certificates as clients see them: every row of the profile, and three verifiers that are not ours.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

fn authority() -> Authority {
    let made = Authority::generate(&named("Causeway CA on test"), now()).unwrap();
    Authority::from_pem(&made.cert_pem, &made.key_pem, now()).unwrap()
}

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

fn name(host: &str) -> LeafName {
    LeafName::parse(host).unwrap()
}

fn seconds(time: SystemTime) -> i64 {
    moment::to_unix(time)
}

/// An intermediate that an organisation issued, the organisation's root, and the intermediate's key.
fn organisation() -> (String, String, String) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = may_sign();
    root.distinguished_name = DistinguishedName::new();
    root.distinguished_name.push(DnType::CommonName, "Corp Root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();

    let key = KeyPair::generate().unwrap();
    let mut params = root.clone();
    params
        .distinguished_name
        .push(DnType::CommonName, "Corp Gateway CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    let pem = params
        .signed_by(&key, &Issuer::new(root, root_key))
        .unwrap()
        .pem();
    (pem, root_pem, key.serialize_pem())
}

/// The least that an authority needs.
fn may_sign() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

#[test]
fn an_authority_has_every_row_of_its_profile() {
    let authority = authority();
    let cert = parsed(authority.certificate_der());
    let limits = cert.basic_constraints().unwrap().unwrap();
    assert!(limits.critical && limits.value.ca);
    assert_eq!(limits.value.path_len_constraint, Some(0));
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    let has_key_id = |ext: &ParsedExtension<'_>| matches!(ext, ParsedExtension::SubjectKeyIdentifier(_));
    assert!(
        cert.iter_extensions()
            .any(|ext| has_key_id(ext.parsed_extension()))
    );
    assert_eq!(cert.subject().as_raw(), cert.issuer().as_raw());
    assert_eq!(cert.validity().not_before.timestamp(), seconds(now()) - 3600);
    assert_eq!(seconds(authority.not_before()), seconds(now()) - 3600);
    assert_eq!(seconds(authority.not_after()), seconds(now() + DAY * 3650));
    assert_eq!(
        cert.public_key().subject_public_key.data.len(),
        65,
        "an uncompressed P-256 point"
    );
}

#[test]
fn two_authorities_of_one_host_differ_in_name() {
    let (one, two) = (authority(), authority());
    assert!(
        one.subject().contains("CN=Causeway CA on test "),
        "{}",
        one.subject()
    );
    assert_ne!(one.subject(), two.subject());
    assert_ne!(one.fingerprint(), two.fingerprint());
}

#[test]
fn a_long_or_odd_common_name_is_cut_to_fit() {
    for given in ["", "ä".repeat(200).as_str(), "line\nbreak"] {
        let made = Authority::generate(&named(given), now()).unwrap();
        let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, now()).unwrap();
        let cert = parsed(authority.certificate_der());
        let common = cert
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap();
        assert!(common.chars().count() <= MAX_COMMON_NAME, "{given}");
        assert!(!common.contains('\n') && !common.starts_with(' '), "{common:?}");
    }
}

#[test]
fn a_leaf_has_every_row_of_its_profile() {
    let authority = authority();
    // Later than the authority's first day, which would cut the backdating short.
    let made_at = now() + DAY * 7;
    let now = || made_at;
    let leaf = authority.issue(&name("api.openai.com"), now()).unwrap();
    assert_eq!(leaf.chain.len(), 1, "a root is not sent");
    let (cert, ca) = (parsed(&leaf.chain[0]), parsed(authority.certificate_der()));

    assert_eq!(cert.version().0, 2, "X.509 v3");
    assert_eq!(cert.issuer().as_raw(), ca.subject().as_raw());
    assert_eq!(cert.subject().to_string(), "CN=api.openai.com");
    let names = cert.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        names.value.general_names,
        vec![GeneralName::DNSName("api.openai.com")]
    );
    assert_eq!(cert.validity().not_before.timestamp(), seconds(now() - DAY));
    assert_eq!(cert.validity().not_after.timestamp(), seconds(now() + DAY * 29));
    assert_eq!(seconds(leaf.not_after), cert.validity().not_after.timestamp());
    assert_eq!(leaf.renew_at, now() + DAY * 29 / 2);
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert_eq!(usage.value.flags, 1, "digitalSignature alone");
    let extended = cert.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.server_auth && !extended.value.client_auth && !extended.value.any);
    assert!(!cert.basic_constraints().unwrap().unwrap().value.ca);
    assert_ne!(
        cert.public_key().raw,
        ca.public_key().raw,
        "never the authority's own key"
    );
    assert_eq!(
        cert.public_key().subject_public_key.data.len(),
        65,
        "an uncompressed P-256 point"
    );
}

#[test]
fn a_leaf_points_at_its_issuers_key_and_at_nothing_else() {
    let authority = authority();
    let leaf = authority.issue(&name("api.openai.com"), now()).unwrap();
    let (cert, ca) = (parsed(&leaf.chain[0]), parsed(authority.certificate_der()));
    let wanted = ca.iter_extensions().find_map(|ext| match ext.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    let mut pointed = None;
    for ext in cert.iter_extensions() {
        match ext.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                pointed = id.key_identifier.as_ref().map(|id| id.0)
            }
            ParsedExtension::CRLDistributionPoints(_) | ParsedExtension::AuthorityInfoAccess(_) => {
                panic!("a pointer to what nobody serves: {}", ext.oid)
            }
            _ => {}
        }
    }
    assert!(wanted.is_some());
    assert_eq!(pointed, wanted);
}

#[test]
fn serials_are_sixteen_random_positive_bytes() {
    let authority = authority();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..64 {
        let leaf = authority.issue(&name("api.openai.com"), now()).unwrap();
        let serial = parsed(&leaf.chain[0]).raw_serial().to_vec();
        assert_eq!(serial.len(), 16);
        assert!((0x40..0x80).contains(&serial[0]), "{serial:02x?}");
        assert!(seen.insert(serial));
    }
}

#[test]
fn every_leaf_has_its_own_key() {
    let authority = authority();
    let keys = [(); 2].map(|()| authority.issue(&name("api.openai.com"), now()).unwrap().key);
    assert_ne!(keys[0].secret_der(), keys[1].secret_der());
}

#[test]
fn an_address_goes_in_as_an_address() {
    let authority = authority();
    for text in ["127.0.0.1", "2001:db8::7"] {
        let leaf = authority.issue(&name(text), now()).unwrap();
        let cert = parsed(&leaf.chain[0]);
        let names = &cert
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names;
        let want = match text.parse().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        assert!(
            matches!(names[..], [GeneralName::IPAddress(bytes)] if bytes == want),
            "{text}"
        );
        verify_with_webpki(&authority, &leaf, text);
    }
}

#[test]
fn a_name_too_long_for_a_common_name_is_critical_in_the_alternative_name() {
    let authority = authority();
    let host = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    let leaf = authority.issue(&name(&host), now()).unwrap();
    let cert = parsed(&leaf.chain[0]);
    assert_eq!(cert.subject().iter().count(), 0);
    assert!(cert.subject_alternative_name().unwrap().unwrap().critical);
    verify_with_webpki(&authority, &leaf, &host);
}

#[test]
fn names_built_by_hand_are_checked_too() {
    let authority = authority();
    for bad in ["*.openai.com", "API.openai.com", "", "a b", "bücher.example"] {
        let refused = authority.issue(&LeafName::Dns(bad.to_owned()), now());
        assert!(matches!(refused, Err(IssueError::NameRefused { .. })), "{bad}");
    }
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let authority = authority();
    let late = authority.not_after() - DAY * 3;
    let leaf = authority.issue(&name("api.openai.com"), late).unwrap();
    assert_eq!(leaf.not_after, authority.not_after());
    assert_eq!(leaf.renew_at, late + DAY * 3 / 2);
    let early = authority.issue(&name("api.openai.com"), now()).unwrap();
    assert!(parsed(&early.chain[0]).validity().not_before.timestamp() >= seconds(authority.not_before()));
    for outside in [authority.not_after(), authority.not_before() - DAY] {
        let refused = authority.issue(&name("api.openai.com"), outside);
        assert!(matches!(refused, Err(IssueError::OutsideValidity { .. })));
    }
}

#[test]
fn an_intermediate_is_sent_and_its_root_is_not() {
    let (intermediate, root, key_pem) = organisation();
    for with_root in [true, false] {
        let given = if with_root {
            format!("{intermediate}{root}")
        } else {
            intermediate.clone()
        };
        let authority = Authority::from_pem(&given, &key_pem, now()).unwrap();
        let leaf = authority.issue(&name("api.openai.com"), now()).unwrap();
        assert_eq!(authority.certificate_pem(), given);
        assert_eq!(leaf.chain.len(), 2);
        assert_eq!(&*leaf.chain[1], authority.certificate_der());
        let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
        verify_from(root, &leaf, "api.openai.com");
    }
}

#[test]
fn a_private_key_beside_the_certificate_stays_in() {
    let made = Authority::generate(&named("x"), now()).unwrap();
    for combined in [
        format!("{}{}", *made.key_pem, made.cert_pem),
        format!("{}{}\ntrailing words", made.cert_pem, *made.key_pem),
    ] {
        let authority = Authority::from_pem(&combined, &combined, now()).unwrap();
        assert_eq!(authority.certificate_pem(), made.cert_pem);
        let shown = format!("{authority:?} {made:?} {}", authority.certificate_pem());
        assert!(!shown.contains("PRIVATE") && !shown.contains("words"));
    }
}

#[test]
fn refuses_text_that_is_no_pair() {
    let made = Authority::generate(&named("x"), now()).unwrap();
    let other = Authority::generate(&named("y"), now()).unwrap();
    let (cert, key) = (&made.cert_pem, &*made.key_pem);
    let cases = [
        (String::new(), key.as_str(), "no certificate"),
        (cert.clone(), "nonsense", "no usable private key"),
        (cert.clone(), cert, "no usable private key"),
        (cert.clone(), &*other.key_pem, "does not belong"),
        (format!("{cert}{}", other.cert_pem), key, "number 2"),
        (cert.replace("MII", "MIJ"), key, "cannot be read"),
    ];
    for (cert_pem, key_pem, want) in cases {
        let error = Authority::from_pem(&cert_pem, key_pem, now())
            .expect_err(want)
            .to_string();
        assert!(error.contains(want), "{want}: {error}");
    }
}

#[test]
fn refuses_an_authority_that_clients_would_refuse() {
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change); 5] = [
        ("CA:TRUE", |params| params.is_ca = IsCa::ExplicitNoCa),
        ("keyCertSign", |params| {
            params.key_usages = vec![KeyUsagePurpose::CrlSign]
        }),
        ("keyCertSign", |params| params.key_usages.clear()),
        ("expired at 2026-11-17", |params| {
            params.not_after = moment::to_date(now() - DAY)
        }),
        ("not valid before 2026-11-19", |params| {
            params.not_before = moment::to_date(now() + DAY)
        }),
    ];
    for (want, change) in cases {
        let key = KeyPair::generate().unwrap();
        let mut params = may_sign();
        change(&mut params);
        let cert_pem = params.self_signed(&key).unwrap().pem();
        let error = Authority::from_pem(&cert_pem, &key.serialize_pem(), now())
            .expect_err(want)
            .to_string();
        assert!(error.contains(want), "{want}: {error}");
    }
}

#[test]
fn refuses_an_authority_without_a_key_identifier() {
    // rcgen cannot leave it out, so its object identifier is changed to one that nobody knows.
    let made = Authority::generate(&named("x"), now()).unwrap();
    let mut der = CertificateDer::from_pem_slice(made.cert_pem.as_bytes())
        .unwrap()
        .to_vec();
    let at = der
        .windows(5)
        .position(|bytes| bytes == [6, 3, 0x55, 0x1d, 0x0e])
        .unwrap();
    der[at + 4] = 0x7e;
    let error = Authority::from_pem(&pem::certificates(&[der.into()]), &made.key_pem, now()).unwrap_err();
    assert!(error.to_string().contains("subject key identifier"), "{error}");
}

#[test]
fn signs_with_every_kind_of_key_that_organisations_issue() {
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
    ];
    for kind in kinds {
        let key = KeyPair::generate_for(kind).unwrap();
        let cert_pem = may_sign().self_signed(&key).unwrap().pem();
        let authority = Authority::from_pem(&cert_pem, &key.serialize_pem(), now()).unwrap();
        let leaf = authority.issue(&name("api.openai.com"), now()).unwrap();
        verify_with_webpki(&authority, &leaf, "api.openai.com");
    }
}

#[test]
fn an_issuer_name_with_repeated_parts_is_copied_whole() {
    // Active Directory names its authorities like this, and rcgen keeps one value per attribute: the second
    // DC is made from a placeholder attribute of the same length.
    let mut subject = DistinguishedName::new();
    subject.push(
        DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 25]),
        "example",
    );
    subject.push(
        DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 26]),
        "corp",
    );
    subject.push(DnType::CommonName, "Corp Issuing CA");
    let key = KeyPair::generate().unwrap();
    let mut params = may_sign();
    params.distinguished_name = subject;
    let mut der = params.self_signed(&key).unwrap().der().to_vec();
    let placeholder = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 26];
    while let Some(at) = der
        .windows(placeholder.len())
        .position(|bytes| bytes == placeholder)
    {
        der[at + placeholder.len() - 1] = 25;
    }
    let authority =
        Authority::from_pem(&pem::certificates(&[der.into()]), &key.serialize_pem(), now()).unwrap();
    let leaf = authority.issue(&name("api.openai.com"), now()).unwrap();
    let (cert, ca) = (parsed(&leaf.chain[0]), parsed(authority.certificate_der()));
    assert_eq!(ca.subject().iter().count(), 3);
    assert_eq!(cert.issuer().as_raw(), ca.subject().as_raw());
    verify_with_webpki(&authority, &leaf, "api.openai.com");
}

/// What rustls clients do that trust the authority.
fn verify_with_webpki(authority: &Authority, leaf: &Leaf, host: &str) {
    verify_from(authority.certificate_der().to_vec().into(), leaf, host);
}

fn verify_from(root: CertificateDer<'static>, leaf: &Leaf, host: &str) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let time = UnixTime::since_unix_epoch(now().duration_since(UNIX_EPOCH).unwrap());
    verifier
        .verify_server_cert(&leaf.chain[0], &leaf.chain[1..], &host, &[], time)
        .unwrap();
}

#[test]
fn rustls_accepts_a_leaf() {
    let authority = authority();
    let leaf = authority.issue(&name("api.openai.com"), now()).unwrap();
    verify_with_webpki(&authority, &leaf, "api.openai.com");
}

/// Files that other programs can read: the authority, a leaf and the leaf's key, made at `time`.
fn write_out(dir: &Path, time: SystemTime) {
    let made = Authority::generate(&named("Causeway CA on test"), time).unwrap();
    let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, time).unwrap();
    let leaf = authority.issue(&name("api.openai.com"), time).unwrap();
    let key = KeyPair::try_from(&leaf.key).unwrap().serialize_pem();
    std::fs::write(dir.join("ca.pem"), authority.certificate_pem()).unwrap();
    std::fs::write(dir.join("leaf.pem"), pem::certificates(&leaf.chain)).unwrap();
    std::fs::write(dir.join("leaf.key"), key).unwrap();
}

/// Runs another verifier, or says aloud that it is absent.
fn other_verifier(dir: &Path, program: &str, arguments: &[&str]) {
    match Command::new(program).args(arguments).current_dir(dir).output() {
        Ok(run) => assert!(
            run.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&run.stderr)
        ),
        Err(error) => eprintln!("skipped: {program}: {error}"),
    }
}

#[test]
fn openssl_accepts_a_leaf_in_strict_mode() {
    let dir = tempfile::tempdir().unwrap();
    write_out(dir.path(), now());
    let at = seconds(now()).to_string();
    let mut arguments = vec!["verify", "-x509_strict", "-purpose", "sslserver", "-attime", &at];
    arguments.extend([
        "-verify_hostname",
        "api.openai.com",
        "-CAfile",
        "ca.pem",
        "leaf.pem",
    ]);
    other_verifier(dir.path(), "openssl", &arguments);
}

#[test]
fn python_accepts_a_leaf_in_strict_mode() {
    let dir = tempfile::tempdir().unwrap();
    write_out(dir.path(), real_time());
    other_verifier(dir.path(), "python3", &["-c", STRICT_HANDSHAKE]);
}

#[expect(clippy::disallowed_methods, reason = "Python takes the time from the machine")]
fn real_time() -> SystemTime {
    SystemTime::now()
}

/// A handshake in memory with the checks that Python 3.13 makes the default.
const STRICT_HANDSHAKE: &str = r#"
import ssl
client = ssl.create_default_context(cafile="ca.pem")
client.verify_flags |= ssl.VERIFY_X509_STRICT
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("leaf.pem", "leaf.key")
to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [
    client.wrap_bio(to_client, to_server, server_hostname="api.openai.com"),
    server.wrap_bio(to_server, to_client, server_side=True),
]
for _ in range(10):
    for end in list(ends):
        try:
            end.do_handshake()
            ends.remove(end)
        except ssl.SSLWantReadError:
            pass
assert not ends, "the handshake did not finish"
"#;

fn named(common_name: &str) -> CaProfile<'_> {
    CaProfile {
        common_name,
        only: None,
    }
}

#[test]
fn a_constrained_authority_signs_for_its_names_only() {
    let only = [
        LeafName::parse("api.openai.com").unwrap(),
        LeafName::parse("chatgpt.com").unwrap(),
    ];
    let profile = CaProfile {
        common_name: "x",
        only: Some(&only),
    };
    let made = Authority::generate(&profile, now()).unwrap();
    let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, now()).unwrap();
    for (name, want) in [
        ("api.openai.com", true),
        ("chatgpt.com", true),
        ("openai.com", false),
        ("api.anthropic.com", false),
        ("127.0.0.1", false),
        ("[::1]", false),
    ] {
        let name = LeafName::parse(name).unwrap();
        assert_eq!(authority.permits(&name), want, "{name}");
        assert_eq!(authority.issue(&name, now()).is_ok(), want, "{name}");
    }
}

#[test]
fn clients_accept_what_a_constrained_authority_may_sign() {
    let only = [name("api.openai.com")];
    let profile = CaProfile {
        common_name: "x",
        only: Some(&only),
    };
    let made = Authority::generate(&profile, now()).unwrap();
    let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, now()).unwrap();
    let leaf = authority.issue(&only[0], now()).unwrap();
    verify_with_webpki(&authority, &leaf, "api.openai.com");
}
