//! A secret is taken from where it is safe, and shown nowhere.

use super::*;

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
