//! Listings, logs, realisations and debug links: small, opaque, replaceable.
