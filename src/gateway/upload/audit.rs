//! One line in the log for every write, whoever made it and however it ended. Never a secret: a
//! token is called by its name.

use crate::metrics::labels::{Label, UploadOutcome};
use crate::nix::key::Key;

use super::super::error::UploadError;

/// An upload has ended. `len`: as announced, in bytes.
pub fn written(
    token: &str,
    key: &Key,
    len: Option<u64>,
    outcome: UploadOutcome,
    cause: Option<&UploadError>,
) {
    let key = key.object();
    let outcome = outcome.as_str();
    match cause {
        None => tracing::info!(target: "narwharf::audit", token, %key, bytes = len, outcome, "put"),
        Some(cause) => {
            tracing::info!(target: "narwharf::audit", token, %key, bytes = len, outcome, %cause, "put");
        }
    }
}
