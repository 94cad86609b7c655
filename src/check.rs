//! `causeway check`: reads the configuration, reaches nothing.

use crate::cli::Globals;
use crate::config;
use crate::failure::Failure;
use crate::table::Table;

pub(crate) fn run(globals: &Globals) -> Result<(), Failure> {
    let config = config::load(globals)?;
    let file = config.file.as_deref().map_or("no file, built-in defaults".to_owned(), |file| file.display().to_string());
    println!("The configuration is good ({file}).\n");
    let mut table = Table::new(["PROVIDER", "KIND", "BASE URL", "CLAIMS", "KEYS"]);
    for provider in &config.bridge.providers {
        let hosts: Vec<String> = provider.instance.hosts.iter().map(ToString::to_string).collect();
        table.row([
            provider.instance.name.as_str().to_owned(),
            provider.instance.kind.name().to_owned(),
            provider.instance.base_url.to_string(),
            hosts.join(", "),
            provider.keys.len().to_string(),
        ]);
    }
    print!("{table}");
    Ok(())
}
