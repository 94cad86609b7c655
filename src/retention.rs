//! `causeway vacuum` and `causeway erase`: deleting records on purpose, also while a gateway runs.

use bridged::clock::Clock;

use crate::cli::Globals;
use crate::config;
use crate::failure::Failure;
use crate::records;

pub(crate) async fn vacuum(globals: &Globals) -> Result<(), Failure> {
    let retention = config::load(globals)?.bridge.retention;
    let store = records::open(globals).await?;
    let deleted = store
        .clean_up(retention, Clock::system().micros())
        .await
        .map_err(|error| Failure::because("the records cannot be deleted", error))?;
    println!(
        "{} interceptions lost their texts, {} are gone; their space is free.",
        deleted.texts, deleted.interceptions
    );
    Ok(())
}

pub(crate) async fn erase(globals: &Globals, user: String) -> Result<(), Failure> {
    let store = records::open(globals).await?;
    let erased = store
        .erase_user(user.clone())
        .await
        .map_err(|error| Failure::because("the texts cannot be erased", error))?;
    println!("The texts of {erased} interceptions of {user} are erased.");
    Ok(())
}
