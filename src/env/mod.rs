//! `causeway env`: the settings that lead a client through the gateway, for its shell or its settings files.
//!
//! What is printed comes from `clients`. Tokens are not printed unless `--show-token` asks for it: the lines read
//! the token's file when they are run.

pub(crate) mod settings;
pub(crate) mod shell;

use crate::cli::{EnvOptions, Globals};
use crate::clients::place::Place;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::running;
use settings::{Mode, Settings};
use shell::{Shell, Token};

pub(crate) fn run(globals: &Globals, options: &EnvOptions) -> Result<(), Failure> {
    let config = config::load(globals)?;
    let mut place = place(&config);
    if let Some(proxy) = options.proxy {
        place.proxy = (proxy.ip().to_string(), proxy.port());
    }
    if !place.bundle.exists() {
        return Err(Failure::new("there is no CA yet: run `causeway serve` once"));
    }
    let token = token(&place, options)?;
    let mode = if options.base_url {
        Mode::BaseUrl
    } else {
        Mode::Proxy
    };
    let Some(settings) = Settings::of(options.client, mode) else {
        let title = options.client.map_or("it", |client| client.title);
        return Err(Failure::usage(format!(
            "{title} cannot be given a base URL: use proxy mode, without --base-url"
        )));
    };
    print!("{}", settings.print(options.shell, &place, &token));
    Ok(())
}

/// The gateway that runs on the data folder, else the one that is configured.
pub(crate) fn place(config: &Config) -> Place {
    match running::addresses(&config.data_dir) {
        Some(found) => Place::new(config, found.proxy, found.bridge),
        None => Place::new(config, config.proxy.listen, config.bridge.listen),
    }
}

fn token(place: &Place, options: &EnvOptions) -> Result<Token, Failure> {
    if options.show_token {
        let text = std::fs::read_to_string(&place.token);
        let text = text.map_err(|error| Failure::because("the token cannot be read", error))?;
        return Ok(Token::Text(text.trim().to_owned()));
    }
    Ok(match options.shell {
        Shell::Json => Token::Text("TOKEN".to_owned()),
        _ => Token::File(place.token.display().to_string()),
    })
}

/// The lines that lead every client here, for a POSIX shell.
pub(crate) fn exports(place: &Place) -> Vec<String> {
    let token = Token::File(place.token.display().to_string());
    let variables = settings::everything(place);
    let line = |(name, value): &(&str, String)| Shell::Bash.set(name, value, &token);
    variables.iter().map(line).collect()
}
