//! Everything has a limit, and what is past it gets a plain answer or a closed connection. Where a limit is a
//! time, the service is given a short one; where it is a constant, the test waits for it.

mod bodies;
mod connection_flood;
mod connections;
mod framing;
mod noise;
mod overload;
