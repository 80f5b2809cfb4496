//! Who may read and write, and how credentials are shown and refused.
