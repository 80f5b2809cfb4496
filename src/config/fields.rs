//! Asks serde which keys a section has, so that no second list of them can go stale.
//!
//! A derived `Deserialize` hands the names of its fields to the deserializer before anything else.
//! This one keeps them and has nothing to give, so what is an error to serde is our answer.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The field names of `T`, in the order of their declaration; empty when `T` is no plain struct.
pub fn of<T: Deserialize<'static>>() -> &'static [&'static str] {
    match T::deserialize(Ask) {
        Ok(_) => &[],
        Err(Names(names)) => names,
    }
}

struct Ask;

#[derive(Debug)]
struct Names(&'static [&'static str]);

impl<'de> Deserializer<'de> for Ask {
    type Error = Names;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Names> {
        Err(Names(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Names {}

impl de::Error for Names {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self(&[])
    }
}
