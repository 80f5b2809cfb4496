//! The one table from causes to statuses.
//!
//! There is no `_` arm, so whoever adds a cause must decide its status here. What decides is how
//! Nix takes a status: 404 is "not here, for an hour", 429 makes some versions sleep for minutes,
//! and an upload of an old version that is told to come back never does (`Client`).

use actix_web::http::StatusCode;

use crate::gateway::error::{GatewayError, UploadError};
use crate::metrics::labels::UnknownReason;
use crate::range::Unsatisfiable;

use super::auth::{Denied, Scope};
use super::client::Client;

/// Seconds after which a client may come back: what Nix ≥ 2.35 takes as the floor of its next wait.
pub const RETRY_AFTER: &str = "8";

/// Longest request target, in bytes.
pub const MAX_TARGET: usize = 2048;

/// Most header fields of a request. Nix sends seven.
pub const MAX_FIELDS: usize = 64;

/// Longest head of a request without its first line, in bytes. What is much longer is refused by
/// the HTTP codec before it gets here.
pub const MAX_HEAD: usize = 16 * 1024;

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("no such object here")]
    Absent,
    #[error("no such path; this is a Nix binary cache, see /nix-cache-info")]
    NoRoute,
    #[error("this path does not take that method")]
    Method { allow: &'static str },
    #[error("uploads are off: configure a write token (auth.upload_token or [[auth.token]])")]
    UploadsOff { allow: &'static str },
    #[error("the request target is longer than {MAX_TARGET} bytes")]
    TargetTooLong,
    #[error("the request's head has more than {MAX_FIELDS} fields or {MAX_HEAD} bytes")]
    HeadTooLarge,
    #[error("{}", denied_text(*.denied))]
    Denied { denied: Denied, scope: Scope },
    #[error("{0}")]
    Unsatisfiable(Unsatisfiable),
    #[error("the object has changed")]
    PreconditionFailed,
    #[error("not known right now; come back in a few seconds")]
    Unknown(GatewayError),
    #[error("{0}")]
    Upload(UploadError),
    #[error("the stored object's Content-Encoding cannot be taken off for this client")]
    NotDecodable,
}

impl Refusal {
    /// The status this client can make use of.
    pub fn status(&self, client: Client) -> StatusCode {
        match self {
            Self::Absent | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Method { .. } | Self::UploadsOff { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Denied {
                denied: Denied::Missing | Denied::TooMany,
                ..
            } => StatusCode::UNAUTHORIZED,
            Self::Denied {
                scope: Scope::Read, ..
            } => StatusCode::UNAUTHORIZED,
            Self::Denied {
                scope: Scope::Write | Scope::Admin,
                ..
            } => StatusCode::FORBIDDEN,
            Self::Unsatisfiable(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::Unknown(cause) => match cause {
                // Not known, so never a 404.
                GatewayError::Origin(_)
                | GatewayError::Corrupt { .. }
                | GatewayError::Resting { .. }
                | GatewayError::NoAnswer { .. }
                | GatewayError::Disk { .. } => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Upload(cause) => upload_status(cause, client),
            Self::NotDecodable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Why nobody could say, where that is the reason.
    pub fn unknown_reason(&self) -> Option<UnknownReason> {
        match self {
            Self::Unknown(cause) => Some(cause.reason()),
            Self::NotDecodable => Some(UnknownReason::Corrupt),
            Self::Upload(UploadError::Bucket(cause)) => Some(cause.reason()),
            Self::Upload(UploadError::Busy | UploadError::InLine { .. } | UploadError::NoRoom) => {
                Some(UnknownReason::Busy)
            }
            Self::Upload(UploadError::Disk(_) | UploadError::Lost) => Some(UnknownReason::Internal),
            Self::Upload(_)
            | Self::Absent
            | Self::NoRoute
            | Self::Method { .. }
            | Self::UploadsOff { .. }
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::Denied { .. }
            | Self::Unsatisfiable(_)
            | Self::PreconditionFailed => None,
        }
    }
}

fn upload_status(cause: &UploadError, client: Client) -> StatusCode {
    match cause {
        UploadError::LengthMissing => StatusCode::LENGTH_REQUIRED,
        UploadError::TooLarge { .. } | UploadError::UnpacksTooLarge { .. } => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        UploadError::Cut { .. }
        | UploadError::Idle(_)
        | UploadError::Slow
        | UploadError::WrongHash { .. }
        | UploadError::Narinfo(_)
        | UploadError::ForeignUrl { .. }
        | UploadError::Untrusted { .. }
        | UploadError::BadEncoding(_) => StatusCode::BAD_REQUEST,
        UploadError::Conflict { .. }
        | UploadError::MissingNar { .. }
        | UploadError::OtherNar { .. } => StatusCode::CONFLICT,
        UploadError::Encoding(_) | UploadError::EncodedNar(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        UploadError::NoRoom
        | UploadError::Disk(_)
        | UploadError::Bucket(_)
        | UploadError::Busy
        | UploadError::InLine { .. }
        | UploadError::Lost => match client {
            Client::Nix | Client::Other => StatusCode::SERVICE_UNAVAILABLE,
            // It cannot send the body again, so it is told to stop rather than to come back.
            Client::OldNix => StatusCode::UNPROCESSABLE_ENTITY,
        },
    }
}

fn denied_text(denied: Denied) -> &'static str {
    match denied {
        Denied::Missing => {
            "credentials are needed: a token as Bearer, or as the password in a netrc file"
        }
        Denied::Malformed => {
            "the credentials cannot be read: send a token as Bearer, or as the password in a netrc file"
        }
        Denied::Unknown | Denied::TooMany => "this token is not known here",
        Denied::Scope => "this token does not allow that",
        Denied::Namespace => "this token is for other namespaces",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::error::GatewayError;
    use crate::nix::key::ObjectKey;

    fn unknown() -> GatewayError {
        let key = ObjectKey::from_stored("nar/a.nar").unwrap();
        GatewayError::Corrupt {
            key,
            why: "test".into(),
        }
    }

    #[test]
    fn not_knowing_is_never_absence() {
        for client in [Client::Nix, Client::OldNix, Client::Other] {
            assert_eq!(Refusal::Unknown(unknown()).status(client), 503);
        }
    }

    #[test]
    fn a_failed_bucket_is_told_so_that_the_client_can_use_it() {
        let refused = Refusal::Upload(UploadError::Bucket(unknown()));
        assert_eq!(refused.status(Client::Nix), 503);
        assert_eq!(refused.status(Client::OldNix), 422);
        assert_eq!(refused.status(Client::Other), 503);
    }

    #[test]
    fn missing_credentials_are_asked_for_and_wrong_ones_are_refused() {
        let denied = |denied, scope| Refusal::Denied { denied, scope }.status(Client::Nix);
        assert_eq!(denied(Denied::Missing, Scope::Write), 401);
        assert_eq!(denied(Denied::Unknown, Scope::Write), 403);
        assert_eq!(denied(Denied::Unknown, Scope::Read), 401);
    }
}
