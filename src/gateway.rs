//! A whole gateway in one process: CA, store, first token, the three listeners, and their end.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bridged::app::{App, PublicCa, Running};
use bridged::clock::Clock;
use bridged::secret::{self, Secret};
use bridged::store::NewToken;
use bridged::token::{self, Role};
use bridged::{bridge, monitor};
use certs::{Authority, Origin};
use proxyd::{Listeners, Proxy};

use crate::authority;
use crate::bundle;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::ports::Ports;
use crate::systemd::Sockets;

/// How long requests in flight may take to end.
const GRACE: Duration = Duration::from_secs(30);

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) app: Arc<App>,
    pub(crate) addresses: Addresses,
    pub(crate) ca: CaFiles,
    /// The first admin token's file.
    pub(crate) token_file: PathBuf,
    /// Whether this start made CA or token.
    pub(crate) is_first: bool,
    /// What it was started with.
    config: Config,
    proxy: Arc<Proxy>,
    running: Running,
}

/// Where a gateway listens.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Addresses {
    pub(crate) proxy: SocketAddr,
    /// The proxy's listener with TLS.
    pub(crate) proxy_tls: Option<SocketAddr>,
    pub(crate) bridge: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Addresses {
    fn listeners(&self) -> Listeners {
        Listeners::new([self.bridge, self.metrics].into_iter().chain(self.of_proxy()))
    }

    /// Where the proxy listens.
    pub(crate) fn of_proxy(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        std::iter::once(self.proxy).chain(self.proxy_tls)
    }
}

/// The CA's public files.
#[derive(Clone, Debug)]
pub(crate) struct CaFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) fingerprint: String,
}

impl Gateway {
    /// Starts everything; the data folder must exist.
    pub(crate) async fn start(config: Config) -> Result<Gateway, Failure> {
        Gateway::start_on(config, Sockets::default()).await
    }

    /// Starts everything, on the sockets that were passed where there are any.
    pub(crate) async fn start_on(config: Config, sockets: Sockets) -> Result<Gateway, Failure> {
        // Each connection takes two; the usual soft limit of 1,024 would be the first thing to run out.
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
        let clock = Clock::system();
        let (authority, origin) = authority::load_or_create(&config, clock.now())?;
        let ca = ca_files(&config, &authority)?;
        // All ports are taken before anything is made, so that a busy one leaves nothing half started.
        let ports = Ports::open(&config, sockets).await?;
        let addresses = ports.addresses()?;
        let public = PublicCa {
            pem: authority.certificate_pem().to_owned(),
        };
        let (app, running) = App::start(config.bridge.clone(), clock, Some(public))
            .await
            .map_err(|error| Failure::because("the gateway cannot start", error))?;
        let token_file = config.data_dir.join("token");
        let made = first_token_or_later(&app, &token_file).await?;
        if made {
            // From now on it is good even while the store is away.
            app.tokens.refresh().await;
        }
        let proxy = Proxy::new(
            app.clone(),
            config.proxy.clone(),
            authority,
            addresses.listeners(),
        )
        .map_err(|error| Failure::because("the proxy cannot start", error))?;
        if let Some(tls_port) = ports.proxy_tls {
            app.tracker.spawn(proxy.clone().run_tls(tls_port));
        }
        app.tracker.spawn(proxy.clone().run(ports.proxy));
        app.tracker.spawn(bridge::run(app.clone(), ports.bridge));
        app.tracker.spawn(monitor::run(app.clone(), ports.metrics));
        let is_first = made || origin == Origin::Created;
        Ok(Gateway {
            app,
            addresses,
            ca,
            token_file,
            is_first,
            config,
            proxy,
            running,
        })
    }

    /// Runs with `config` and with the CA that is in its files now. Connections that are open keep their
    /// certificates, requests in flight end as they began. Returns the keys whose new values need a restart.
    pub(crate) fn reload(&self, config: &Config) -> Result<Vec<&'static str>, Failure> {
        // Everything that can fail comes first: an unusable CA must not leave half a change behind.
        let unusable = |error: &dyn Error| Failure::because("the configuration cannot be used", error);
        config::refuse_exposure(&config.proxy, self.addresses.of_proxy())?;
        let authority = authority::load(config, self.app.clock.now())?;
        let public = PublicCa {
            pem: authority.certificate_pem().to_owned(),
        };
        let prepared = self.proxy.prepare(config.proxy.clone(), authority);
        let prepared = prepared.map_err(|error| unusable(&error))?;
        let mut fixed = self
            .app
            .reload(&config.bridge)
            .map_err(|error| unusable(&error))?;
        self.proxy.switch_to(prepared, self.app.snapshot());
        fixed.extend(self.config.proxy.fixed_keys(&config.proxy));
        self.app.publish_ca(public.clone());
        // Clients that are started from now on trust it; who reads the file is no part of this process.
        if let Err(error) = bundle::write(&config.data_dir, &public.pem) {
            tracing::error!(%error, "the trust bundle cannot be written");
        }
        Ok(fixed)
    }

    /// Ends it: no new connections, what is in flight may finish, records are written.
    pub(crate) async fn stop(self) {
        self.running.stop(&self.app, GRACE).await;
    }
}

fn ca_files(config: &Config, authority: &Authority) -> Result<CaFiles, Failure> {
    bundle::write(&config.data_dir, authority.certificate_pem())
        .map_err(|error| Failure::because("the trust bundle cannot be written", error))?;
    Ok(CaFiles {
        certificate: config.proxy.ca_cert.clone(),
        fingerprint: authority.fingerprint(),
    })
}

/// How long to wait before the record store is asked again for the first token.
const AGAIN: Duration = Duration::from_secs(1);

/// The first token now, or, where the record store is away, once it is back.
async fn first_token_or_later(app: &Arc<App>, path: &Path) -> Result<bool, Failure> {
    match app.store.versions().await {
        Err(error) if error.is_away() => {}
        _ => return first_token(app, path).await,
    }
    let (app, path) = (app.clone(), path.to_owned());
    app.tracker.clone().spawn(async move {
        while !app.stopping.is_cancelled() && first_token(&app, &path).await.is_err() {
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = app.stopping.cancelled() => {}
            }
        }
    });
    Ok(false)
}

/// Makes sure that the token in `path` is good, making it on the first start. True when it was made.
async fn first_token(app: &App, path: &Path) -> Result<bool, Failure> {
    let failed = |error| Failure::because("the admin token cannot be stored", error);
    let new = NewToken {
        user: "admin".to_owned(),
        role: Role::Admin,
        created_at: app.clock.micros(),
        expires_at: None,
    };
    match std::fs::read_to_string(path) {
        // The file outlives the database; a token that was revoked stays revoked.
        Ok(text) => {
            let secret = Secret::new(text.trim());
            if app
                .store
                .token_by_hash(token::hash(secret.expose()))
                .await
                .map_err(failed)?
                .is_none()
            {
                app.store.add_token(new, &secret).await.map_err(failed)?;
            }
            Ok(false)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (_, secret) = app.store.create_token(new).await.map_err(failed)?;
            secret::write_private(path, secret.expose())
                .map_err(|error| Failure::because(&format!("{} cannot be written", path.display()), error))?;
            Ok(true)
        }
        Err(error) => Err(Failure::because(
            &format!("{} cannot be read", path.display()),
            error,
        )),
    }
}
