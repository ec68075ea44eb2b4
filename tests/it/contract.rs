//! The public contract, row by row: what clients and acceptance scripts rely on.

mod invalid;
mod messages;
mod order;
mod probes;
mod query;
mod routes;
mod secrets;
mod stats;
mod token;
mod webhook;
mod wire;
