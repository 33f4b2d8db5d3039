//! `upstream [ADDRESS]…`: the lab's HTTP server by hand, until Ctrl-C.
//!
//! What it answers is written in the path: see `enforcer_tests::lab::Upstream`.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};
use clap::Parser;
use enforcer_tests::lab::Upstream;

/// An HTTP server whose answers are written in the path.
#[derive(Parser)]
struct Arguments {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:9000")]
    addresses: Vec<SocketAddr>,
}

fn main() -> Result<()> {
    let mut servers = Vec::new();
    for address in Arguments::parse().addresses {
        let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
        let server = Upstream::serve(listener)?;
        println!("listening on http://{}", server.address());
        servers.push(server);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c())?;
    for server in &servers {
        println!("{}: {} requests", server.address(), server.requests());
    }
    Ok(())
}
