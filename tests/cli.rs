//! The program as an operator meets it: exit codes, what stands on which output, and that no
//! secret is ever repeated. What the settings mean is tested where they are read.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use sha2::{Digest, Sha256};

/// An empty working directory, and an environment with nothing of ours in it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"));
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.to_string_lossy().starts_with("NARWHARF")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.path())
            .args(args)
            .envs(env.iter().copied());
        command
    }

    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Told {
        Told::from(self.command(args, env).output().unwrap())
    }
}

/// What a run left behind.
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn bad_usage_is_2_and_help_is_0() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["--nonsense"], &[]).code, Some(2));
    assert_eq!(desk.run(&["nonsense"], &[]).code, Some(2));
    for url in ["https://cache.example", "cache"] {
        let told = desk.run(&["stats", "--url", url], &[]);
        assert_eq!(told.code, Some(2));
        assert!(told.err.contains("http://HOST[:PORT]"), "{}", told.err);
    }
    let help = desk.run(&["--help"], &[]);
    assert_eq!(help.code, Some(0));
    for command in ["serve", "check", "verify", "token", "nix-conf"] {
        assert!(help.out.contains(command), "{command} in\n{}", help.out);
    }
}

#[test]
fn bad_settings_are_2_and_told_on_standard_error_before_anything_is_made() {
    let desk = Desk::new();
    desk.write("a.toml", "[disk]\ncapacty = '1GiB'");
    for args in [
        &["--config", "a.toml"][..],
        &["serve", "--config", "a.toml"],
        &["nix-conf", "--config", "a.toml"],
    ] {
        let told = desk.run(args, &[]);
        assert_eq!(told.code, Some(2));
        let line = "a.toml: disk.capacty: unknown key; did you mean disk.capacity?";
        assert!(told.err.contains(line), "{}", told.err);
        assert_eq!(told.out, "");
    }
    assert!(!desk.path().join("data").exists());
}

#[test]
fn check_tells_every_problem_in_a_line_of_its_own() {
    let desk = Desk::new();
    desk.write(
        "a.toml",
        "[disk]\ncapacity = 'big'\n[substituter]\n[auth]\nupload_token = 'hunter2'",
    );
    let told = desk.run(
        &["check", "--config", "a.toml"],
        &[("NARWHARF_LOG__LEVEL", "loud")],
    );
    assert_eq!(told.code, Some(2));
    assert_eq!(told.out.lines().count(), 4, "{}", told.out);
    for line in [
        "FAILED  settings: a.toml: substituter: not yet supported",
        "FAILED  settings: a.toml: auth.upload_token: is a secret",
        "FAILED  settings: a.toml: disk.capacity: \"big\" is no size",
        "FAILED  settings: NARWHARF_LOG__LEVEL: log.level: \"loud\" is no log level",
    ] {
        assert!(told.out.contains(line), "{line:?} in\n{}", told.out);
    }
    assert!(!told.out.contains("hunter2") && !told.err.contains("hunter2"));
}

#[test]
fn check_begins_with_the_settings() {
    let told = Desk::new().run(&["check"], &[]);
    assert_eq!(
        told.out.lines().next(),
        Some("ok      settings: valid"),
        "{}",
        told.err
    );
}

#[test]
fn files_win_in_their_order_before_and_after_the_command_and_the_environment_over_them() {
    let desk = Desk::new();
    for name in ["10", "20", "30"] {
        desk.write(name, &format!("[cache]\npriority = {name}"));
    }
    let priority = |args: &[&str], env: &[(&str, &str)]| {
        let told = desk.run(args, env);
        assert_eq!(told.code, Some(0), "{}", told.err);
        let (_, rest) = told.out.split_once("?priority=").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    assert_eq!(priority(&["nix-conf"], &[]), "40");
    assert_eq!(
        priority(&["--config", "10", "nix-conf", "--config", "20"], &[]),
        "20"
    );
    assert_eq!(
        priority(&["nix-conf", "--config", "30", "--config", "10"], &[]),
        "10"
    );
    assert_eq!(priority(&["--config", "30", "nix-conf"], &[]), "30");
    let env = [("NARWHARF_CACHE__PRIORITY", "50")];
    assert_eq!(priority(&["nix-conf", "--config", "30"], &env), "50");
}

#[test]
fn token_prints_a_token_and_its_hash_a_line_each() {
    let told = Desk::new().run(&["token"], &[]);
    assert_eq!(told.code, Some(0));
    let [token, hash] = told.out.lines().collect::<Vec<_>>()[..] else {
        panic!("two lines, not\n{}", told.out);
    };
    let expected: String = Sha256::digest(token)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(hash, expected);
    assert!(told.err.contains(&format!("sha256 = \"{hash}\"")));
    assert!(
        !told.err.contains(token),
        "the token stands on standard output alone"
    );
}

/// What `narwharf token` prints for the settings file is taken there.
#[test]
fn the_tokens_lines_can_be_pasted_into_a_settings_file() {
    let desk = Desk::new();
    let told = desk.run(&["token"], &[]);
    desk.write("a.toml", &told.err);
    assert_eq!(
        desk.run(&["nix-conf", "--config", "a.toml"], &[]).code,
        Some(0)
    );
}

/// A cache with a sound blob, a rotten one, and one whose name is no hash; and the rotten one's path.
fn cache(desk: &Desk) -> std::path::PathBuf {
    let root = desk.path().join("data/cache");
    let place = |name: &str| {
        let folder = root.join("nar").join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    };
    let name = |content: &[u8]| {
        let hash = narwharf::nix::hash::Sha256Hash::of(content);
        format!("{}.nar", hash.to_nix32())
    };
    fs::write(place(&name(b"sound")), "sound").unwrap();
    fs::write(place("hello.nar"), "whatever").unwrap();
    fs::write(place(&name(b"right")), "wrong").unwrap();
    fs::write(root.join("narwharf-cache"), "narwharf-cache 1\n").unwrap();
    fs::create_dir(root.join("quarantine")).unwrap();
    place(&name(b"right"))
}

#[test]
fn verify_names_what_is_wrong_and_sets_it_aside_when_told_to() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["verify"], &[]).code, Some(0));
    assert!(!desk.path().join("data").exists(), "looking makes nothing");
    let rotten = cache(&desk);
    let name = rotten.file_name().unwrap().to_str().unwrap();

    let told = desk.run(&["verify"], &[]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    for line in [
        "       1 sound\n",
        "       1 readable; their names are no hashes",
        "       1 wrong\n",
        &format!("         nar/{name}: its SHA-256 is "),
        "`narwharf verify --repair`",
    ] {
        assert!(told.out.contains(line), "{line:?} in\n{}", told.out);
    }
    assert!(rotten.exists());

    let told = desk.run(&["verify", "--repair"], &[]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(told.out.contains("taken out of the cache"), "{}", told.out);
    assert!(!rotten.exists());
    let told = desk.run(&["verify"], &[]);
    assert_eq!(told.code, Some(0), "{}", told.out);
    assert!(told.out.contains("       0 wrong\n"));
}

#[test]
fn verify_of_what_is_no_cache_of_ours_is_1_and_touches_nothing() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path().join("data/cache")).unwrap();
    desk.write("data/cache/thesis.tex", "years of work");
    let told = desk.run(&["verify", "--repair"], &[]);
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("data/cache"), "{}", told.err);
    assert_eq!(
        fs::read_dir(desk.path().join("data/cache"))
            .unwrap()
            .count(),
        1
    );
}

/// Beside a server it reads without being in the way, and will not repair without a token to show.
#[test]
fn verify_beside_a_server_reads_and_asks_for_a_token_to_repair() {
    let desk = Desk::new();
    cache(&desk);
    let (mut server, _) = serve(&desk, &[], &[]);
    let told = desk.run(&["verify"], &[]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    let refused = desk.run(&["verify", "--repair"], &[]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("--token-file"), "{}", refused.err);
}

/// With a token it has the server take out what is wrong, and only that.
#[test]
fn verify_beside_a_server_repairs_through_it() {
    const ADMIN: &str = "an-admins-token";
    let desk = Desk::new();
    let rotten = cache(&desk);
    let hash = narwharf::config::token::hex(&Sha256::digest(ADMIN).into());
    desk.write(
        "a.toml",
        &format!("[[auth.token]]\nname = 'ops'\nsha256 = '{hash}'\nscopes = ['admin']\n"),
    );
    let config = ["--config", "a.toml"];
    let (mut server, said) = serve(&desk, &config, &[]);
    let listen = said.split_once("http://").unwrap().1;
    let end = listen.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
    let url = format!("http://{}", &listen[..end.unwrap_or(listen.len())]);
    let told = desk.run(
        &[&["verify", "--repair", "--url", &url], &config[..]].concat(),
        &[("NARWHARF_TOKEN", ADMIN)],
    );
    let after = desk.run(&[&["verify"], &config[..]].concat(), &[]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(told.out.contains("taken out of the cache"), "{}", told.out);
    assert!(!rotten.exists());
    assert_eq!(after.code, Some(0), "{}{}", after.out, after.err);
    assert!(after.out.contains("       1 sound\n"), "{}", after.out);
}

/// Runs the server until it has said its last line, and returns what it said.
fn banner(desk: &Desk, env: &[(&str, &str)]) -> String {
    let (mut server, said) = serve(desk, &[], env);
    server.kill().unwrap();
    server.wait().unwrap();
    said
}

fn serve(desk: &Desk, args: &[&str], env: &[(&str, &str)]) -> (Child, String) {
    let mut server = desk
        .command(args, env)
        .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(server.stdout.take().unwrap());
    while !said.contains("nixpkgs#hello") && lines.read_line(&mut said).unwrap() > 0 {}
    (server, said)
}

#[test]
fn a_secret_in_a_file_that_others_may_read_is_told() {
    for (mode, told) in [(0o644, 1), (0o600, 0)] {
        let desk = Desk::new();
        desk.write("token", "hunter2");
        let token = desk.path().join("token");
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let mut server = desk
            .command(&[], &[("NARWHARF_AUTH__UPLOAD_TOKEN_FILE", "token")])
            .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stderr.take().unwrap()).lines();
        // What is told of the memory comes last.
        let said: Vec<_> = lines
            .map(Result::unwrap)
            .take_while(|line| !line.contains("memory is bounded"))
            .collect();
        server.kill().unwrap();
        server.wait().unwrap();
        let warnings = said.iter().filter(|line| line.contains("chmod 600"));
        assert_eq!(warnings.count(), told, "{mode:o}: {said:?}");
    }
}

/// They may be open to all, whatever server.listen says.
#[test]
fn behind_sockets_that_systemd_opened_no_token_is_made() {
    let desk = Desk::new();
    let narwharf = desk.command(&[], &[]).get_program().to_owned();
    // What is handed over is no socket, so that it listens where it is told all the same.
    let script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 3</dev/null";
    let mut server = Command::new("sh")
        .args(["-c", script])
        .arg(narwharf)
        .current_dir(desk.path())
        .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(server.stdout.take().unwrap());
    while !said.contains("http://") && lines.read_line(&mut said).unwrap() > 0 {}
    server.kill().unwrap();
    server.wait().unwrap();
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
