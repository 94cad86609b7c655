//! The variables that change what programs trust, and how.

/// How a variable changes a program's trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It adds a CA to those that the program trusts anyway.
    Adds,
    /// It replaces them all, so that its file needs the system's roots too.
    Replaces,
}

/// Every variable that a client under the gateway is given.
pub(crate) const VARIABLES: [(&str, Kind); 13] = [
    ("NODE_EXTRA_CA_CERTS", Kind::Adds),
    ("CODEX_CA_CERTIFICATE", Kind::Adds),
    ("GOOSE_CA_CERT_PATH", Kind::Adds),
    ("DENO_CERT", Kind::Adds),
    ("SSL_CERT_FILE", Kind::Replaces),
    ("REQUESTS_CA_BUNDLE", Kind::Replaces),
    ("CURL_CA_BUNDLE", Kind::Replaces),
    ("GIT_SSL_CAINFO", Kind::Replaces),
    ("PIP_CERT", Kind::Replaces),
    ("AWS_CA_BUNDLE", Kind::Replaces),
    ("CARGO_HTTP_CAINFO", Kind::Replaces),
    ("BUNDLE_SSL_CA_CERT", Kind::Replaces),
    ("npm_config_cafile", Kind::Replaces),
];

/// What `variable` does, if it is known.
pub(crate) fn kind(variable: &str) -> Option<Kind> {
    VARIABLES
        .iter()
        .find(|(name, _)| *name == variable)
        .map(|(_, kind)| *kind)
}
