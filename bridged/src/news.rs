//! Follows what other processes on the same store have changed: tokens, and the wish that everyone reads the
//! configuration again. The store is asked twice a second, and at once where it tells by itself.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::outage::Outage;
use crate::store::StoreError;

/// How often the store is asked.
const EVERY: Duration = Duration::from_millis(500);

/// What the log says when it cannot, and when it can again.
const LOGGED: (&str, &str) = (
    "changes of tokens cannot be read; trying again",
    "changes of tokens are read again",
);

/// Goes on until dropped.
pub(crate) async fn keep(app: &App) {
    let heard = Notify::new();
    let follow = async {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut outage = Outage::default();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = heard.notified() => {}
            }
            outage.note(&look(app).await, LOGGED);
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
