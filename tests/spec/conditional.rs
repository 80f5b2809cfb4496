//! Conditions on requests: If-None-Match, If-Match.
