//! A farm that signs in one place, at the gateway: machines that trust its key and no other take what
//! was pushed unsigned.

use crate::bucket::Bucket;
use crate::closure::Closure;
use crate::gateway::Gateway;
use crate::nix::Machine;
use crate::world::World;

#[test]
fn what_the_gateway_signed_is_taken_by_a_client_that_requires_it() {
    // Given a closure that nobody has signed, pushed through a gateway with a key
    let world = World::unsigned(Closure::deep_and_wide());
    let key = world.machine("keys").generate_key("gate-1");
    let bucket = Bucket::Directory(world.at("bucket"));
    let signs = [("SIGNING__SECRET_KEY_FILE", key.secret.display().to_string())];
    let gateway = Gateway::start_with(&world.at("gateway"), &bucket, &signs);
    world.upload(&gateway, "zstd");
    // When machines that demand a signature take it in either way
    let (url, top) = (gateway.url(), world.closure.top());
    let copier = Machine::new(world.at("copier"), &key.public);
    copier.run(&["nix", "copy", "--from", &url, top]);
    let realiser = Machine::new(world.at("realiser"), &key.public);
    realiser.realise(top, &url);
    // Then they hold it, each path with the gateway's signature and no other
    for machine in [&copier, &realiser] {
        machine.verify();
        for path in world.closure.paths() {
            assert!(machine.nar(path) == world.maker.nar(path), "{path}");
        }
        for (path, info) in machine.closure_of(top) {
            let [signature] = info.signatures() else {
                panic!("{path}: {info:?}");
            };
            assert!(signature.starts_with("gate-1:"), "{path}: {signature}");
        }
    }
    // And one that trusts another key takes nothing
    let said = world
        .stranger()
        .fails(&["nix", "copy", "--from", &url, top]);
    assert!(said.contains("lacks a valid signature"), "{said}");
}
