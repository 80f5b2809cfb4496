//! nginx with `proxy_cache`, files sent by `sendfile` and connections to the bucket kept.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{cores, program};
use crate::bucket::Bucket;

/// Settings that make a difference to what a hit costs.
#[derive(Clone, Copy)]
pub enum Setup {
    /// As somebody would who wants it fast: files kept open, a buffered access log.
    Tuned,
    /// As Debian's package has them (nginx.conf of nginx-common): neither.
    Packaged,
}

impl Setup {
    fn text(self) -> &'static str {
        match self {
            Self::Tuned => {
                "access_log access.log combined buffer=64k flush=1s;
  open_file_cache max=20000 inactive=1h;
  open_file_cache_valid 1h;"
            }
            Self::Packaged => "access_log access.log combined;",
        }
    }
}

pub fn command(
    bucket: &Bucket,
    folder: &Path,
    address: SocketAddr,
    setup: Setup,
) -> io::Result<Command> {
    let settings = folder.join("nginx.conf");
    fs::write(&settings, text(bucket, folder, address, setup))?;
    let program = program("nginx").ok_or_else(|| io::Error::other("no nginx"))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(settings);
    command.args(["-e", "error.log"]);
    Ok(command)
}

fn text(bucket: &Bucket, folder: &Path, address: SocketAddr, setup: Setup) -> String {
    let setup = setup.text();
    let (cores, folder, origin, name) =
        (cores(), folder.display(), bucket.address(), bucket.name());
    // As root the workers would otherwise be another user, who may not enter the folder.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    format!(
        "{user}
daemon off;
pid {folder}/pid;
worker_processes {cores};
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  {setup}
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 120s;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=nix:64m max_size=20g inactive=1d use_temp_path=off;
  upstream bucket {{ server {origin}; keepalive 64; }}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://bucket/{name}/;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host {origin};
      proxy_cache nix;
      proxy_cache_valid 200 1d;
      proxy_cache_valid 404 1h;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 10m;
      proxy_cache_lock_age 10m;
    }}
  }}
}}
"
    )
}
