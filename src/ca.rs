//! `causeway ca`: make, write out, describe.

use std::io::Write;
use std::path::Path;

use bridged::clock::{Clock, Micros};
use certs::Authority;

use crate::cli::{CaCommand, Encoding, Globals};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::{authority, data_dir};

pub(crate) fn run(globals: &Globals, command: &CaCommand) -> Result<(), Failure> {
    let config = config::load(globals)?;
    let now = Clock::system().now();
    match command {
        CaCommand::Init => {
            data_dir::make(&config.data_dir)?;
            let authority = authority::create(&config, now)?;
            describe(&config, &authority);
            Ok(())
        }
        CaCommand::Export { format, out } => export(&authority::load(&config, now)?, *format, out.as_deref()),
        CaCommand::Show => {
            describe(&config, &authority::load(&config, now)?);
            Ok(())
        }
        CaCommand::Install => {
            authority::load(&config, now)?;
            print!("{}", explain(&config));
            Ok(())
        }
    }
}

fn export(authority: &Authority, format: Encoding, out: Option<&Path>) -> Result<(), Failure> {
    let bytes = match format {
        Encoding::Pem => authority.certificate_pem().as_bytes(),
        Encoding::Der => authority.certificate_der(),
    };
    let written = match out {
        Some(path) => std::fs::write(path, bytes),
        None => std::io::stdout().lock().write_all(bytes),
    };
    written.map_err(|error| Failure::because("the certificate cannot be written", error))
}

fn describe(config: &Config, authority: &Authority) {
    println!("subject      {}", authority.subject());
    println!("SHA-256      {}", authority.fingerprint());
    println!("valid from   {}", Micros::from(authority.not_before()).rfc3339());
    println!("valid until  {}", Micros::from(authority.not_after()).rfc3339());
    println!("certificate  {}", config.proxy.ca_cert.display());
    println!("key          {} (keep it here)", config.proxy.ca_key.display());
}

/// How each trust store takes the certificate. Stores that replace trust get the bundle with the system's roots.
fn explain(config: &Config) -> String {
    let certificate = config.proxy.ca_cert.display().to_string();
    let bundle = config.data_dir.join(crate::bundle::NAME).display().to_string();
    INSTALL.replace("{ca}", &certificate).replace("{bundle}", &bundle)
}

const INSTALL: &str = "\
The certificate (never the key) is
  {ca}
and, together with the system's roots, once `causeway serve` has run,
  {bundle}

Operating systems (browsers, .NET, Go, curl and git of the system, and most desktop programs follow them):
  Debian, Ubuntu   sudo cp '{ca}' /usr/local/share/ca-certificates/causeway.crt && sudo update-ca-certificates
  Fedora, RHEL     sudo cp '{ca}' /etc/pki/ca-trust/source/anchors/causeway.pem && sudo update-ca-trust
  Arch             sudo trust anchor '{ca}'
  macOS            sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain '{ca}'
  Windows          certutil -addstore -f Root \"{ca}\"      (as administrator)

Programs with a trust store of their own:
  Node             export NODE_EXTRA_CA_CERTS='{ca}'         (adds; also VS Code, Copilot, Claude Code)
  Codex            export CODEX_CA_CERTIFICATE='{ca}'
  Python           export SSL_CERT_FILE='{bundle}' REQUESTS_CA_BUNDLE='{bundle}' PIP_CERT='{bundle}'
  curl             export CURL_CA_BUNDLE='{bundle}'
  git              export GIT_SSL_CAINFO='{bundle}'          (or: git config --global http.sslCAInfo '{bundle}')
  Java             keytool -importcert -noprompt -cacerts -storepass changeit -alias causeway -file '{ca}'
  Firefox          Settings > Privacy & Security > Certificates > View Certificates > Authorities > Import
                   (or by policy: Certificates/ImportEnterpriseRoots = true)
  JetBrains IDEs   Settings > Tools > Server Certificates > Accepted certificates > +
  npm              npm config set cafile '{bundle}'

`causeway env --client NAME` prints these and the proxy variables for one client.
To undo: remove what was added and unset the variables; the SHA-256 is shown by `causeway ca show`.
";
