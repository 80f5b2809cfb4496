//! The order of the sources, and what is said about a mistake in one of them.

use super::*;

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
fn what_is_not_built_yet_is_refused_whatever_its_value() {
    let desk = Desk::new();
    for text in [
        "[[substituter]]\nname = 'nixos'",
        "substituter = []",
        "[server.tls]\ncertificate = 'a'",
        "[server]\ntls.private_key = 'a'",
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
