//! Follows what other processes on the same store have changed: tokens, and the wish that everyone reads the
//! configuration again. The store is asked twice a second, and at once where it tells by itself.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::store::StoreError;

/// How often the store is asked.
const EVERY: Duration = Duration::from_millis(500);

/// Goes on until dropped.
pub(crate) async fn keep(app: &App) {
    let heard = Notify::new();
    let follow = async {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = heard.notified() => {}
            }
            let outcome = look(app).await;
            match (&outcome, failing) {
                (Err(error), false) => tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "changes of tokens cannot be read; trying again"
                ),
                (Ok(()), true) => tracing::info!("changes of tokens are read again"),
                _ => {}
            }
            failing = outcome.is_err();
        }
    };
    tokio::join!(follow, app.store.listen(&heard));
}

/// Does what the store's numbers ask for.
async fn look(app: &App) -> Result<(), StoreError> {
    let now = app.store.versions().await?;
    app.tokens.follow(now.tokens).await?;
    if app.reloads.is_news(now.configuration).await {
        tracing::info!("another gateway asks for the configuration to be read again");
        // Who works it off logs what comes of it.
        let _ = app.reloads.ask().await;
    }
    Ok(())
}
