//! From a decision to its effect: how soon the kernel drops what the proxy or an operator decided.
//!
//! The attacker sends an echo every 200 µs while it guesses keys, and the first echo that stays
//! unanswered tells when the kernel began to drop: the resolution of both figures. The echo over
//! the lab's own cable comes first, for no time below it can be seen by these means.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::{Effort, Row, Samples, Target, alternate, milliseconds};
use super::Area;
use crate::lab::{
    ATTACKER, Ask, Client, Connection, DEADLINE, Echo, Family, HOST_FOR_ATTACKER, HOST_FOR_CLIENT,
    Http, KeyGuesses, Lab, Ping, Site, Train, Upstream, wait_until,
};

/// The area.
pub(super) const AREA: Area =
    Area { name: "loop", what: "how soon a decision is in force in the kernel", measure };

/// Echoes of one round.
const ECHOES: u32 = 50;

/// Pause between two echoes of a train.
const PACE: Duration = Duration::from_micros(200);

/// Failures after which the policy of the demo blocks.
const THRESHOLD: usize = 10;

/// The policy of the demo, with limits that an attack of a hundred rounds does not meet.
const POLICY: &str = include_str!("../../../../policies/demo.toml");

const NAME: &str = "api.demo.test";
const UPSTREAM: SocketAddr = SocketAddr::new(Family::V4.loopback(), 9000);
const PORT: u16 = 8443;

fn measure(effort: Effort) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.push(cable(&lab, family, effort)?);
    }
    let _upstream = Upstream::start(&lab.host, UPSTREAM)?;
    let site = Site::new(&lab.host, POLICY, &[NAME])?;
    let agent = site.start()?;
    for family in Family::BOTH {
        let trials = effort.rounds(100);
        let by_rule = Samples::new(repeat(trials, || by_rule(&lab, &site, family))?)?;
        rows.push(
            Row::new(
                format!("answer to first dropped packet, {family:?}, p50"),
                "ms",
                by_rule.median()?,
            )
            .target(Target::AtMost(10.0)),
        );
        rows.push(
            Row::new(
                format!("answer to first dropped packet, {family:?}, p99"),
                "ms",
                by_rule.percentile(99)?,
            )
            .target(Target::AtMost(50.0)),
        );
        let by_hand = Samples::new(repeat(trials, || by_hand(&lab, &site, family))?)?;
        rows.push(
            Row::new(
                format!("`quarantine` returned to last packet passed, {family:?}, p99"),
                "ms",
                by_hand.percentile(99)?,
            )
            .target(Target::AtMost(1.0)),
        );
    }
    ensure!(agent.terminate()?.success(), "the agent did not end well");
    Ok(rows)
}

/// What the lab itself costs: an echo over the cable beside one on loopback.
fn cable(lab: &Lab, family: Family, effort: Effort) -> Result<Row> {
    let cable = Ping::new(&lab.client, HOST_FOR_CLIENT.of(family))?;
    let loopback = Ping::new(&lab.client, family.loopback())?;
    let (ours, peer) = alternate(effort.rounds(30), || echoes(&cable), || echoes(&loopback))?;
    Ok(Row::new(format!("echo over the lab's cable, {family:?}"), "ms", ours.median()?)
        .beside("loopback", peer.median()?))
}

/// The mean round trip of a few echoes.
fn echoes(ping: &Ping) -> Result<f64> {
    let mut total = Duration::ZERO;
    for _ in 0..ECHOES {
        total += ping.once(Duration::from_secs(1))?.context("an echo was lost")?;
    }
    Ok(milliseconds(total) / f64::from(ECHOES))
}

fn repeat(times: usize, mut trial: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    (0..times).map(|_| trial()).collect()
}

/// One attack: from the answer to the guess that crosses the threshold to the first lost echo.
fn by_rule(lab: &Lab, site: &Site, family: Family) -> Result<f64> {
    let train = begin(lab, family)?;
    let target = HOST_FOR_ATTACKER.at(family, PORT);
    let client = Client::new(&lab.attacker, target, NAME, Some(site.certificate()));
    let mut connection = client.connect(Http::One)?;
    guess(&mut connection)?;
    let answered = Instant::now();

    train.wait_for_silence(10, Duration::from_millis(10))?;
    let echoes = train.stop();
    release(site, family)?;
    // Negative: the kernel dropped before the answer was out, for the answer waits for its record.
    let lost = echoes.iter().find(|echo| echo.answered.is_none()).context("no echo was lost")?;
    let after = milliseconds(lost.sent.saturating_duration_since(answered));
    Ok(after - milliseconds(answered.saturating_duration_since(lost.sent)))
}

/// One order: from the return of the command to the last echo that was sent later and answered.
fn by_hand(lab: &Lab, site: &Site, family: Family) -> Result<f64> {
    let train = begin(lab, family)?;
    let target = ATTACKER.of(family).to_string();
    let done = site.enforcer(&["quarantine", &target, "--for", "5m", "--reason", "bench"])?;
    let returned = Instant::now();
    ensure!(done.is_success(), "{done}");

    train.wait_for_silence(10, Duration::from_millis(10))?;
    let echoes = train.stop();
    release(site, family)?;
    let passed = |echo: &&Echo| echo.answered.is_some() && echo.sent > returned;
    let last = echoes.iter().rfind(passed);
    Ok(last.map_or(0.0, |echo| milliseconds(echo.sent.saturating_duration_since(returned))))
}

fn begin(lab: &Lab, family: Family) -> Result<Train> {
    let train = Train::start(&lab.attacker, HOST_FOR_ATTACKER.of(family), PACE)?;
    train.wait_for_answer_since(Instant::now())?;
    Ok(train)
}

fn guess(connection: &mut Connection) -> Result<()> {
    for key in KeyGuesses::default().take(THRESHOLD) {
        let answer = connection.ask(&Ask::get("/v1/orders").key(&key))?;
        ensure!(answer.status == 401, "a guess got {}", answer.status);
    }
    Ok(())
}

fn release(site: &Site, family: Family) -> Result<()> {
    let target = ATTACKER.of(family).to_string();
    wait_until("the block can be released", DEADLINE, || {
        site.enforcer(&["release", &target]).is_ok_and(|done| done.is_success())
    })
}
