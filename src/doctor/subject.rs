//! What is looked at: one gateway as one client sees it.

use std::collections::HashMap;
use std::io;
use std::time::SystemTime;

use bridged::clock::Clock;

use super::troubles::{self, Trouble};
use crate::cli::Globals;
use crate::clients::Client;
use crate::clients::place::Place;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::probe::{self, Answer};
use crate::running::{self, Running};

/// A gateway and its client.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) config: Config,
    pub(super) place: Place,
    /// The gateway, if one holds the data folder and answers.
    pub(super) running: Option<Running>,
    /// The gateway, if one holds the data folder and does not answer: it is asked no more.
    pub(super) hangs: Option<(Running, io::Error)>,
    /// What the gateway says of itself.
    pub(super) readiness: Option<Answer>,
    /// The client that was asked about.
    pub(super) client: Option<&'static Client>,
    pub(super) now: SystemTime,
    /// The first token.
    pub(super) token: Option<String>,
    /// What the gateway noticed of clients that failed.
    pub(super) troubles: Option<Vec<Trouble>>,
    environment: HashMap<String, String>,
}

impl Subject {
    pub(super) async fn look(globals: &Globals, client: Option<&'static Client>) -> Result<Subject, Failure> {
        let config = config::load(globals)?;
        let place = crate::env::place(&config);
        let (running, readiness, hangs) = match running::addresses(&config.data_dir) {
            None => (None, None, None),
            Some(running) => match probe::get(running.metrics, "/readyz", None).await {
                Ok(answer) => (Some(running), Some(answer), None),
                Err(error) => (None, None, Some((running, error))),
            },
        };
        let token = std::fs::read_to_string(&place.token).ok();
        let token = token.map(|token| token.trim().to_owned());
        let troubles = match (&running, &token) {
            (Some(running), Some(token)) => troubles::read(running, token).await,
            _ => None,
        };
        Ok(Subject {
            place,
            client,
            now: Clock::system().now(),
            token,
            troubles,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            running,
            hangs,
            readiness,
            config,
        })
    }

    /// A variable of the environment that is not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The gateway with the token that its clients use, where both are there.
    pub(super) fn reachable(&self) -> Option<(&Running, &str)> {
        Some((self.running.as_ref()?, self.token.as_deref()?))
    }

    /// A host that is intercepted, as HOST:PORT.
    pub(super) fn claimed(&self) -> Option<(&str, u16)> {
        let providers = self.config.bridge.providers.iter();
        let mut claims = providers.flat_map(|provider| &provider.instance.hosts);
        claims
            .next()
            .map(|claim| (claim.host.as_str(), claim.port.unwrap_or(443)))
    }

    /// How settings for the client are printed.
    pub(super) fn env_command(&self) -> String {
        let client = self.client.map(|client| format!(" --client {}", client.name));
        format!("causeway env{}", client.unwrap_or_default())
    }
}
