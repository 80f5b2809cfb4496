//! One line in the log for every write, whoever made it and however it ended. Never a secret: a
//! token is called by its name.

use super::super::error::UploadError;
use crate::metrics::labels::{Label, UploadOutcome};
use crate::nix::key::ObjectKey;

/// An upload has ended. `len`: as announced, in bytes.
pub fn put(
    token: &str,
    key: &ObjectKey,
    len: Option<u64>,
    outcome: UploadOutcome,
    cause: Option<&UploadError>,
) {
    let outcome = outcome.as_str();
    match cause {
        None => tracing::info!(target: "narwharf::audit", token, %key, bytes = len, outcome, "put"),
        Some(cause) => {
            // What went wrong behind the gateway is told here in full, to the uploader only in kind.
            let cause = cause.in_full();
            tracing::info!(target: "narwharf::audit", token, %key, bytes = len, outcome, cause, "put");
        }
    }
}
