//! `causeway audit`: proves that the records are those that were written.

use std::path::Path;

use bridged::store::ChainHead;

use crate::cli::{AuditCommand, Globals};
use crate::failure::Failure;
use crate::records;

pub(crate) async fn run(globals: &Globals, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify { checkpoint } => verify(globals, checkpoint.as_deref()).await,
        AuditCommand::Checkpoint { output } => checkpoint(globals, output.as_deref()).await,
    }
}

async fn verify(globals: &Globals, checkpoint: Option<&Path>) -> Result<(), Failure> {
    let earlier = match checkpoint {
        Some(path) => read(path)?,
        None => Vec::new(),
    };
    let store = records::open(globals).await?;
    let audit = store
        .audit(earlier)
        .await
        .map_err(|error| Failure::because("the records cannot be checked", error))?;
    for fault in &audit.faults {
        println!("{fault}");
    }
    if audit.count > 0 {
        return Err(Failure::new(format!(
            "{} faults in {} links of {} chains",
            audit.count, audit.links, audit.chains
        )));
    }
    println!(
        "{} links of {} chains are as they were written.",
        audit.links, audit.chains
    );
    Ok(())
}

async fn checkpoint(globals: &Globals, output: Option<&Path>) -> Result<(), Failure> {
    let store = records::open(globals).await?;
    let heads = store
        .chain_heads()
        .await
        .map_err(|error| Failure::because("the records cannot be read", error))?;
    let text = serde_json::to_string_pretty(&heads).unwrap_or_default();
    match output {
        None => println!("{text}"),
        Some(path) => std::fs::write(path, text + "\n")
            .map_err(|error| Failure::because(&format!("{} cannot be written", path.display()), error))?,
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<ChainHead>, Failure> {
    let text = std::fs::read(path)
        .map_err(|error| Failure::because(&format!("{} cannot be read", path.display()), error))?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::because(&format!("{} is no checkpoint", path.display()), error))
}
