//! What ten thousand clients cost that are there and say nothing.
//!
//! Each has made a TLS connection and one request, whose answer was right, and holds on. What is told
//! is how much the resident memory of the proxy's processes grew for each, then whether every one of
//! them is still served. What the kernel keeps for a connection is the same for all, and not in it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rustls::ClientConfig;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::super::{Row, Target};
use super::client::{Secured, check, secure, tls};
use super::party::{Door, Name, Party};
use super::world::{World, address};

/// What it is called in the report.
pub(super) const NAME: &str = "memory for an idle TLS connection";

const CONNECTIONS: u32 = 10_000;

/// Connections of one address: a source may have a bound.
const PER_SOURCE: u32 = 500;

/// Clients that connect side by side.
const WORKERS: u32 = 4;
const STEP: usize = 4;

/// Kilobytes for each.
const MOST: f64 = 25.0;

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nhost: bench.test\r\n\r\n";
const BODY: usize = 1_024;

pub(super) fn measure(world: &World) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut ours = None;
    for name in Name::ALWAYS {
        let each = held(world, name).with_context(|| name.text())?;
        match ours {
            None => ours = Some(each),
            Some(ours) => {
                let figure = format!("{NAME}, {CONNECTIONS} held");
                let row = Row::new(figure, "KB", ours).beside(name.text(), each);
                rows.push(row.target(Target::AtMost(MOST)));
            }
        }
    }
    Ok(rows)
}

/// Kilobytes by which the proxy grew for each.
fn held(world: &World, name: Name) -> Result<f64> {
    let party = Party::start(world, name, &[Door::Tls])?;
    let port = name.port(Door::Tls);
    let config = tls(world)?;
    // What grows with the first requests belongs to no connection.
    drop(crowd(world, port, &config, 64)?);
    let before = party.read()?.resident();
    let mut connections = crowd(world, port, &config, CONNECTIONS)?;
    let after = party.read()?.resident();
    for connection in &mut connections {
        ask(connection).context("a connection that was held is not served any more")?;
    }
    drop(connections);
    party.end()?;
    let grown = u32::try_from(after.saturating_sub(before) / 1_000)?;
    Ok(f64::from(grown) / f64::from(CONNECTIONS))
}

fn crowd(world: &World, port: u16, config: &Arc<ClientConfig>, count: u32) -> Result<Vec<Secured>> {
    world.work_beside(|| {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let numbers = (worker..count).step_by(STEP);
                    let one = move |number| -> Result<Secured> {
                        let mut stream = secure(connect(number / PER_SOURCE, port)?, config)?;
                        ask(&mut stream)?;
                        Ok(stream)
                    };
                    scope.spawn(move || numbers.map(one).collect::<Result<Vec<_>>>())
                })
                .collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().ok().context("a client panicked")??);
            }
            Ok(all)
        })
    })
}

/// A connection from one of loopback's many addresses.
fn connect(source: u32, port: u16) -> Result<TcpStream> {
    let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + source);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&address(port).into())?;
    Ok(socket.into())
}

fn ask(stream: &mut Secured) -> Result<()> {
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let read = stream.read(&mut piece)?;
        answer.extend(piece.get(..read).unwrap_or_default());
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        if read == 0 || end.is_some_and(|end| answer.len() >= end + 4 + BODY) {
            return check(&answer, BODY);
        }
    }
}
