//! The demo services.
