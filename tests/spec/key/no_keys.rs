//! Two hundred ways to ask for something that is no key.

use super::{DRV, HASH};

/// Request targets that are no key, by what is wrong with them.
pub fn no_keys() -> Vec<(&'static str, String)> {
    let nar = "0wq916svq5vfbqznjhwbv32ggd1p2j5sdm374pnpxsw9pbszwghj.nar";
    let hex64 = "a".repeat(64);
    let mut odd = Vec::new();
    let mut add = |what, targets: &[String]| {
        odd.extend(targets.iter().map(|target| (what, target.clone())));
    };
    let plain = |targets: &[&str]| targets.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();

    // Out of the key space, by every road known.
    for up in [
        "..",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "..%2f",
        "..%5c",
        "..\\",
        "...",
        "....//",
        ".",
        "%2e",
        "..;",
        ";/..",
        "%c0%ae%c0%ae",
        "%uff0e%uff0e",
        "~",
        "%00..",
    ] {
        add(
            "traversal",
            &[
                format!("/{up}/etc/passwd"),
                format!("/nar/{up}/{nar}"),
                format!("/nar/{up}/{up}/{up}/etc/passwd"),
                format!("/log/{up}/{DRV}-x.drv"),
                format!("/{HASH}.narinfo/{up}"),
                format!("/nar/{up}"),
            ],
        );
    }
    add(
        "escapes",
        &[
            format!("/%79{}.narinfo", &HASH[1..]),
            format!("/{HASH}%2enarinfo"),
            format!("/{HASH}.narinfo%00"),
            format!("/{HASH}.narinfo%0a"),
            format!("/{HASH}.narinfo%"),
            format!("/{HASH}.narinfo%2"),
            format!("/{HASH}.narinfo%zz"),
            format!("/{HASH}.narinfo%20"),
            format!("/nar%2F{nar}"),
            format!("/nar%2f{nar}"),
            format!("/%6ear/{nar}"),
            format!("/nar/{nar}%00.xz"),
            "/nar/a%20b.nar".to_string(),
            "/nar/a%25b.nar".to_string(),
            "/nar/a%252Bb.nar".to_string(),
            "/nar/%C3%A4.nar".to_string(),
            format!("/log/{DRV}-a%3Fb.drv"),
            format!("/log/{DRV}-a%2Fb.drv"),
            format!("/log/{DRV}-a%26b.drv"),
        ],
    );
    add(
        "slashes",
        &[
            format!("///nar/{nar}"),
            format!("////nar/{nar}"),
            format!("//{HASH}.narinfo"),
            format!("/nar//{nar}"),
            format!("/nar/{nar}/"),
            format!("//log/{DRV}-x.drv"),
            format!("/log//{DRV}-x.drv"),
            format!("/{HASH}.narinfo/"),
            format!("/nar\\{nar}"),
            format!("\\nar\\{nar}"),
            "/nar/".into(),
            "/nar".into(),
            "/log/".into(),
            "/realisations/".into(),
            "//".into(),
            "//etc/passwd".into(),
        ],
    );
    add(
        "case",
        &[
            format!("/{}.narinfo", HASH.to_uppercase()),
            format!("/Y{}.narinfo", &HASH[1..]),
            format!("/{HASH}.NARINFO"),
            format!("/{HASH}.Narinfo"),
            format!("/NAR/{nar}"),
            format!("/nar/{}", nar.replace(".nar", ".NAR")),
            format!("/Log/{DRV}-x.drv"),
            format!("/debuginfo/{}", "A".repeat(40)),
            format!("/realisations/SHA256:{hex64}!out.doi"),
            format!("/realisations/sha256:{}!out.doi", "A".repeat(64)),
            "/NIX-CACHE-INFO".into(),
            "/Health".into(),
        ],
    );
    add(
        "alphabet and length",
        &[
            format!("/e{}.narinfo", &HASH[1..]),
            format!("/o{}.narinfo", &HASH[1..]),
            format!("/t{}.narinfo", &HASH[1..]),
            format!("/u{}.narinfo", &HASH[1..]),
            format!("/{}.narinfo", &HASH[1..]),
            format!("/{HASH}0.narinfo"),
            format!("/{HASH}-name.narinfo"),
            format!("/.{HASH}.narinfo"),
            "/.narinfo".into(),
            "/.ls".into(),
            format!("/{HASH}0.ls"),
            format!("/{HASH}"),
            format!("/{HASH}.nar"),
            format!("/{HASH}.narinfo.bak"),
            format!("/{HASH}.lsx"),
            "/nar/.nar".into(),
            "/nar/.hidden.nar".into(),
            "/nar/x".into(),
            "/nar/x.tar".into(),
            "/nar/x.nar.".into(),
            "/nar/x.nar.XZ".into(),
            "/nar/x.nar.x-z".into(),
            "/nar/x.narinfo".into(),
            format!("/nar/{}.nar", "x".repeat(197)),
            format!("/nar/{}.nar", "x".repeat(1000)),
            format!("/nar/{}.nar", "x".repeat(4096)),
            format!("/log/{}", "x".repeat(256)),
            format!("/log/.{DRV}-x.drv"),
            format!("/debuginfo/{}", "a".repeat(39)),
            format!("/debuginfo/{}", "a".repeat(41)),
            format!("/debuginfo/{}.debugx", "a".repeat(40)),
            format!("/debuginfo/{}", "g".repeat(40)),
            format!("/realisations/sha256:{}!out.doi", "a".repeat(63)),
            format!("/realisations/sha256:{hex64}out.doi"),
            format!("/realisations/sha256:{hex64}!.doi"),
            format!("/realisations/sha256:{hex64}!out"),
            format!("/realisations/md5:{hex64}!out.doi"),
            format!("/build-trace-v2/{DRV}-x/out.doi"),
            format!("/build-trace-v2/{DRV}-x.drv"),
            format!("/build-trace-v2/{DRV}-x.drv/out"),
            format!("/build-trace-v2/{DRV}-x.drv/a/out.doi"),
        ],
    );
    add(
        "characters",
        &[
            format!("/{HASH}.narinfo;x=1"),
            format!("/nar;x=1/{nar}"),
            "/nar/a:b.nar".into(),
            "/nar/a,b.nar".into(),
            "/nar/a~b.nar".into(),
            "/nar/a'b.nar".into(),
            "/nar/a*b.nar".into(),
            "/nar/a(b).nar".into(),
            "/nar/a$b.nar".into(),
            "/nar/a&b.nar".into(),
            "/nar/a@b.nar".into(),
            "/nar/a!b.nar".into(),
            "/nar/a=b.nar".into(),
            "/log/a:b.drv".into(),
            "/log/a!b.drv".into(),
            "/log/a@b.drv".into(),
        ],
    );
    add(
        "queries",
        &[
            format!("/{HASH}.narinfo?x=1"),
            format!("/{HASH}.ls?x"),
            format!("/realisations/sha256:{hex64}!out.doi?x"),
            format!("/build-trace-v2/{DRV}-x.drv/out.doi?x"),
            format!("/debuginfo/{}?x", "a".repeat(40)),
            format!("/nar/x.nar?{}", "q".repeat(513)),
            "/nar/x.nar?a%00b".into(),
            "/nar/x.nar?a%2Fb".into(),
            "/nar/x.nar?../../etc/passwd".into(),
            "/nar/x.nar?a/../b".into(),
            "/nar/x.nar?a//b".into(),
            "/nar/x.nar?/".into(),
            format!("/log/{DRV}-x.drv?a/b"),
            format!("/log/{DRV}-x.drv?a&b"),
            format!("/log/{DRV}-x?{}", "q".repeat(255)),
        ],
    );
    add(
        "nothing of ours",
        &plain(&[
            "/index.html",
            "/favicon.ico",
            "/robots.txt",
            "/.git/config",
            "/.well-known/x",
            "/admin",
            "/metrics/",
            "/health/",
            "/ready/x",
            "/nix-cache-info/",
            "/nix-cache-info.bak",
            "/cgi-bin/x.sh",
            "/wp-login.php",
            "/team/nar/x.nar",
            "/*",
        ]),
    );
    odd
}
