//! `causeway token`: gateway tokens, also while a gateway runs.

use bridged::clock::Clock;
use bridged::config::Span;
use bridged::store::{NewToken, Store, TokenLine};

use crate::cli::{Globals, TokenCommand};
use crate::config;
use crate::data_dir;
use crate::failure::Failure;
use crate::table::Table;

pub(crate) async fn run(globals: &Globals, command: TokenCommand) -> Result<(), Failure> {
    let config = config::load(globals)?;
    data_dir::make(&config.data_dir)?;
    let store = Store::open(&config.bridge.store)
        .await
        .map_err(|error| Failure::because("the record store cannot be opened", error))?;
    let failed = |error| Failure::because("the tokens cannot be changed", error);
    let now = Clock::system().micros();
    match command {
        TokenCommand::Create { user, role, expires } => {
            let expires_at = match expires.as_deref().map(|text| (text, Span::parse(text))) {
                None => None,
                Some((_, Some(span))) => Some(now.plus(span.duration())),
                Some((text, None)) => {
                    return Err(Failure::usage(format!(
                        "--expires: `{text}` is not a length of time: write 30d"
                    )));
                }
            };
            let user = user.trim().to_owned();
            if user.is_empty() || user.len() > 256 {
                return Err(Failure::usage("--user: a name has 1 to 256 characters"));
            }
            let new = NewToken {
                user,
                role,
                created_at: now,
                expires_at,
            };
            let (record, secret) = store.create_token(new).await.map_err(failed)?;
            eprintln!(
                "Token {} for {} ({role}). It is not shown again:",
                record.id, record.user
            );
            println!("{}", secret.expose());
        }
        TokenCommand::List { json } => {
            let lines: Vec<TokenLine> = store
                .tokens()
                .await
                .map_err(failed)?
                .iter()
                .map(TokenLine::from)
                .collect();
            print(&lines, json);
        }
        TokenCommand::Revoke { id } => {
            if !store.revoke_token(id, now).await.map_err(failed)? {
                return Err(Failure::new(format!(
                    "no live token has the id {id}: see `causeway token list`"
                )));
            }
            println!("Token {id} is revoked.");
        }
    }
    Ok(())
}

fn print(lines: &[TokenLine], json: bool) {
    if json {
        println!("{}", serde_json::to_string_pretty(lines).unwrap_or_default());
        return;
    }
    let mut table = Table::new(["ID", "USER", "ROLE", "CREATED", "EXPIRES", "REVOKED"]);
    for line in lines {
        let date = |date: &Option<String>| date.as_deref().map_or("-", short_date).to_owned();
        table.row([
            line.id.to_string(),
            line.user.clone(),
            line.role.to_string(),
            short_date(&line.created_at).to_owned(),
            date(&line.expires_at),
            date(&line.revoked_at),
        ]);
    }
    print!("{table}");
}

/// An RFC 3339 date to the second.
fn short_date(date: &str) -> &str {
    date.get(..19).unwrap_or(date)
}
