//! `nix-cache-info`, the first thing a client asks a cache for.
//!
//! It is made from settings and never stored, so that no upload can change what a cache says of
//! itself. Clients keep it for seven days. Source: Nix, `libstore/http-binary-cache-store.cc` and
//! `binary-cache-store.cc`.

/// The media type Nix itself uploads it with.
pub const CONTENT_TYPE: &str = "text/x-nix-cache-info";

/// The text of `nix-cache-info`.
///
/// `priority`: the cache with the lowest number is asked first; cache.nixos.org has 40. It is an
/// `i32` because that is what Nix reads, and any larger number kills the client's command.
/// `want_mass_query`: whether clients may ask for many paths in advance.
pub fn render(store_dir: &str, want_mass_query: bool, priority: i32) -> String {
    let want_mass_query = u8::from(want_mass_query);
    format!("StoreDir: {store_dir}\nWantMassQuery: {want_mass_query}\nPriority: {priority}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_nix_expects() {
        assert_eq!(
            render("/nix/store", true, 40),
            "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n"
        );
        assert_eq!(
            render("/gnu/store", false, -1),
            "StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: -1\n"
        );
    }
}
