//! Why a narinfo is refused. Uploaders are shown these lines as they are.

use super::super::store_path::StorePathHash;
use super::{MAX_LEN, MAX_SIGNATURES};

/// Why a text is not a narinfo that clients and we can rely on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarinfoError {
    #[error("a narinfo has at most {MAX_LEN} bytes, this one has {len}")]
    TooLong { len: usize },
    #[error("a narinfo must be UTF-8 text")]
    NotText,
    #[error("line {line}: expected a field name, a colon, one space and a value")]
    NotAField { line: usize },
    #[error("line {line}: every line, also the last, must end with a newline")]
    Unterminated { line: usize },
    #[error("line {line}: control characters, carriage returns among them, are not allowed")]
    ControlCharacter { line: usize },
    #[error("line {line}: {field} is given a second time")]
    Repeated { line: usize, field: String },
    #[error("line {line}: {field} must be {expected}")]
    Field {
        line: usize,
        field: String,
        expected: String,
    },
    #[error("line {line}: there are more than {MAX_SIGNATURES} Sig lines")]
    TooManySignatures { line: usize },
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("StorePath has the hash {found}, but the narinfo is named {key}.narinfo")]
    WrongKey {
        key: StorePathHash,
        found: StorePathHash,
    },
    #[error("URL must be nar/<file>.nar or nar/<file>.nar.<extension>")]
    ForeignUrl,
}
