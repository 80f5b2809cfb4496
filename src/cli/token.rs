//! `narwharf token`: a new token and its hash, a line each, so that a script can read them.

use std::io::Write;
use std::process::ExitCode;

use secrecy::ExposeSecret;

use crate::config::token;

/// The token and the hash go to standard output; what to do with them, to standard error.
pub fn run() -> anyhow::Result<ExitCode> {
    let token = token::random()?;
    let hash = token::hex(&token::sha256(&token));
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}\n{hash}", token.expose_secret())?;
    out.flush()?;
    eprint!(
        "
# The first line is for the client. The second is for a settings file of narwharf:
[[auth.token]]
name = \"ci\"
sha256 = \"{hash}\"
scopes = [\"read\", \"write\"]
"
    );
    Ok(ExitCode::SUCCESS)
}
