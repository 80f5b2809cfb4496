//! Varnish with its usual storage, memory, and enough of it. Its log is the one in shared memory that
//! it always writes; no program beside it turns that into a file.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::program;
use crate::bucket::Bucket;

/// Holds every object of a run.
const STORAGE: &str = "malloc,6G";

pub fn command(bucket: &Bucket, folder: &Path, address: SocketAddr) -> io::Result<Command> {
    let rules = folder.join("rules.vcl");
    fs::write(&rules, text(bucket))?;
    let program = program("varnishd").ok_or_else(|| io::Error::other("no varnishd"))?;
    let mut command = Command::new(program);
    command
        // In the foreground, by the user who runs it, without a port of its own for commands.
        .args(["-F", "-j", "none", "-T", "none", "-s", STORAGE])
        .args(["-p", "timeout_idle=120"])
        .arg("-n")
        .arg(folder.join("work"))
        .arg("-a")
        .arg(address.to_string())
        .arg("-f")
        .arg(rules);
    Ok(command)
}

fn text(bucket: &Bucket) -> String {
    let (address, name) = (bucket.address(), bucket.name());
    format!(
        "vcl 4.1;
backend bucket {{
  .host = \"{}\";
  .port = \"{}\";
  .first_byte_timeout = 60s;
}}
sub vcl_recv {{
  set req.url = \"/{name}\" + req.url;
  return (hash);
}}
sub vcl_backend_response {{
  set beresp.ttl = 1d;
  return (deliver);
}}
",
        address.ip(),
        address.port()
    )
}
