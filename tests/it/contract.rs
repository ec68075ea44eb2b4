//! The public contract, row by row: what clients and acceptance scripts rely on.

mod cursors;
mod invalid;
mod messages;
mod order;
mod page;
mod pages;
mod probes;
mod query;
mod routes;
mod secrets;
mod session;
mod stats;
mod token;
mod webhook;
mod wire;
