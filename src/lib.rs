#![doc = include_str!("../ARCHITECTURE.md")]

pub mod cli;
pub mod clock;
pub mod config;
pub mod cursor;
pub mod erasure;
pub mod event;
pub mod http;
pub mod inbox;
pub mod message;
pub mod metrics;
mod output;
mod partial;
mod paths;
pub mod query;
pub mod server;
pub mod service;
mod session;
pub mod signature;
pub mod source;
pub mod store;
pub mod tail;
pub mod telemetry;
pub mod validation;
