//! The load, made by programs that nobody here wrote: `wrk` for HTTP/1.1, `h2load` for HTTP/2.
//!
//! An answer of another status or length than it should have makes the round worthless, and so does a
//! single connection that failed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::world::World;

/// Bytes of a head that come with a body, at most.
const HEAD: u64 = 1_024;

/// Connections of a load of HTTP/1.1.
const CONNECTIONS: u32 = 64;

/// Connections and streams of a load of HTTP/2.
const H2: (u32, u32) = (8, 16);

/// What a load achieved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Done {
    /// Good answers.
    pub(super) requests: u64,
    /// Seconds that it took.
    pub(super) seconds: f64,
    /// Half of the requests were answered within so many milliseconds.
    pub(super) p50: f64,
    /// Of 100, 99 were.
    pub(super) p99: f64,
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// With scheme, port and path.
    pub(super) url: &'a str,
    /// The length of the body.
    pub(super) body: u64,
    /// A file with a value of `Authorization` in each line, taken in turns.
    pub(super) credentials: Option<&'a Path>,
}

/// The last line of `load.lua`.
#[derive(Deserialize)]
struct Told {
    requests: u64,
    bytes: u64,
    microseconds: f64,
    failed: u64,
    p50: f64,
    p99: f64,
}

/// As many requests over 64 connections as are answered in so many seconds.
pub(super) fn wrk(world: &World, target: Target<'_>, seconds: u32) -> Result<Done> {
    let mut command = world.host.command("wrk");
    command
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"])
        .arg(world.folder.path().join("load.lua"))
        .arg(target.url);
    if let Some(credentials) = target.credentials {
        command.arg("--").arg(credentials);
    }
    let said = world.host.succeed(world.beside(&command)).context("wrk")?;
    read_wrk(&said, target.body)
}

fn read_wrk(said: &str, body: u64) -> Result<Done> {
    let last = said.lines().last().context("wrk said nothing")?;
    let told: Told = serde_json::from_str(last).with_context(|| format!("wrk said {said}"))?;
    ensure!(told.requests > 0, "no request was answered");
    ensure!(told.failed == 0, "{} of {} requests failed", told.failed, told.requests);
    let mean = told.bytes / told.requests;
    ensure!(
        (body..body + HEAD).contains(&mean),
        "answers have {mean} bytes with their heads, and should have {body} without"
    );
    Ok(Done {
        requests: told.requests,
        seconds: told.microseconds / 1e6,
        p50: told.p50 / 1e3,
        p99: told.p99 / 1e3,
    })
}

/// As many requests over 8 connections of 16 streams as are answered in so many seconds.
pub(super) fn h2load(world: &World, target: Target<'_>, seconds: u32) -> Result<Done> {
    let log = world.folder.path().join("h2load.log");
    // It appends.
    drop(fs::remove_file(&log));
    let mut command = world.host.command("h2load");
    let (clients, streams) = H2;
    command
        .args(["-t1", &format!("-c{clients}"), &format!("-m{streams}"), &format!("-D{seconds}")])
        .arg(format!("--log-file={}", log.display()))
        .arg(target.url);
    let said = world.host.succeed(world.beside(&command)).context("h2load")?;
    let log = fs::read_to_string(&log).context("the log of h2load")?;
    read_h2load(&said, &log, target.body, f64::from(seconds))
}

fn read_h2load(said: &str, log: &str, body: u64, seconds: f64) -> Result<Done> {
    let requests = counted(said, "requests: ", " done")?;
    let good = counted(said, "status codes: ", " 2xx")?;
    let failed = counted(said, "requests: ", " failed")?;
    ensure!(requests > 0, "no request was answered");
    // What the end cuts off may have its status already, and some of its data.
    let most = requests + u64::from(H2.0 * H2.1);
    ensure!(
        failed == 0 && (requests..=most).contains(&good),
        "of {requests} requests {good} were answered well"
    );
    ensure!(said.contains("Application protocol: h2"), "h2load does not speak HTTP/2 here");
    let data = said.lines().find(|line| line.starts_with("traffic: ")).context("no traffic")?;
    let data = data.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let data: u64 = data.context("no data in the traffic")?.0.parse()?;
    let whole = requests * body..=most * body;
    ensure!(whole.contains(&data), "{data} bytes in {requests} answers of {body}");
    let mut times = Vec::new();
    for line in log.lines() {
        let microseconds = line.split('\t').nth(2).context("the log of h2load is short")?;
        times.push(microseconds.parse::<u32>()?);
    }
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(rank).map(|&time| f64::from(time) / 1e3).context("the log of h2load is empty")
    };
    Ok(Done { requests, seconds, p50: at(50)?, p99: at(99)? })
}

/// The number before `unit` in the line that begins with `name`.
fn counted(said: &str, name: &str, unit: &str) -> Result<u64> {
    let missing = || format!("no `{name}…{unit}` in {said}");
    let line = said.lines().find_map(|line| line.strip_prefix(name)).with_context(missing)?;
    let part = line.split(", ").find_map(|part| part.strip_suffix(unit)).with_context(missing)?;
    Ok(part.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 1s test @ http://127.0.0.1:1/\nTransfer/sec: 4MB\n\
        {\"requests\":100,\"bytes\":120000,\"microseconds\":1000000,\"failed\":0,\"p50\":62,\"p99\":1400}\n";

    const H2LOAD: &str = "Application protocol: h2\n\
        finished in 1.00s, 3 req/s, 2MB/s\n\
        requests: 3 total, 4 started, 3 done, 3 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 3 2xx, 0 3xx, 0 4xx, 0 5xx\n\
        traffic: 4.00KB (4096) total, 1.00KB (1024) headers (space savings 90.00%), 3.00KB (3072) data\n";

    #[test]
    fn what_wrk_says_is_believed_when_every_answer_was_right() {
        let done = read_wrk(WRK, 1_024).unwrap();

        assert_eq!(done, Done { requests: 100, seconds: 1.0, p50: 0.062, p99: 1.4 });
        assert!(read_wrk(&WRK.replace("\"failed\":0", "\"failed\":1"), 1_024).is_err());
        assert!(read_wrk(&WRK.replace("120000", "20000"), 1_024).is_err());
        assert!(read_wrk(&WRK.replace("120000", "220000"), 1_024).is_err());
        assert!(read_wrk(&WRK.replace("\"requests\":100", "\"requests\":0"), 1_024).is_err());
    }

    #[test]
    fn what_h2load_says_is_believed_when_every_answer_was_right() {
        let log = "1\t200\t3000\n2\t200\t1000\n3\t200\t2000\n";

        let done = read_h2load(H2LOAD, log, 1_024, 1.0).unwrap();

        assert_eq!(done, Done { requests: 3, seconds: 1.0, p50: 2.0, p99: 3.0 });
        for (good, bad) in [
            ("3 2xx, 0 3xx", "2 2xx, 1 3xx"),
            ("0 failed", "1 failed"),
            ("(3072)", "(1000)"),
            ("protocol: h2", "protocol: http/1.1"),
        ] {
            assert!(read_h2load(&H2LOAD.replace(good, bad), log, 1_024, 1.0).is_err(), "{bad}");
        }
    }
}
