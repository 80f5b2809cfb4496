//! Narinfos: where they come from, how long they are believed, what is never relayed.
