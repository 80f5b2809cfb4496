//! What narwharf promises, told as a client sees it: one chapter a subject, each test one sentence.
//!
//! Every test runs the whole gateway between real sockets and an S3 server with faults at will
//! (`tests/bed`). A failing test names the promise that was broken.

#[path = "../bed/mod.rs"]
mod bed;

mod auth;
mod before_body;
mod bounds;
mod broken_retry;
mod concurrent;
mod conditional;
mod cut;
mod disk;
mod document;
mod doubt;
mod fill;
mod freshness;
mod hot;
mod key;
mod leaving;
mod multipart;
mod nar;
mod narinfo;
mod negative;
mod operator;
mod outage;
mod pages;
mod parallel_fill;
mod passes;
mod patience;
mod prompt;
mod races;
mod range;
mod ranges_in_flight;
mod refused;
mod removal;
mod rescue;
mod restart;
mod secrets;
mod sending;
mod signing;
mod slow;
mod through_memory;
mod upkeep;
mod upload;
mod wire;
