//! r2sim checked with the client that narwharf uses: what R2 would answer, and every fault as a
//! client sees it. A simulator that is wrong makes all other tests wrong.

#[path = "selftest/client.rs"]
mod client;
#[path = "selftest/conformance.rs"]
mod conformance;
#[path = "selftest/control.rs"]
mod control;
#[path = "selftest/faults.rs"]
mod faults;
#[path = "selftest/multipart.rs"]
mod multipart;
#[path = "mod.rs"]
mod r2sim;
