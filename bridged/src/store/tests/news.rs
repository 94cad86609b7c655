//! Processes on one database learn what the others change.

use std::time::Duration;

use tokio::sync::Notify;

use super::*;

pub(super) async fn changes_are_told_to_who_listens(home: Home) {
    let (one, other) = (again(&home).await, again(&home).await);
    let heard = Notify::new();
    let told = async {
        // The first word is that listening has begun.
        heard.notified().await;
        let before = other.versions().await.unwrap();
        let number = one.tell(Topic::Configuration).await.unwrap();
        heard.notified().await;
        let after = other.versions().await.unwrap();
        assert_eq!((after.tokens, after.configuration), (before.tokens, number));
        assert!(number > before.configuration);
    };
    let told = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            () = other.listen(&heard) => panic!("listening ended"),
            () = told => {}
        }
    });
    match home.location {
        StoreLocation::Postgres(_) => told.await.expect("a server tells of changes"),
        // A file does not tell; it is asked.
        StoreLocation::Sqlite(_) => {
            drop(told);
            let number = one.tell(Topic::Configuration).await.unwrap();
            assert_eq!(other.versions().await.unwrap().configuration, number);
        }
    }
}
