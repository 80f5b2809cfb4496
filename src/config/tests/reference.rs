//! `narwharf.toml` is the reference: what it says holds, and it leaves nothing out.

use super::*;

#[test]
fn with_nothing_set_the_contracts_defaults_hold() {
    const MIB: u64 = 1 << 20;
    let seconds = Duration::from_secs;
    let config = Desk::new().with(&[]);

    assert_eq!(config.server.listen, [Listen::Tcp("127.0.0.1:8080".into())]);
    assert!(config.server.workers > 0);
    assert_eq!(config.server.keep_alive, seconds(120));
    assert_eq!(config.server.drain, seconds(30));
    assert_eq!(config.cache.store_dir, "/nix/store");
    assert_eq!(config.cache.priority, 40);
    assert!(config.cache.want_mass_query);
    assert_eq!(config.cache.name, "narwharf");
    assert_eq!(config.cache.namespaces, Namespaces::None);
    let BucketKind::Directory { path } = &config.bucket.kind else {
        panic!("the embedded bucket is the default");
    };
    assert_eq!(path, &PathBuf::from("data/bucket"));
    assert_eq!(config.bucket.max_requests.get(), 64);
    assert_eq!(config.bucket.connect_timeout, seconds(2));
    assert_eq!(config.bucket.first_byte_timeout, seconds(15));
    assert_eq!(config.bucket.idle_timeout, seconds(20));
    assert_eq!(config.bucket.hold, seconds(5));
    assert_eq!(config.bucket.parallel_above, 256 * MIB);
    assert_eq!(config.bucket.parallel_parts, 4);
    assert_eq!(config.memory.documents, 64 * MIB);
    assert_eq!(config.memory.negative, 16 * MIB);
    assert_eq!(config.memory.nars, 64 * MIB);
    assert_eq!(config.memory.document_ttl, seconds(300));
    assert_eq!(config.memory.negative_ttl, seconds(30));
    assert_eq!(config.memory.stale_if_error, seconds(24 * 3600));
    assert_eq!(config.disk.path, PathBuf::from("data/cache"));
    assert_eq!(config.disk.capacity, 20 * 1024 * MIB);
    assert_eq!(config.disk.min_free, 1024 * MIB);
    assert_eq!(config.disk.max_nar, None);
    assert_eq!(config.disk.index_size, 512 * MIB);
    assert_eq!(config.disk.index_cache, 64 * MIB);
    assert_eq!(
        config.disk.abandoned_fills,
        AbandonedFills::Past { percent: 50 }
    );
    assert!(!config.uploads.enabled, "no token exists yet");
    assert_eq!(config.uploads.max_size, None);
    assert!(config.uploads.verify && config.uploads.require_nar);
    assert_eq!(config.uploads.body_idle_timeout, seconds(30));
    assert_eq!(config.uploads.hold, seconds(20));
    assert_eq!(config.uploads.part_size, 16 * MIB);
    assert!(!config.uploads.merge_signatures);
    assert!(config.auth.public_reads);
    assert!(config.auth.tokens.is_empty());
    assert_eq!(config.auth.max_failures, 60);
    assert!(config.signing.trusted_public_keys.is_empty());
    assert!(!config.signing.require_signature);
    assert!(config.signing.secret_key.is_none());
    assert!(config.metrics.enabled);
    assert_eq!(config.metrics.listen, None);
    assert!(config.metrics.token.is_none());
    assert_eq!(config.log.level, "info");
    assert_eq!(config.log.format, LogFormat::Text);
    assert!(config.log.access);
}

/// The settings in the reference, live or commented out: the section's header, the key, the line.
fn reference() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut header = "";
    let mut settings = Vec::new();
    for line in DEFAULTS.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') && line.ends_with(']') && line.len() > 2 {
            header = line;
        } else if let Some((key, _)) = line.split_once(" = ")
            && !key.contains(' ')
        {
            settings.push((header, key, line));
        }
    }
    settings
}

/// The reference would be none if a key were missing in it.
#[test]
fn the_reference_speaks_of_every_key_that_exists_and_of_no_other() {
    let spoken: Vec<String> = reference()
        .iter()
        .map(|(header, key, _)| format!("{}.{key}", header.trim_matches(['[', ']'])))
        .collect();
    for key in known::keys().filter(|key| !known::is_secret(key) && key != known::TOKENS) {
        assert!(spoken.contains(&key), "{key} is missing");
    }
    for key in spoken.iter().filter(|key| !key.starts_with("auth.token.")) {
        let exists = known::is_not_yet(key) || known::complaint(key).is_none();
        assert!(exists, "{key} does not exist");
    }
}

/// Each line of the reference can be copied. Examples are judged one by one, since together some
/// contradict; what may then be said is only that another setting is missing.
#[test]
fn the_references_lines_can_be_used_as_they_stand() {
    let desk = Desk::new();
    for (header, key, line) in reference() {
        let name = format!("{}.{key}", header.trim_matches(['[', ']']));
        if header.starts_with("[[") || known::is_not_yet(&name) {
            continue;
        }
        let file = desk.file("one.toml", &format!("{header}\n{line}"));
        let read = source::read(&[file], std::iter::empty());
        assert!(read.is_ok(), "{line}: {}", read.err().unwrap());
    }
}

/// The example of `[[auth.token]]` too, which is several lines.
#[test]
fn the_references_token_can_be_used_as_it_stands() {
    let desk = Desk::new();
    let lines = reference()
        .into_iter()
        .filter(|(header, ..)| *header == "[[auth.token]]");
    let lines: Vec<&str> = lines.map(|(_, _, line)| line).collect();
    let text = format!(
        "[cache]\nnamespaces = ['team-a']\n[[auth.token]]\n{}",
        lines.join("\n")
    );
    let file = desk.file("one.toml", &text);
    let config = desk
        .load(&[file], &[("NARWHARF_AUTH__UPLOAD_TOKEN", "abc")])
        .unwrap();
    assert_eq!(config.auth.tokens[0].name, "ci");
}
