//! The settings as they are written: a struct for each section, a field for each key, and what may
//! stand there as its type.
//!
//! A field without a default in `narwharf.toml` is an `Option`. Everything else about a setting
//! stands in that file.

use serde::Deserialize;

use super::choices::{AbandonedFills, Directives, Kind, LogFormat};
use super::listen::Listen;
use super::token::{Hash, Scope};
use super::values::{Count, List, Size, Span, Switch, Text, Wait};
use super::words::{
    Endpoint, MaybeListen, Name, NamespaceName, Place, Plain, Prefix, PublicKey, Secret, StoreDir,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub server: Server,
    pub cache: Cache,
    pub bucket: Bucket,
    pub memory: Memory,
    pub disk: Disk,
    pub uploads: Uploads,
    pub auth: Auth,
    pub signing: Signing,
    pub metrics: Metrics,
    pub log: Log,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: List<Listen>,
    pub workers: Count<0, 1024>,
    pub max_connections: Count<1, 1_000_000>,
    pub keep_alive: Wait,
    pub drain: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    pub store_dir: Text<StoreDir>,
    pub priority: Count<0, { i32::MAX as u64 }>,
    pub want_mass_query: Switch,
    pub name: Text<Plain>,
    pub namespaces: List<NamespaceName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    pub kind: Text<Kind>,
    pub path: Text<Place>,
    pub endpoint: Option<Text<Endpoint>>,
    pub name: Option<Text<Name>>,
    pub region: Text<Name>,
    pub prefix: Text<Prefix>,
    pub access_key_id: Option<Text<Name>>,
    pub secret_access_key: Option<Text<Secret>>,
    pub secret_access_key_file: Option<Text<Place>>,
    pub max_requests: Count<1, 10_000>,
    pub connect_timeout: Wait,
    pub first_byte_timeout: Wait,
    pub idle_timeout: Wait,
    pub hold: Span,
    pub parallel_above: Size,
    pub parallel_parts: Count<1, 32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub documents: Size,
    pub negative: Size,
    pub nars: Size,
    pub document_ttl: Span,
    pub negative_ttl: Span,
    pub stale_if_error: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub path: Text<Place>,
    pub capacity: Size,
    pub min_free: Size,
    pub max_nar: Option<Size>,
    pub index_size: Size,
    pub index_cache: Size,
    pub abandoned_fills: Text<AbandonedFills>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uploads {
    pub enabled: Option<Switch>,
    pub max_size: Option<Size>,
    pub verify: Switch,
    pub require_nar: Switch,
    pub body_idle_timeout: Wait,
    pub hold: Span,
    pub part_size: Size,
    pub merge_signatures: Switch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub public_reads: Switch,
    pub upload_token: Option<Text<Secret>>,
    pub upload_token_file: Text<Place>,
    pub max_failures: Count<1, { u32::MAX as u64 }>,
    #[serde(default)]
    pub token: Vec<Token>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub name: Text<Name>,
    pub sha256: Text<Hash>,
    pub scopes: List<Scope>,
    pub namespaces: Option<List<NamespaceName>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    pub trusted_public_keys: List<PublicKey>,
    pub require_signature: Option<Switch>,
    pub secret_key_file: Option<Text<Place>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    pub enabled: Switch,
    pub listen: Text<MaybeListen>,
    pub token: Option<Text<Secret>>,
    pub token_file: Option<Text<Place>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: Text<Directives>,
    pub format: Text<LogFormat>,
    pub access: Switch,
}
