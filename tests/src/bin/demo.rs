//! The story of enforcer, told while it happens: `cargo xtask demo`.
//!
//! Every sentence is a promise that is tried in the lab. The last line counts the promises that
//! were held, and the exit code is 0 only when all of them were. With `--stay` the lab is kept up
//! as a playground until Ctrl-C.

#![expect(clippy::print_stdout, reason = "telling is what the demo is for")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use enforcer_tests::lab::{
    ATTACKER, Ask, CLIENT, Client, Family, HOST_FOR_ATTACKER, HOST_FOR_CLIENT, Lab, Ping, Upstream,
};
use enforcer_tests::story::{Story, held_if};

/// Where the upstream listens in the host.
const UPSTREAM: SocketAddr = SocketAddr::new(Family::V4.loopback(), 9000);

/// How many promises the story has.
const PROMISES: u32 = 3;

/// The story of enforcer, told while it happens.
#[derive(Parser)]
struct Arguments {
    /// Keep the lab up until Ctrl-C
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut story = Story::begin("enforcer, in a lab of three hosts", PROMISES);
    match tell(&mut story, &arguments) {
        Ok(()) => story.end(),
        Err(error) => story.break_off(&error),
    }
}

fn tell(story: &mut Story, arguments: &Arguments) -> Result<()> {
    story.chapter("A network");
    let lab = Lab::new()?;
    story.step(&format!("client {} and attacker {} each reach the host", CLIENT.v4, ATTACKER.v4));
    story.promise("the client reaches the host", || both(&lab, HOST_FOR_CLIENT, Who::Client));
    story.promise("so does the attacker", || both(&lab, HOST_FOR_ATTACKER, Who::Attacker));

    story.chapter("A service");
    let upstream = Upstream::start(&lab.host, UPSTREAM)?;
    story.promise("the service answers inside the host", || {
        let answer = Client::new(&lab.host, UPSTREAM, "api.example.com", None)
            .ask(&Ask::get("/v1/orders"))?;
        held_if(
            answer.status.is_success() && upstream.requests() == 1,
            format!("{} in {:.1?}", answer.status, answer.took),
        )
    });

    if arguments.stay {
        stay(&lab)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Who {
    Client,
    Attacker,
}

fn both(lab: &Lab, host: enforcer_tests::lab::Addresses, who: Who) -> Result<String> {
    let from = match who {
        Who::Client => &lab.client,
        Who::Attacker => &lab.attacker,
    };
    let mut seen = Vec::new();
    for family in Family::BOTH {
        let took = Ping::new(from, host.of(family))?
            .once(Duration::from_secs(1))?
            .with_context(|| format!("no echo from {}", host.of(family)))?;
        seen.push(format!("{} in {took:.1?}", host.of(family)));
    }
    Ok(seen.join(", "))
}

fn stay(lab: &Lab) -> Result<()> {
    println!("\nThe lab stays up. In another terminal, as root:");
    for host in [&lab.client, &lab.attacker, &lab.host] {
        println!("  {:<9} nsenter -t {} -n -m bash", host.name(), host.keeper());
    }
    println!("Ctrl-C takes it down.");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c()).context("waiting for Ctrl-C")
}
