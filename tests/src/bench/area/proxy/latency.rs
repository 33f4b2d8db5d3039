//! How much later an answer comes for the proxy in between, at half of the load that it can take.
//!
//! Sixteen clients ask at fixed times, each over its own connection, once through the proxy and once
//! at the upstream itself, in turns. A request whose turn came while the one before was still under
//! way has waited since its turn, and that counts: a proxy that stalls is not asked less.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::super::{Order, Row, Samples, Target};
use super::client::{check, connect};
use super::load::{Target as Ask, wrk};
use super::party::{Door, Name, Party};
use super::world::{UPSTREAM, World};
use super::{rounds, seconds};

/// What it is called in the report.
pub(super) const NAME: &str = "latency added at half load";

/// Clients that ask side by side.
const CLIENTS: u32 = 16;

/// Milliseconds that the proxy may add: at the median, and for 99 of 100.
const MOST: [f64; 2] = [0.15, 1.0];

const BODY: usize = 1_024;

pub(super) fn measure(world: &World, order: &Order) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in Name::ALWAYS {
        let party = Party::start(world, name, &[Door::Plain])?;
        let port = name.port(Door::Plain);
        let url = format!("http://127.0.0.1:{port}/small");
        let ask = Ask { url: &url, body: 1_024, credentials: None };
        let full = wrk(world, ask, seconds(order.effort))?;
        let rate = f64::from(u32::try_from(full.requests)?) / full.seconds / 2.0;
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for round in 0..rounds(order) {
            let ports = if round % 2 == 0 { [port, UPSTREAM] } else { [UPSTREAM, port] };
            let mut told = Vec::new();
            for port in ports {
                told.push((port, paced(world, port, rate, seconds(order.effort))?));
            }
            let of = |wanted: u16, percent| -> Result<f64> {
                let samples = told.iter().find(|(port, _)| *port == wanted);
                samples.context("not measured")?.1.percentile(percent)
            };
            p50.push(of(port, 50)? - of(UPSTREAM, 50)?);
            p99.push(of(port, 99)? - of(UPSTREAM, 99)?);
        }
        party.end()?;
        for (what, figures, most) in [("p50", p50, MOST[0]), ("p99", p99, MOST[1])] {
            let samples = Samples::new(figures)?;
            let figure = format!("{NAME}, {what}, {} at {rate:.0}/s", name.text());
            let row = Row::new(figure, "ms", samples.median()?)
                .spread(samples.percentile(0)?, samples.percentile(100)?);
            let ours = name == Name::Enforcer;
            rows.push(if ours { row.target(Target::AtMost(most)) } else { row });
        }
    }
    Ok(rows)
}

/// Milliseconds of each request, of `rate` in a second.
fn paced(world: &World, port: u16, rate: f64, seconds: u32) -> Result<Samples> {
    let pace = Duration::from_secs_f64(f64::from(CLIENTS) / rate);
    let count = Duration::from_secs(seconds.into()).as_nanos() / pace.as_nanos();
    let count = u32::try_from(count)?;
    let times = world.work_beside(|| {
        let begin = Instant::now() + Duration::from_millis(20);
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    // They take turns within the pace.
                    let first = begin + pace.mul_f64(f64::from(client) / f64::from(CLIENTS));
                    scope.spawn(move || one(connect(port)?, first, pace, count))
                })
                .collect();
            let mut all = Vec::new();
            for client in clients {
                all.extend(client.join().ok().context("a client panicked")??);
            }
            Ok(all)
        })
    })?;
    Samples::new(times)
}

fn one(mut stream: TcpStream, first: Instant, pace: Duration, count: u32) -> Result<Vec<f64>> {
    let request = b"GET /small HTTP/1.1\r\nhost: bench.test\r\n\r\n";
    let mut times = Vec::with_capacity(usize::try_from(count)?);
    let mut answer = vec![0; 4_096];
    for number in 0..count {
        let turn = first + pace * number;
        let now = Instant::now();
        // Waking up late is the clock's fault, not the proxy's.
        let begun = if now < turn {
            thread::sleep(turn - now);
            Instant::now()
        } else {
            turn
        };
        stream.write_all(request)?;
        let length = read_answer(&mut stream, &mut answer)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        check(answer.get(..length).unwrap_or_default(), BODY)?;
    }
    Ok(times)
}

/// Reads a head and the body behind it, whose length is known; returns how much that was.
fn read_answer(stream: &mut TcpStream, answer: &mut [u8]) -> Result<usize> {
    let (mut length, mut whole) = (0, None);
    while whole.is_none_or(|whole| length < whole) {
        let room = answer.get_mut(length..).filter(|room| !room.is_empty());
        let read = stream.read(room.context("an answer that is too long")?)?;
        ensure!(read > 0, "the connection was closed");
        length += read;
        if whole.is_none() {
            let head = answer.get(..length).unwrap_or_default();
            let end = head.windows(4).position(|four| four == b"\r\n\r\n");
            whole = end.map(|end| end + 4 + BODY);
        }
    }
    Ok(length)
}
