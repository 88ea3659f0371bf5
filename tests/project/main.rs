//! The project's own rules: layers, documents, examples.

#![allow(missing_docs)]

mod documents;
mod error_types;
mod examples;
mod layers;
mod wording;
