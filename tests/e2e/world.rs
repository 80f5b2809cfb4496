//! A build farm in a folder: the machine that made a closure and signed it, and any number of others.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::closure::Closure;
use crate::gateway::{Gateway, TOKEN};
use crate::nix::{KeyPair, Machine};

/// See the module's words. Dropped, all of it is removed.
pub struct World {
    folder: TempDir,
    pub closure: Closure,
    /// Holds the closure, signed.
    pub maker: Machine,
    key: KeyPair,
}

impl World {
    pub fn with(closure: Closure) -> Self {
        let world = Self::unsigned(closure);
        world.maker.sign(world.closure.top(), &world.key);
        world
    }

    /// The maker has signed nothing.
    pub fn unsigned(closure: Closure) -> Self {
        let folder = TempDir::with_prefix("narwharf-e2e-").unwrap();
        let maker = Machine::new(folder.path().join("maker"), "");
        maker.import(&closure);
        let key = maker.generate_key("farm-1");
        Self {
            folder,
            closure,
            maker,
            key,
        }
    }

    /// A machine with an empty store, which trusts the maker's key and no other.
    pub fn machine(&self, name: &str) -> Machine {
        Machine::new(self.at(name), &self.key.public)
    }

    /// A machine with an empty store, which trusts nobody.
    pub fn stranger(&self) -> Machine {
        Machine::new(self.at("stranger"), "")
    }

    /// A place of its own for anything else.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The maker uploads the closure through `gateway`; see [`World::upload_to`].
    #[track_caller]
    pub fn upload(&self, gateway: &Gateway, compression: &str) {
        self.maker
            .succeeds(&mut self.upload_to(&gateway.url(), compression));
    }

    /// The maker's command to upload the closure, logged in as stock Nix does: by a netrc file.
    pub fn upload_to(&self, url: &str, compression: &str) -> Command {
        let netrc = self.at("netrc");
        fs::write(&netrc, format!("machine 127.0.0.1 password {TOKEN}\n")).unwrap();
        let target = format!("{url}?compression={compression}");
        let login = ["--option", "netrc-file", netrc.to_str().unwrap()];
        let copy = ["nix", "copy", "--to", &target, self.closure.top()];
        self.maker.command(&[&copy[..], &login[..]].concat())
    }

    /// Asserts that `machine` holds the closure: the same hashes, references and signatures, and the
    /// same bytes, in the eyes of Nix and of another NAR writer.
    #[track_caller]
    pub fn assert_copied_to(&self, machine: &Machine) {
        let top = self.closure.top();
        assert_eq!(machine.closure_of(top), self.maker.closure_of(top));
        machine.verify();
        for path in self.closure.paths() {
            assert!(
                machine.nar(path) == self.maker.nar(path),
                "{path}: other bytes"
            );
        }
    }
}
