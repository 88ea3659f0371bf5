//! The project's own rules: layers, documents, examples.

#![allow(missing_docs)]

mod documents;
mod examples;
mod layers;
mod wording;
