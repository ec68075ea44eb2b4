//! Everything that is tested from outside, in one binary: a file for each face of the product.
#![allow(missing_docs, reason = "tests speak for themselves")]

mod crash;
mod model;
mod store_contract;
mod store_sqlite;
mod support;
