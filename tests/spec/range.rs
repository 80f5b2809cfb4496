//! Ranges: the right bytes from a blob, from a running fill and from the bucket.
