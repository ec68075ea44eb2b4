#![doc = include_str!("../ARCHITECTURE.md")]

pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod inbox;
pub mod message;
pub mod metrics;
mod output;
pub mod query;
pub mod server;
pub mod service;
pub mod signature;
pub mod store;
pub mod telemetry;
pub mod validation;
