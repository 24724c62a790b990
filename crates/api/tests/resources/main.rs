//! The resources as the api-server sees them.

mod admission;
mod compatibility;
mod schema;
mod support;
