//! Routing: from what the client asked for to an instance, an endpoint and the upstream URL.
//!
//! Proxy mode recognises leniently, by the canonical path, and leaves the URL alone, so that no spelling of a path
//! escapes governance and nothing else on a claimed host changes. Base-URL mode is strict: what is neither bridged
//! nor on the kind's allow-list is no route.
//!
//! A WebSocket upgrade of the responses API is a GET on the wire; ask for it as a POST.

use std::fmt;

use http::Method;

use crate::api::Endpoint;
use crate::instance::{Instance, Scheme, normal_host, write_host, write_origin};
use crate::path;
use crate::registry::Registry;

/// Where a request goes and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The instance, as an index into [`Registry::instances`].
    pub index: usize,
    /// What the request is for.
    pub endpoint: Endpoint,
    /// The upstream URL.
    pub target: Target,
}

/// An upstream URL in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its scheme.
    pub scheme: Scheme,
    /// Its host: lower-case, no brackets, no trailing dot.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its path and query, beginning with `/`.
    pub path_and_query: String,
}

impl Target {
    /// The value of a `Host` header: brackets around IPv6, no default port.
    #[must_use]
    pub fn authority(&self) -> String {
        let mut out = String::with_capacity(self.host.len() + 8);
        // Writing to a String cannot fail.
        let _ = write_host(&mut out, &self.host);
        if self.port != self.scheme.default_port() {
            out = format!("{out}:{}", self.port);
        }
        out
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_origin(f, self.scheme, &self.host, self.port)?;
        f.write_str(&self.path_and_query)
    }
}

/// Why base-URL mode knows no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamedRouteError {
    /// No instance has that name.
    #[error("no provider has that name")]
    UnknownProvider,
    /// The instance neither bridges the path nor lets it pass.
    #[error("the provider has no such route")]
    UnknownRoute {
        /// The instance, as an index into [`Registry::instances`].
        index: usize,
    },
}

impl Registry {
    /// Routes a request of proxy mode; `None` if no instance claims the host.
    ///
    /// The target is the URL that was asked for, unless the instance redirects its hosts: then bridged requests
    /// go to its base URL.
    #[must_use]
    pub fn route_origin(
        &self,
        method: &Method,
        host: &str,
        port: u16,
        path_and_query: &str,
    ) -> Option<Route> {
        let index = self.claiming(host, port)?;
        let instance = self.instances().get(index)?;
        let (asked, query) = path::split_query(path_and_query);
        let canonical = path::canonical(asked);
        let (endpoint, relative) = recognise(instance, method, &canonical);
        let target = match endpoint {
            Endpoint::Bridged(_) if instance.redirects() => base_target(instance, relative, query),
            _ => origin_target(instance, host, port, path_and_query),
        };
        Some(Route {
            index,
            endpoint,
            target,
        })
    }

    /// Routes a request of base-URL mode; `path_and_query` is what follows `/<name>`.
    ///
    /// # Errors
    /// If there is no such instance, or it neither bridges the path nor lets it pass.
    pub fn route_named(
        &self,
        method: &Method,
        name: &str,
        path_and_query: &str,
    ) -> Result<Route, NamedRouteError> {
        let index = self.named(name).ok_or(NamedRouteError::UnknownProvider)?;
        let unknown = NamedRouteError::UnknownRoute { index };
        let instance = self.instances().get(index).ok_or(unknown)?;
        let (asked, query) = path::split_query(path_and_query);
        let asked = if asked.is_empty() { "/" } else { asked };
        let relative = match path::below(asked, "/v1") {
            Some(rest) if instance.kind.versioned_base() => rest,
            _ => asked,
        };
        let endpoint = instance.kind.endpoint(method, relative);
        if endpoint == Endpoint::Passthrough && !instance.kind.passes(method, relative) {
            return Err(unknown);
        }
        Ok(Route {
            index,
            endpoint,
            target: base_target(instance, relative, query),
        })
    }
}

/// Finds the endpoint and the path relative to the base URL.
fn recognise<'a>(instance: &Instance, method: &Method, asked: &'a str) -> (Endpoint, &'a str) {
    let prefixes =
        std::iter::once(instance.base_url.path.as_str()).chain(instance.kind.prefixes().iter().copied());
    let candidates = prefixes
        .filter_map(|prefix| path::below(asked, prefix))
        .chain(std::iter::once(asked));
    for relative in candidates {
        let endpoint = instance.kind.endpoint(method, relative);
        if endpoint != Endpoint::Passthrough {
            return (endpoint, relative);
        }
    }
    (Endpoint::Passthrough, asked)
}

fn base_target(instance: &Instance, relative: &str, query: &str) -> Target {
    let base = &instance.base_url;
    Target {
        scheme: base.scheme,
        host: base.host.clone(),
        port: base.port,
        path_and_query: [base.path.as_str(), relative, query].concat(),
    }
}

fn origin_target(instance: &Instance, host: &str, port: u16, path_and_query: &str) -> Target {
    let base = &instance.base_url;
    let host = normal_host(host).to_ascii_lowercase();
    let scheme = match port {
        _ if host == base.host && port == base.port => base.scheme,
        80 => Scheme::Http,
        _ => Scheme::Https,
    };
    let slash = if path_and_query.starts_with(['/', '*']) {
        ""
    } else {
        "/"
    };
    Target {
        scheme,
        host,
        port,
        path_and_query: [slash, path_and_query].concat(),
    }
}

#[cfg(test)]
mod tests;
