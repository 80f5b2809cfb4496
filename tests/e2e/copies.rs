//! A closure goes into a cache by `nix copy` and comes out of it into empty stores.

use crate::bucket::Bucket;
use crate::closure::{Closure, store_path};
use crate::gateway::Gateway;
use crate::r2sim::R2Sim;
use crate::world::World;

/// A person's first five minutes: start it, paste what it printed.
#[test]
fn the_printed_lines_work_as_they_stand() {
    // Given a gateway with nothing set, and machines on which ./result points to the closure's top
    let world = World::with(Closure::deep_and_wide());
    let [copier, builder] = ["copier", "builder"].map(|name| world.machine(name));
    let mut gateway = Gateway::start_bare(&world.at("gateway"));
    let top = world.closure.top();
    world.maker.link_result(top);
    copier.link_result(top);
    // When its lines are pasted: push, fetch, and build, the last one for the path that is there
    world.maker.paste(&gateway.prints("copy --to"));
    copier.paste(&gateway.prints("copy --from"));
    builder.paste(
        &gateway
            .prints("build --option")
            .replace("nixpkgs#hello", top),
    );
    // Then the other machines hold the closure
    world.assert_copied_to(&copier);
    world.assert_copied_to(&builder);
    assert!(gateway.terminate().success());
}

#[test]
fn a_closure_goes_both_ways_as_xz() {
    both_ways("xz");
}

#[test]
fn a_closure_goes_both_ways_as_zstd() {
    both_ways("zstd");
}

#[test]
fn a_closure_goes_both_ways_uncompressed() {
    both_ways("none");
}

fn both_ways(compression: &str) {
    // Given a gateway in front of a directory, and a closure uploaded through it
    let world = World::with(Closure::deep_and_wide());
    let folder = world.at("bucket");
    let gateway = Gateway::start(&world.at("gateway"), &Bucket::Directory(folder.clone()));
    let (url, top) = (gateway.url(), world.closure.top());
    world.upload(&gateway, compression);
    // When machines with empty stores take it in either way, then they hold the same bytes
    let copier = world.machine("copier");
    copier.run(&["nix", "copy", "--from", &url, top]);
    world.assert_copied_to(&copier);
    let realiser = world.machine("realiser");
    realiser.realise(top, &url);
    world.assert_copied_to(&realiser);
    // And one that trusts nobody takes nothing: signatures were what let the others in
    let said = world
        .stranger()
        .fails(&["nix", "copy", "--from", &url, top]);
    assert!(said.contains("lacks a valid signature"), "{said}");
    assert!(gateway.terminate().success());
    // And the directory is a cache that Nix can use without us
    let direct = world.machine("direct");
    let files = format!("file://{}", folder.display());
    direct.run(&["nix", "copy", "--from", &files, top]);
    world.assert_copied_to(&direct);
}

#[test]
fn a_cache_that_nix_wrote_is_served_as_it_is() {
    let world = World::with(Closure::deep_and_wide());
    let folder = world.at("bucket");
    let files = format!("file://{}?compression=xz", folder.display());
    world
        .maker
        .run(&["nix", "copy", "--to", &files, world.closure.top()]);
    let gateway = Gateway::start(&world.at("gateway"), &Bucket::Directory(folder));
    let machine = world.machine("machine");
    machine.realise(world.closure.top(), &gateway.url());
    world.assert_copied_to(&machine);
}

/// What the second machine of a farm costs: nothing.
#[test]
fn a_second_copy_asks_the_bucket_nothing() {
    // Given a closure that was uploaded through one gateway, and copied once through another, cold one
    let world = World::with(Closure::deep_and_wide());
    let bucket = Bucket::R2(Box::new(R2Sim::start()));
    let Bucket::R2(sim) = &bucket else {
        unreachable!()
    };
    let uploader = Gateway::start(&world.at("uploader"), &bucket);
    world.upload(&uploader, "zstd");
    let gateway = Gateway::start(&world.at("gateway"), &bucket);
    let (url, top) = (gateway.url(), world.closure.top());
    let first = world.machine("first");
    first.run(&["nix", "copy", "--from", &url, top]);
    world.assert_copied_to(&first);
    // When a second machine copies it, by either command
    sim.log().reset();
    let second = world.machine("second");
    second.run(&["nix", "copy", "--from", &url, top]);
    let third = world.machine("third");
    third.realise(top, &url);
    // Then the bucket hears of neither
    let asked: Vec<_> = sim
        .log()
        .entries()
        .into_iter()
        .map(|entry| entry.asked)
        .filter(|asked| asked.key != "nix-cache-info") // The gateway feels the bucket's pulse now and then.
        .collect();
    assert!(asked.is_empty(), "{asked:#?}");
    world.assert_copied_to(&second);
    world.assert_copied_to(&third);
}

#[test]
fn an_unheard_of_path_is_an_ordinary_miss() {
    let world = World::with(Closure::deep_and_wide());
    let gateway = Gateway::start_bare(&world.at("gateway"));
    let machine = world.machine("machine");
    let missing = store_path("unheard-of");
    let said = machine.fails(&["nix", "path-info", "--store", &gateway.url(), &missing]);
    assert!(said.contains("is not valid"), "{said}");
    let substituter = ["--option", "substituters", &gateway.url()];
    let said = machine.fails(&[&["nix-store", "-r", &missing][..], &substituter[..]].concat());
    assert!(
        said.contains("don't know how to build") && !said.contains("warning"),
        "{said}"
    );
}
