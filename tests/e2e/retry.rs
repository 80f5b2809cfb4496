//! What a real Nix before 2.33.2 does when the network fails under its PUT: it tries again, with a
//! tail or with nothing. The client of these tests is the system's; a newer one sends all again.

use std::time::{Duration, Instant};

use crate::bucket::{Bucket, files_below};
use crate::closure::Closure;
use crate::gateway::Gateway;
use crate::proxy::{Mishap, Proxy};
use crate::r2sim::R2Sim;
use crate::world::World;

const MIB: usize = 1024 * 1024;

/// Long enough for a part to be with the bucket when the connection breaks.
const LEN: usize = 14 * MIB;

/// The client's pause before its retry, and what the gateway bears of a retry without a body: 5 s.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

struct Scene {
    world: World,
    bucket: Bucket,
    gateway: Gateway,
}

impl Scene {
    fn set() -> Self {
        let world = World::with(Closure::flat(1, "image", |_| LEN));
        let bucket = Bucket::R2(Box::new(R2Sim::start()));
        let parts = [("UPLOADS__PART_SIZE", "5MiB".to_owned())];
        let gateway = Gateway::start_with(&world.at("gateway"), &bucket, &parts);
        Self {
            world,
            bucket,
            gateway,
        }
    }

    fn sim(&self) -> &R2Sim {
        match &self.bucket {
            Bucket::R2(sim) => sim,
            Bucket::Directory(_) => unreachable!(),
        }
    }

    /// Pushes through `proxy`; answers whether the client was content, and what it said.
    fn push(&self, proxy: &Proxy) -> (bool, String) {
        let mut command = self.world.upload_to(&proxy.url(), "none");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }
}

#[test]
fn a_retry_with_a_tail_ends_soon_and_stores_nothing() {
    let scene = Scene::set();
    let proxy = Proxy::before(scene.gateway.address(), Mishap::CutAfter(8 * MIB as u64));
    let began = Instant::now();
    let (content, said) = scene.push(&proxy);
    let took = began.elapsed();
    assert!(proxy.has_happened());
    println!("content: {content} after {took:?}: {said}");
    assert!(took < ENDED_WITHIN, "{took:?}");
    let whole = scene
        .sim()
        .object_meta(&largest(&scene))
        .map(|meta| meta.len);
    match content {
        true => assert!(whole.is_some()),
        false => {
            assert!(said.contains("nothing was stored"), "{said}");
            assert_eq!(whole, None);
            assert_eq!(scene.sim().open_multipart_uploads(), []);
        }
    }
}

#[test]
fn a_retry_after_a_lost_answer_is_told_that_all_is_well() {
    let scene = Scene::set();
    let lost = Mishap::AnswerLostAfter(8 * MIB as u64);
    let proxy = Proxy::before(scene.gateway.address(), lost);
    let began = Instant::now();
    let (content, said) = scene.push(&proxy);
    let took = began.elapsed();
    println!("content: {content} after {took:?}: {said}");
    assert!(proxy.has_happened() && content, "{said}");
    assert!(took < ENDED_WITHIN, "{took:?}");
    let truth = truth(&scene);
    for (key, bytes) in truth {
        assert!(scene.sim().object(&key) == Some(bytes), "{key}");
    }
}

/// What Nix itself writes.
fn truth(scene: &Scene) -> std::collections::BTreeMap<String, Vec<u8>> {
    let folder = scene.world.at("truth");
    let files = format!("file://{}?compression=none", folder.display());
    let top = scene.world.closure.top();
    scene.world.maker.run(&["nix", "copy", "--to", &files, top]);
    let mut truth = files_below(&folder);
    truth.remove("nix-cache-info");
    truth
}

/// The key of the NAR that met the mishap.
fn largest(scene: &Scene) -> String {
    let truth = truth(scene).into_iter();
    truth.max_by_key(|(_, bytes)| bytes.len()).unwrap().0
}
