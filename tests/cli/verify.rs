//! `narwharf verify`: what is wrong in a cache directory, and what is done about it.

use std::fs;

use sha2::{Digest, Sha256};

use crate::Desk;

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
    let server = desk.serve(&[], &[]);
    let told = desk.run(&["verify"], &[]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    let refused = desk.run(&["verify", "--repair"], &[]);
    server.end();
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
    let server = desk.serve(&config, &[]);
    let listen = server.said.split_once("http://").unwrap().1;
    let end = listen.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
    let url = format!("http://{}", &listen[..end.unwrap_or(listen.len())]);
    let told = desk.run(
        &[&["verify", "--repair", "--url", &url], &config[..]].concat(),
        &[("NARWHARF_TOKEN", ADMIN)],
    );
    let after = desk.run(&[&["verify"], &config[..]].concat(), &[]);
    server.end();
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(told.out.contains("taken out of the cache"), "{}", told.out);
    assert!(!rotten.exists());
    assert_eq!(after.code, Some(0), "{}{}", after.out, after.err);
    assert!(after.out.contains("       1 sound\n"), "{}", after.out);
}
