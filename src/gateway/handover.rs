//! A body that is open at the origin and cannot be kept, for whoever takes it first.
//!
//! Asking anew would cost the bucket a second read of what is already on its way. Whoever comes
//! too late reads for itself.

use std::sync::Mutex;

use crate::object::ObjectMeta;
use crate::origin::ObjectStream;

#[derive(Debug)]
pub struct Handover {
    pub meta: ObjectMeta,
    stream: Mutex<Option<ObjectStream>>,
}

impl Handover {
    pub fn new(stream: ObjectStream) -> Self {
        Self {
            meta: stream.meta.clone(),
            stream: Mutex::new(Some(stream)),
        }
    }

    /// The body from its first byte, once.
    pub fn take(&self) -> Option<ObjectStream> {
        self.stream.lock().expect("no panic under this lock").take()
    }
}
