//! `causeway doctor`: why a client does not work, found out from where the client stands and from the gateway's own
//! view.
//!
//! In comes what a client would see: configuration, files, environment, the running gateway. Out go findings, each
//! wrong one with its cure. Checks are small and listed in one table (`CHECKS`); one that cannot be made because an
//! earlier one failed says nothing. No finding ever holds a token.

mod files;
mod gateway;
mod proxy_url;
mod subject;
mod tls;
mod troubles;
mod upstream;
mod variables;

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

use crate::cli::{DoctorOptions, Globals};
use crate::failure::Failure;
use subject::Subject;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Hint,
    /// Clients fail for it.
    Wrong,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    level: Level,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn fine(text: impl Into<String>) -> Finding {
        Finding {
            level: Level::Fine,
            text: text.into(),
            cure: None,
        }
    }

    fn hint(text: impl Into<String>) -> Finding {
        Finding {
            level: Level::Hint,
            ..Finding::fine(text)
        }
    }

    fn wrong(text: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding {
            level: Level::Wrong,
            text: text.into(),
            cure: Some(cure.into()),
        }
    }
}

type Findings<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + 'a>>;

/// A check with its name.
struct Check {
    name: &'static str,
    make: for<'a> fn(&'a Subject) -> Findings<'a>,
}

/// A check from a plain or an asynchronous function.
macro_rules! check {
    ($name:literal, await $function:path) => {
        Check {
            name: $name,
            make: |subject| Box::pin($function(subject)),
        }
    };
    ($name:literal, $function:path) => {
        Check {
            name: $name,
            make: |subject| Box::pin(async move { $function(subject) }),
        }
    };
}

/// Every check, from the gateway outwards.
const CHECKS: [Check; 13] = [
    check!("gateway", await gateway::runs),
    check!("token", await gateway::knows_the_token),
    check!("ca", files::ca),
    check!("bundle", files::bundle),
    check!("ca in use", await gateway::signs_with_the_ca),
    check!("variables", await variables::lead_here),
    check!("exceptions", variables::except_no_provider),
    check!("trust", variables::trust_the_ca),
    check!("interception", await gateway::intercepts),
    check!("websocket", await gateway::passes_upgrades),
    check!("upstream", await upstream::are_reachable),
    check!("clock", await upstream::agree_on_the_time),
    check!("recent troubles", troubles::unsolved),
];

/// A finding with the check that made it.
#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

pub(crate) async fn run(globals: &Globals, options: &DoctorOptions) -> Result<(), Failure> {
    let subject = Subject::look(globals, options.client).await?;
    let mut lines = Vec::new();
    for Check { name, make } in &CHECKS {
        let findings = make(&subject).await;
        lines.extend(findings.into_iter().map(|finding| Line { check: name, finding }));
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&lines).unwrap_or_default());
    } else {
        lines.iter().for_each(print);
    }
    match lines
        .iter()
        .filter(|line| line.finding.level == Level::Wrong)
        .count()
    {
        0 => Ok(()),
        1 => Err(Failure::new("one thing is wrong")),
        wrong => Err(Failure::new(format!("{wrong} things are wrong"))),
    }
}

fn print(line: &Line) {
    let mark = match line.finding.level {
        Level::Fine => "ok",
        Level::Hint => "note",
        Level::Wrong => "WRONG",
    };
    println!("{mark:6} {:16} {}", line.check, line.finding.text);
    if let Some(cure) = &line.finding.cure {
        println!("{:23} -> {cure}", "");
    }
}
