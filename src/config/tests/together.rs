//! What the settings mean together.

use super::*;

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
fn an_endpoint_makes_the_kind_s3_unless_another_is_said() {
    let four: Vec<_> = S3
        .iter()
        .copied()
        .filter(|(name, _)| !name.ends_with("__KIND"))
        .collect();
    let config = Desk::new().with(&four);
    assert!(matches!(config.bucket.kind, BucketKind::S3 { .. }));
    let said = [&four[..], &[("NARWHARF_BUCKET__KIND", "directory")]].concat();
    assert!(Desk::new().problems_with(&said).contains("bucket.endpoint"));
}

#[test]
fn an_s3_buckets_settings_without_its_endpoint_are_not_passed_over() {
    let without =
        |key: &&(&str, &str)| !key.0.ends_with("__KIND") && !key.0.ends_with("__ENDPOINT");
    let rest: Vec<_> = S3.iter().filter(without).copied().collect();
    let problem = Desk::new().problems_with(&rest);
    assert_eq!(
        problem.matches("set bucket.kind to \"s3\"").count(),
        3,
        "{problem}"
    );
}

/// Such as systemd's, which may be open to all: nobody then asked for uploads.
#[test]
fn where_somebody_else_opened_the_listeners_no_token_is_to_be_made() {
    let (mine, others) = (std::process::id().to_string(), "1".to_owned());
    let fds = ("LISTEN_FDS", "1");
    for (env, handed_over) in [
        (&[][..], false),
        (&[fds, ("LISTEN_PID", &others)], false),
        (&[fds, ("LISTEN_PID", &mine)], true),
        (&[fds, ("LISTEN_PID", "")], true),
        (&[fds], true),
    ] {
        match Desk::new().load(&[], env) {
            Ok(config) => assert!(!handed_over && config.auth.upload_token_file.is_some()),
            Err(error) => assert!(
                handed_over && error.to_string().contains("auth.upload_token_file"),
                "{env:?}: {error}"
            ),
        }
    }
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
    let file = desk.file("upload.toml", &token.replace("'a'", "'upload'"));
    let twice = desk.load(&[file], &[("NARWHARF_AUTH__UPLOAD_TOKEN", "abc")]);
    let problem = twice.unwrap_err().to_string();
    assert!(
        problem.contains("\"upload\" is the name of two tokens"),
        "{problem}"
    );
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
fn a_key_that_cannot_sign_is_a_mistake_in_the_settings_and_is_not_shown() {
    let desk = Desk::new();
    for key in ["obs.example-1:c2VjcmV0", "hunter2"] {
        let file = desk.file("key", key);
        let env = ("NARWHARF_SIGNING__SECRET_KEY_FILE", file.to_str().unwrap());
        let problem = desk.problems_with(&[env]);
        assert!(
            problem.contains("signing.secret_key_file: a key is <name>:<64 bytes in base64>"),
            "{problem}"
        );
        assert!(!problem.contains(key), "{problem}");
    }
}

#[test]
fn free_space_may_be_asked_for_beyond_the_capacity() {
    let config = Desk::new().with(&[("NARWHARF_DISK__MIN_FREE", "100GiB")]);
    assert!(config.disk.min_free > config.disk.capacity);
}
