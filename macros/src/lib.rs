//! The service attribute.
