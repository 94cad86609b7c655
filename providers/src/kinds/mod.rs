//! The provider kinds, one file each, and the path rules they share.
//!
//! A rule table lists what base-URL mode lets through; everything it does not name is refused, because the request
//! may carry a central key with wide rights.

mod anthropic;
mod anthropic_compatible;
mod copilot;
mod openai;
mod openai_compatible;
mod simulated;

pub(crate) use anthropic::Anthropic;
pub(crate) use anthropic_compatible::AnthropicCompatible;
pub(crate) use copilot::Copilot;
pub(crate) use openai::OpenAi;
pub(crate) use openai_compatible::OpenAiCompatible;
pub(crate) use simulated::Simulated;

use http::Method;

use crate::api::{Api, Endpoint};
use crate::path;

/// One line of a passthrough allow-list.
struct Pass {
    methods: Methods,
    path: &'static str,
    extent: Extent,
}

/// Which methods a line allows.
#[derive(Clone, Copy)]
enum Methods {
    /// GET and HEAD.
    Read,
    /// Every method.
    Any,
}

/// Which paths a line allows.
#[derive(Clone, Copy)]
enum Extent {
    /// That path alone.
    Exact,
    /// That path and all below it.
    Tree,
    /// All below that path, not the path itself.
    Below,
}

const fn pass(methods: Methods, path: &'static str, extent: Extent) -> Pass {
    Pass {
        methods,
        path,
        extent,
    }
}

impl Pass {
    fn allows(&self, method: &Method, asked: &str) -> bool {
        let method_fits = match self.methods {
            Methods::Read => matches!(*method, Method::GET | Method::HEAD),
            Methods::Any => true,
        };
        let rest = path::below(asked, self.path);
        method_fits
            && match self.extent {
                Extent::Exact => asked == self.path,
                Extent::Tree => rest.is_some(),
                Extent::Below => rest.is_some_and(|rest| rest != "/"),
            }
    }
}

/// Whether a plain path is on the list.
fn allowed(list: &[Pass], method: &Method, asked: &str) -> bool {
    path::is_plain(asked) && list.iter().any(|line| line.allows(method, asked))
}

/// Looks a path up in a table of bridged paths; only POST asks a model something.
fn bridged(table: &[(&str, Api)], method: &Method, asked: &str) -> Endpoint {
    if *method != Method::POST {
        return Endpoint::Passthrough;
    }
    match table.iter().find(|(path, _)| *path == asked) {
        Some((_, api)) => Endpoint::Bridged(*api),
        None => Endpoint::Passthrough,
    }
}

/// The model in `/engines/{model}/completions`, with or without `/v1` before it.
pub(crate) fn engine_model(asked: &str) -> Option<&str> {
    let at = asked.find("/engines/")?;
    let rest = asked.get(at..)?.strip_prefix("/engines/")?;
    let model = rest.strip_suffix("/completions")?;
    (!model.is_empty() && !model.contains('/')).then_some(model)
}
