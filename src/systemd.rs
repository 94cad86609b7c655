//! What systemd passes to a service, and what it hears from it.
//!
//! In come sockets that listen already (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`), each for the port that its name
//! says; a socket whose port is not certain is refused, never guessed. Out go readiness, reloads and the end, to
//! `NOTIFY_SOCKET`. Without these variables nothing happens. The sockets go on to `ports`.

use std::collections::BTreeMap;
use std::net::TcpListener;

use crate::failure::Failure;
use crate::ports::Port;

/// The sockets that were passed, by port.
#[derive(Debug, Default)]
pub(crate) struct Sockets(BTreeMap<Port, TcpListener>);

impl Sockets {
    /// Takes what this process was started with; the next call finds nothing. To be called before anything else
    /// is started: it changes the environment.
    #[cfg(target_os = "linux")]
    pub(crate) fn inherited() -> Result<Sockets, Failure> {
        // Without a process's number they may be meant for anyone.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Sockets::default());
        }
        let mut passed = listenfd::ListenFd::from_env();
        if passed.len() == 0 {
            return Ok(Sockets::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").map_err(|_| unnamed("LISTEN_FDNAMES is missing"))?;
        let names: Vec<&str> = names.split(':').collect();
        if names.len() != passed.len() {
            let (names, sockets) = (names.len(), passed.len());
            return Err(unnamed(&format!("{names} names for {sockets} sockets")));
        }
        let mut sockets = Sockets::default();
        for (index, name) in names.into_iter().enumerate() {
            let taken = passed.take_tcp_listener(index);
            sockets.add(name, taken.map_err(|error| unusable(name, &error.to_string()))?)?;
        }
        Ok(sockets)
    }

    /// Takes what this process was started with: nothing, where there is no systemd.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn inherited() -> Result<Sockets, Failure> {
        Ok(Sockets::default())
    }

    #[cfg(target_os = "linux")]
    fn add(&mut self, name: &str, socket: Option<TcpListener>) -> Result<(), Failure> {
        let port = Port::ALL.into_iter().find(|port| port.name() == name);
        let port = port.ok_or_else(|| unnamed(&format!("`{name}` is none of the ports")))?;
        let socket = socket.ok_or_else(|| unusable(name, "it is not there"))?;
        // With `Accept=yes` it is a connection.
        if !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) {
            return Err(unusable(name, "it does not listen"));
        }
        match self.0.insert(port, socket) {
            None => Ok(()),
            Some(_) => Err(unnamed(&format!("`{name}` comes twice"))),
        }
    }

    /// The socket for `port`, if one was passed.
    pub(crate) fn take(&mut self, port: Port) -> Option<TcpListener> {
        self.0.remove(&port)
    }
}

#[cfg(target_os = "linux")]
fn unnamed(what: &str) -> Failure {
    Failure::usage(format!(
        "passed sockets cannot be told apart: {what}; give each a socket unit with FileDescriptorName=proxy, \
         proxy-tls, bridge or metrics"
    ))
}

#[cfg(target_os = "linux")]
fn unusable(name: &str, why: &str) -> Failure {
    Failure::usage(format!(
        "the passed socket `{name}` cannot be used: {why}; it must be ListenStream=ADDRESS:PORT with Accept=no"
    ))
}

/// What systemd hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Every listener serves.
    Ready,
    /// The configuration is read again; `Ready` follows, whatever comes of it.
    Reloading,
    /// The end has begun.
    Stopping,
}

/// Tells systemd, if it listens. A message that cannot be sent is a warning in the log.
#[cfg(target_os = "linux")]
pub(crate) fn notify(moment: Moment) {
    use sd_notify::NotifyState;
    let sent = match moment {
        Moment::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Moment::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        Moment::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, ?moment, "systemd cannot be told");
    }
}

/// Tells nobody: there is no systemd.
#[cfg(not(target_os = "linux"))]
pub(crate) fn notify(_moment: Moment) {}
