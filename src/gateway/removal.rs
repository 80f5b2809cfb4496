//! An object is removed: from the bucket, if that is asked for, and then from every tier.
//!
//! In this order nobody who asks in between can bring it back into a tier for longer than it takes,
//! and a bucket that fails leaves everything as it was. A fill that was under way keeps its readers
//! and is not kept itself: one that has not begun to write finds that it was forgotten, one that has
//! is told so when it would become a blob.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::error::GatewayError;
use super::flights::NoAnswer;
use crate::asker::on_behalf;
use crate::nix::key::{Key, ObjectKey};

/// How long a removal waits for an upload of the same key to end.
const TURN_PATIENCE: Duration = Duration::from_secs(60);

impl Gateway {
    /// Removes an object, which need not be there. `by`: the name of the token, for the log.
    ///
    /// Errors: the bucket did not confirm, and nothing was forgotten here.
    pub async fn remove(
        self: &Arc<Self>,
        key: &Key,
        from_bucket: bool,
        by: &str,
    ) -> Result<(), GatewayError> {
        let (gateway, at) = (Arc::clone(self), key.object().clone());
        let removing = self.engine.spawn(on_behalf(async move {
            let turn = gateway.room.turns.take(&at, TURN_PATIENCE).await;
            let _turn = turn.ok_or_else(|| no_answer(&at, NoAnswer::Late(TURN_PATIENCE)))?;
            if from_bucket {
                gateway.origin.remove(&at).await?;
            }
            gateway.forget(&at).await
        }));
        let at = key.object();
        let lost = |_| Err(no_answer(at, NoAnswer::Lost));
        let removed = removing.await.unwrap_or_else(lost);
        let outcome = if removed.is_ok() { "removed" } else { "failed" };
        tracing::info!(target: "narwharf::audit", token = by, key = %at, from_bucket, outcome, "delete");
        removed
    }

    async fn forget(&self, at: &ObjectKey) -> Result<(), GatewayError> {
        // Before the blob goes: whoever reserves room for it after that asks whether it is forgotten.
        self.fills.forget(at);
        let (disk, blob) = (self.disk.clone(), at.clone());
        let removing = tokio::task::spawn_blocking(move || disk.remove(&blob));
        // A disk may take its time; what memory knows is gone at once.
        self.forget_in_memory(at);
        let removed = removing.await;
        // A blob that was looked up meanwhile would come into memory to stay.
        self.forget_in_memory(at);
        // Whether there was a blob is nobody's concern here.
        removed.map(drop).map_err(|_| no_answer(at, NoAnswer::Lost))
    }

    /// And in the index, which no lookup after this may find it in.
    fn forget_in_memory(&self, at: &ObjectKey) {
        self.epochs.written(at, || {
            self.memory.forget(at);
            self.disk.forget_document(at);
            self.room.present.forget(at);
        });
        self.lookups.forget(at);
    }
}

fn no_answer(key: &ObjectKey, why: NoAnswer) -> GatewayError {
    GatewayError::NoAnswer {
        key: key.clone(),
        why,
    }
}
