//! Which paths name an object, and what becomes of all others.
