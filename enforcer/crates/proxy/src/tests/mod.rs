//! The whole proxy on loopback: real sockets, real TLS, a real audit log, keys and policy, and an
//! upstream that remembers what it saw.

mod attacks;
mod authority;
mod bodies;
mod bounds;
mod certificates;
mod client;
mod cuts;
mod endpoints;
mod fronts;
mod house;
mod lifecycle;
mod requests;
mod tunnels;
mod upstream;

use client::Http2;
use house::House;
