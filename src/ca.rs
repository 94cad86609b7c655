//! `causeway ca`: make, write out, describe.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use bridged::clock::{Clock, Micros};
use certs::Authority;

use crate::cli::{CaCommand, Encoding, Globals};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::{data_dir, gateway};

pub(crate) fn run(globals: &Globals, command: &CaCommand) -> Result<(), Failure> {
    let config = config::load(globals)?;
    let now = Clock::system().now();
    match command {
        CaCommand::Init => {
            data_dir::make(&config.data_dir)?;
            let (cert, key) = (&config.proxy.ca_cert, &config.proxy.ca_key);
            let authority = certs::files::create(cert, key, &gateway::common_name(), now)
                .map_err(|error| Failure::because("no CA was made", error))?;
            describe(&config, &authority);
            Ok(())
        }
        CaCommand::Export { format, out } => export(&load(&config, now)?, *format, out.as_deref()),
        CaCommand::Show => {
            describe(&config, &load(&config, now)?);
            Ok(())
        }
    }
}

fn load(config: &Config, now: SystemTime) -> Result<Authority, Failure> {
    let (cert, key) = (&config.proxy.ca_cert, &config.proxy.ca_key);
    if !cert.exists() && !key.exists() {
        return Err(Failure::new(format!("there is no CA at {}: run `causeway ca init`", cert.display())));
    }
    certs::files::load(cert, key, now).map_err(|error| Failure::because("the CA cannot be used", error))
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
