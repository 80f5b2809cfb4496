//! A closure goes into a cache by `nix copy` and comes out of it into empty stores.

use crate::closure::{Closure, store_path};
use crate::world::World;

#[test]
fn through_files() {
    let world = World::with(Closure::deep_and_wide());
    let top = world.closure.top();
    let cache = format!("file://{}", world.at("cache").display());
    world.maker.run(&[
        "nix",
        "copy",
        "--to",
        &format!("{cache}?compression=zstd"),
        top,
    ]);
    let copier = world.machine("copier");
    copier.run(&["nix", "copy", "--from", &cache, top]);
    world.assert_copied_to(&copier);
    let realiser = world.machine("realiser");
    realiser.realise(top, &cache);
    world.assert_copied_to(&realiser);
    let said = world
        .stranger()
        .fails(&["nix", "copy", "--from", &cache, top]);
    assert!(said.contains("lacks a valid signature"), "{said}");
    let said = copier.fails(&[
        "nix",
        "path-info",
        "--store",
        &cache,
        &store_path("unheard-of"),
    ]);
    assert!(said.contains("is not valid"), "{said}");
}
