//! What a start makes, prints and warns of: tokens, and the lines to paste.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::{Desk, Served};

/// What a server says, which is then ended.
fn banner(desk: &Desk, env: &[(&str, &str)]) -> String {
    let mut server = desk.serve(&[], env);
    let said = std::mem::take(&mut server.said);
    server.end();
    said
}

#[test]
fn a_secret_in_a_file_that_others_may_read_is_told() {
    for (mode, told) in [(0o644, 1), (0o600, 0)] {
        let desk = Desk::new();
        desk.write("token", "hunter2");
        let token = desk.path().join("token");
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let env = [("NARWHARF_AUTH__UPLOAD_TOKEN_FILE", "token")];
        let log = desk.serve(&[], &env).end();
        assert_eq!(log.matches("chmod 600").count(), told, "{mode:o}: {log}");
    }
}

/// They may be open to all, whatever server.listen says.
#[test]
fn behind_sockets_that_systemd_opened_no_token_is_made() {
    let desk = Desk::new();
    let narwharf = desk.command(&[], &[]).get_program().to_owned();
    // What is handed over is no socket, so that it listens where it is told all the same.
    let script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 3</dev/null";
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(narwharf)
        .current_dir(desk.path());
    let server = Served::start(&mut command);
    let said = server.said.clone();
    server.end();
    assert!(said.contains("http://"), "{said}");
    assert!(!desk.path().join("data/upload-token").exists(), "{said}");
}

#[test]
fn a_first_start_makes_a_token_and_a_netrc_for_its_owner_and_names_both() {
    let desk = Desk::new();
    let said = banner(&desk, &[]);

    let (token, netrc) = (
        desk.path().join("data/upload-token"),
        desk.path().join("data/netrc"),
    );
    for file in [&token, &netrc] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let secret = fs::read_to_string(&token).unwrap();
    let line = format!("machine 127.0.0.1 login narwharf password {secret}");
    assert!(fs::read_to_string(&netrc).unwrap().contains(&line));

    let netrc = netrc.canonicalize().unwrap();
    assert!(
        said.contains(&format!("--option netrc-file {} ./result", netrc.display())),
        "{said}"
    );
    assert!(
        !said.contains(secret.trim()),
        "the token itself is not printed"
    );
}

#[test]
fn the_next_start_keeps_the_token() {
    let desk = Desk::new();
    let token = || fs::read_to_string(desk.path().join("data/upload-token")).unwrap();
    banner(&desk, &[]);
    let first = token();
    assert!(banner(&desk, &[]).contains("copy --to"));
    assert_eq!(token(), first);
}

#[test]
fn who_sets_a_token_or_turns_uploads_off_finds_no_new_one() {
    for (env, pushes) in [
        (("NARWHARF_AUTH__UPLOAD_TOKEN", "hunter2"), true),
        (("NARWHARF_UPLOADS__ENABLED", "false"), false),
    ] {
        let desk = Desk::new();
        let said = banner(&desk, &[env]);
        assert_eq!(said.contains("copy --to"), pushes, "{said}");
        assert!(!said.contains("hunter2") && !desk.path().join("data/upload-token").exists());
    }
}

#[test]
fn a_token_that_cannot_be_written_is_1_and_says_what_to_do() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("nowhere/at/all", desk.path().join("data")).unwrap();
    let told = desk.run(&[], &[]);
    assert_eq!(told.code, Some(1));
    assert!(
        told.err
            .contains("cannot make an upload token in data/upload-token; set"),
        "{}",
        told.err
    );
}
