//! What an operator may rely on: the defaults of the contract, the order of the sources, and what
//! is said about a mistake.

use std::fs;

use secrecy::ExposeSecret;

use super::*;

const KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// A folder of its own for each test, so that no `data/upload-token` that lies about is read.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, files: &[PathBuf], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let token = self.0.path().join("upload-token");
        let ours = [("NARWHARF_AUTH__UPLOAD_TOKEN_FILE", token.to_str().unwrap())];
        let sets_token = env
            .iter()
            .any(|(name, _)| name.starts_with("NARWHARF_AUTH__UPLOAD"));
        let ours = ours.iter().filter(|_| !sets_token);
        let env = ours.chain(env).map(|(k, v)| (k.to_string(), v.to_string()));
        Config::load(files, env)
    }

    fn with(&self, env: &[(&str, &str)]) -> Config {
        self.load(&[], env).unwrap()
    }

    /// The problems, a line each, of a file with this text.
    fn problems_in(&self, text: &str) -> String {
        let file = self.file("narwharf.toml", text);
        self.load(&[file], &[]).unwrap_err().to_string()
    }

    fn problems_with(&self, env: &[(&str, &str)]) -> String {
        self.load(&[], env).unwrap_err().to_string()
    }
}

/// An S3 bucket; the upload token is set because nobody makes one for such a bucket.
const S3: [(&str, &str); 6] = [
    ("NARWHARF_AUTH__UPLOAD_TOKEN", "hunter2"),
    ("NARWHARF_BUCKET__KIND", "s3"),
    (
        "NARWHARF_BUCKET__ENDPOINT",
        "https://a.r2.cloudflarestorage.com",
    ),
    ("NARWHARF_BUCKET__NAME", "nix-cache"),
    ("NARWHARF_BUCKET__ACCESS_KEY_ID", "0123456789abcdef"),
    ("NARWHARF_BUCKET__SECRET_ACCESS_KEY", "s3cr3t"),
];

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
    assert_eq!(config.memory.documents, 64 * MIB);
    assert_eq!(config.memory.negative, 16 * MIB);
    assert_eq!(config.memory.document_ttl, seconds(300));
    assert_eq!(config.memory.negative_ttl, seconds(30));
    assert_eq!(config.memory.stale_if_error, seconds(24 * 3600));
    assert_eq!(config.disk.path, PathBuf::from("data/cache"));
    assert_eq!(config.disk.capacity, 20 * 1024 * MIB);
    assert_eq!(config.disk.min_free, 1024 * MIB);
    assert_eq!(config.disk.max_nar, None);
    assert_eq!(config.disk.index_cache, 64 * MIB);
    assert!(!config.uploads.enabled, "no token exists yet");
    assert_eq!(config.uploads.max_size, None);
    assert!(config.uploads.verify && config.uploads.require_nar);
    assert_eq!(config.uploads.body_idle_timeout, seconds(30));
    assert_eq!(config.uploads.hold, seconds(20));
    assert!(config.auth.public_reads);
    assert!(config.auth.tokens.is_empty());
    assert_eq!(config.auth.max_failures, 60);
    assert!(config.signing.trusted_public_keys.is_empty());
    assert!(!config.signing.require_signature);
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

#[test]
fn the_environment_wins_over_files_and_the_later_file_over_the_earlier() {
    let desk = Desk::new();
    let one = desk.file(
        "1.toml",
        "[cache]\nname = 'one'\npriority = 1\n[log]\naccess = false",
    );
    let two = desk.file("2.toml", "[cache]\nname = 'two'\npriority = 2");
    let env = [("NARWHARF_CACHE__NAME", "three")];

    let config = desk.load(&[one.clone(), two.clone()], &env).unwrap();
    assert_eq!(config.cache.name, "three");
    assert_eq!(config.cache.priority, 2);
    assert!(
        !config.log.access,
        "what only the first file says still holds"
    );

    assert_eq!(desk.load(&[two, one], &[]).unwrap().cache.name, "one");
}

#[test]
fn lists_are_commas_in_the_environment() {
    let config = Desk::new().with(&[
        (
            "NARWHARF_SERVER__LISTEN",
            "0.0.0.0:80, unix:/run/narwharf.sock",
        ),
        ("NARWHARF_CACHE__NAMESPACES", "*"),
        ("NARWHARF_AUTH__UPLOAD_TOKEN", "hunter2"),
    ]);
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(config.cache.namespaces, Namespaces::Any);
}

#[test]
fn variables_without_two_underscores_are_not_ours() {
    Desk::new().with(&[
        ("NARWHARF_HOME", "/srv"),
        ("NARWHARF", "x"),
        ("OTHER__THING", "x"),
        ("NARWHARFX__THING", "x"),
    ]);
}

#[test]
fn an_unknown_key_names_its_source_and_the_key_that_was_meant() {
    let desk = Desk::new();
    let problem = desk.problems_in("[memory]\ndocumets = '1MiB'");
    assert!(
        problem.contains(
            "narwharf.toml: memory.documets: unknown key; did you mean memory.documents?"
        )
    );

    let problem = desk.problems_with(&[("NARWHARF_SERVER__LISEN", "x:1")]);
    assert!(problem.starts_with(
        "NARWHARF_SERVER__LISEN: server.lisen: unknown key; did you mean server.listen?"
    ));

    let problem = desk.problems_in("[kitchen]\nsink = 1");
    assert!(
        problem.contains("kitchen: unknown key. Sections are server, cache"),
        "{problem}"
    );
}

#[test]
fn every_problem_of_every_source_is_told_at_once_in_a_line_each() {
    let desk = Desk::new();
    let file = desk.file(
        "a.toml",
        "port = 80\n[disk]\ncapacity = '20 potatoes'\n[memory]\ndocument_ttl = 30\n\"x\\ny\" = 1",
    );
    let missing = desk.0.path().join("missing.toml");
    let env = [("NARWHARF_SERVER__WORKERS", "many")];
    let error = desk.load(&[missing, file], &env).unwrap_err();

    assert_eq!(error.problems.len(), 6, "{error}");
    let text = error.to_string();
    assert_eq!(text.lines().count(), 6);
    for told in [
        "missing.toml: cannot be read",
        "a.toml: port: unknown key",
        "a.toml: disk.capacity: \"20 potatoes\" is no size; allowed is one such as 64MiB",
        "a.toml: memory.document_ttl: 30 is no duration; allowed is one with its unit",
        "NARWHARF_SERVER__WORKERS: server.workers: \"many\" is not allowed; allowed is a whole number from 0 to 1024",
    ] {
        assert!(text.contains(told), "{told:?} in\n{text}");
    }
}

#[test]
fn a_mistake_is_told_though_a_later_source_overrides_it() {
    let desk = Desk::new();
    let file = desk.file("a.toml", "[disk]\ncapacity = 'big'");
    assert!(
        desk.load(&[file], &[("NARWHARF_DISK__CAPACITY", "1GiB")])
            .is_err()
    );
}

#[test]
fn a_section_is_a_table() {
    let problem = Desk::new().problems_in("memory = '1GiB'");
    assert!(
        problem.contains("memory: is a section; write [memory]"),
        "{problem}"
    );
}

#[test]
fn secrets_in_a_file_are_refused_and_not_repeated() {
    let desk = Desk::new();
    for (text, twin) in [
        (
            "[auth]\nupload_token = 'hunter2'",
            "NARWHARF_AUTH__UPLOAD_TOKEN or auth.upload_token_file",
        ),
        (
            "[bucket]\nsecret_access_key = 'hunter2'",
            "NARWHARF_BUCKET__SECRET_ACCESS_KEY or bucket.secret_access_key_file",
        ),
        (
            "[metrics]\ntoken = 'hunter2'",
            "NARWHARF_METRICS__TOKEN or metrics.token_file",
        ),
        (
            "[auth]\nupload_tokn = 'hunter2'",
            "did you mean auth.upload_token?",
        ),
        (
            "[[auth.token]]\nname = 'ci'\nsha256 = 'hunter2'\nscopes = ['read']",
            "never the token itself",
        ),
        (
            "[auth]\nupload_token = hunter2",
            "TOML parse error at line 2",
        ),
        (
            "[auth]\nupload_token = 'hunter2",
            "TOML parse error at line 2",
        ),
    ] {
        let problem = desk.problems_in(text);
        assert!(problem.contains(twin), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn no_output_for_debugging_shows_a_secret() {
    let mut env = S3.to_vec();
    env.push(("NARWHARF_METRICS__TOKEN", "hunter3"));
    let shown = format!("{:?}", Desk::new().with(&env));
    assert!(shown.contains("nix-cache") && shown.contains("upload"));
    assert!(
        !shown.contains("hunter") && !shown.contains("s3cr3t"),
        "{shown}"
    );
}

#[test]
fn secrets_come_from_their_twins_files_too() {
    let desk = Desk::new();
    let secret = desk.file("secret", "s3cr3t\n");
    let mut env = S3[..5].to_vec();
    env.push((
        "NARWHARF_BUCKET__SECRET_ACCESS_KEY_FILE",
        secret.to_str().unwrap(),
    ));
    let BucketKind::S3 {
        secret_access_key, ..
    } = desk.with(&env).bucket.kind
    else {
        panic!("an S3 bucket was asked for");
    };
    assert_eq!(secret_access_key.expose_secret(), "s3cr3t");

    env.push(S3[5]);
    let problem = desk.problems_with(&env);
    assert!(
        problem.contains("secret_access_key_file are both set"),
        "{problem}"
    );
}

#[test]
fn what_is_not_built_yet_is_refused_whatever_its_value() {
    let desk = Desk::new();
    for text in [
        "[[substituter]]\nname = 'nixos'",
        "substituter = []",
        "[server.tls]\ncertificate = 'a'",
        "[server]\ntls.private_key = 'a'",
        "[bucket]\nparallel_above = '1MiB'",
        "[bucket]\nparallel_parts = 1",
        "[uploads]\npart_size = 'x'",
        "[uploads]\nmerge_signatures = false",
        "[signing]\nsecret_key_file = ''",
        "[disk]\nindex_size = '512MiB'",
    ] {
        let problem = desk.problems_in(text);
        assert!(
            problem.ends_with("not yet supported; remove it"),
            "{problem}"
        );
    }
    let problem = desk.problems_with(&[("NARWHARF_SERVER__TLS__CERTIFICATE", "a")]);
    assert!(
        problem.contains("server.tls.certificate: not yet supported"),
        "{problem}"
    );
}

#[test]
fn an_s3_bucket_names_all_that_it_lacks() {
    let problem = Desk::new().problems_with(&[("NARWHARF_BUCKET__KIND", "s3")]);
    for key in ["endpoint", "name", "access_key_id", "secret_access_key"] {
        assert!(
            problem.contains(&format!("bucket.{key}: is missing")),
            "{problem}"
        );
    }
}

#[test]
fn an_s3_buckets_settings_without_its_kind_are_not_passed_over() {
    let problem = Desk::new().problems_with(&[&S3[..1], &S3[2..]].concat());
    assert_eq!(
        problem.matches("set bucket.kind to \"s3\"").count(),
        4,
        "{problem}"
    );
}

#[test]
fn tokens_are_kept_as_hashes_with_their_scopes() {
    let desk = Desk::new();
    let hash = token::hex(&token::sha256(&SecretString::from("abc")));
    let file = desk.file(
        "a.toml",
        &format!(
            "[cache]\nnamespaces = ['team-a']\n[[auth.token]]\nname = 'ci'\nsha256 = '{hash}'\n\
             scopes = ['write', 'admin']\nnamespaces = ['team-a']"
        ),
    );
    let config = desk
        .load(&[file], &[("NARWHARF_AUTH__UPLOAD_TOKEN", "abc")])
        .unwrap();
    let [ci, upload] = &config.auth.tokens[..] else {
        panic!("two tokens were set");
    };
    assert_eq!(ci.sha256, upload.sha256);
    assert_eq!(
        ci.scopes,
        Scopes {
            read: false,
            write: true,
            admin: true
        }
    );
    assert_eq!(ci.namespaces.as_deref(), Some(&["team-a".to_owned()][..]));
    assert_eq!(
        (upload.name.as_str(), upload.scopes),
        ("upload", Scopes::READ_WRITE)
    );
    assert!(config.uploads.enabled);
}

#[test]
fn mistakes_in_tokens_name_the_table_and_the_key() {
    let desk = Desk::new();
    let hash = "00".repeat(32);
    let problem = desk.problems_in(&format!(
        "[[auth.token]]\nname = 'a'\nsha256 = '{hash}'\nscopes = ['fly']\n\
         [[auth.token]]\nname = 'b'\nscopes = ['read']\n\
         [[auth.token]]\nname = 'c'\nsha256 = '{hash}'\nscopes = []\ncolour = 'red'"
    ));
    assert!(
        problem.contains("auth.token, table 1: scopes \"fly\" is no scope"),
        "{problem}"
    );
    assert!(
        problem.contains("auth.token, table 2: sha256 is missing"),
        "{problem}"
    );
    assert!(
        problem.contains("auth.token, table 3: unknown field `colour`"),
        "{problem}"
    );

    let problem = desk.problems_with(&[("NARWHARF_AUTH__TOKEN__NAME", "ci")]);
    assert!(problem.contains("the environment cannot hold"), "{problem}");
}

#[test]
fn what_cannot_be_together_is_refused() {
    let desk = Desk::new();
    let token = "[[auth.token]]\nname = 'a'\nsha256 = '0000000000000000000000000000000000000000000000000000000000000000'\nscopes = ['read']\n";
    for (text, told) in [
        (
            "[server]\nlisten = []".to_owned(),
            "server.listen: is empty",
        ),
        (
            "[signing]\nrequire_signature = true".to_owned(),
            "no key to check with",
        ),
        (
            "[cache]\nnamespaces = ['*', 'a']".to_owned(),
            "one or the other",
        ),
        (
            "[metrics]\nlisten = '127.0.0.1:8080'".to_owned(),
            "is in server.listen too",
        ),
        (
            "[disk]\npath = 'data/bucket/cache'".to_owned(),
            "lie in one another",
        ),
        (format!("{token}{token}"), "is the name of two tokens"),
        (
            format!("{token}namespaces = ['x']"),
            "cache.namespaces does not allow",
        ),
        (
            format!("{token}[uploads]\nenabled = true"),
            "no token may write",
        ),
    ] {
        // The token's file of these tests does not exist, which is a problem where none is made.
        let problem = desk.problems_in(&text);
        assert!(problem.contains(told), "{told:?} in\n{problem}");
    }
    let open = [
        ("NARWHARF_SERVER__LISTEN", "0.0.0.0:8080"),
        ("NARWHARF_AUTH__PUBLIC_READS", "false"),
    ];
    let problem = desk.problems_with(&open);
    assert!(problem.contains("no token may read"), "{problem}");
    assert!(problem.contains("upload-token: No such file"), "{problem}");
}

#[test]
fn keys_make_signatures_required_unless_said_otherwise() {
    let desk = Desk::new();
    let keys = ("NARWHARF_SIGNING__TRUSTED_PUBLIC_KEYS", KEY);
    assert!(desk.with(&[keys]).signing.require_signature);
    let config = desk.with(&[keys, ("NARWHARF_SIGNING__REQUIRE_SIGNATURE", "false")]);
    assert!(!config.signing.require_signature);
}

#[test]
fn free_space_may_be_asked_for_beyond_the_capacity() {
    let config = Desk::new().with(&[("NARWHARF_DISK__MIN_FREE", "100GiB")]);
    assert!(config.disk.min_free > config.disk.capacity);
}
