//! From a decision to its effect: how soon the kernel drops what the proxy or an operator decided.
//!
//! The attacker sends an echo every 200 µs while it guesses keys, and the first echo that stays
//! unanswered tells when the kernel began to drop: the resolution of both figures. Only echoes sent
//! after the request that crosses the threshold count, for a packet lost before has another cause.
//! The echo over the lab's own cable comes first, for no time below it can be seen by these means.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::{Effort, Order, Row, Samples, Target, alternate, milliseconds};
use super::Area;
use crate::demo::{NAME, POLICY, THRESHOLD};
use crate::lab::{
    ATTACKER, DEADLINE, Echo, Family, HOST_FOR_ATTACKER, HOST_FOR_CLIENT, Http, KeyGuesses, Lab,
    Ping, Site, Train, UPSTREAM, Upstream, guess, wait_until,
};

/// The area.
pub(super) const AREA: Area =
    Area { name: "loop", what: "how soon a decision is in force in the kernel", measure };

/// Echoes of one round.
const ECHOES: u32 = 50;

/// Pause between two echoes of a train.
const PACE: Duration = Duration::from_micros(200);

fn measure(wanted: &Order) -> Result<Vec<Row>> {
    let effort = wanted.effort;
    let lab = Lab::new()?;
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.push(cable(&lab, family, effort)?);
    }
    let _upstream = Upstream::start(&lab.host, UPSTREAM)?;
    // A durable answer waits for its record to be on disk, a queued one does not: the second shows
    // the way from the proxy to the kernel alone.
    for denied in ["durable", "queued"] {
        let policy = POLICY.replace("denied = \"durable\"", &format!("denied = \"{denied}\""));
        let site = Site::new(&lab.host, &policy, NAME)?;
        let agent = site.start()?;
        for family in Family::BOTH {
            rows.extend(reaction(&lab, &site, family, denied, effort)?);
            if denied == "durable" {
                rows.push(order(&lab, &site, family, effort)?);
            }
        }
        ensure!(agent.terminate()?.success(), "the agent did not end well");
    }
    rows.extend(pack(&lab, effort)?);
    Ok(rows)
}

/// The same by a rule of the pack, through incident and decision. Each attack meets an agent that
/// knows nothing of the one before: what was taken back by hand is not decided again.
fn pack(lab: &Lab, effort: Effort) -> Result<[Row; 2]> {
    let (before, _) = POLICY.split_once("[[rule]]").context("the policy has no rule")?;
    let policy = format!("{before}\n[detect]\npack = \"default\"\n");
    let trial = || {
        let site = Site::new(&lab.host, &policy, NAME)?;
        let agent = site.start()?;
        let took = by_rule(lab, &site, Family::V4)?;
        ensure!(agent.terminate()?.success(), "the agent did not end well");
        Ok(took)
    };
    let samples = Samples::new(repeat(effort.rounds(100), trial)?)?;
    let row = |what, figure, most| {
        let name = format!("rule of the pack: answer to first dropped packet, {what}");
        Row::new(name, "ms", figure).target(Target::AtMost(most))
    };
    Ok([row("p50", samples.median()?, 10.0), row("p99", samples.percentile(99)?, 50.0)])
}

fn reaction(
    lab: &Lab,
    site: &Site,
    family: Family,
    denied: &str,
    effort: Effort,
) -> Result<[Row; 2]> {
    let samples = Samples::new(repeat(effort.rounds(100), || by_rule(lab, site, family))?)?;
    let row = |what, figure, most| {
        let name = format!("{denied} answer to first dropped packet, {family:?}, {what}");
        Row::new(name, "ms", figure).target(Target::AtMost(most))
    };
    Ok([row("p50", samples.median()?, 10.0), row("p99", samples.percentile(99)?, 50.0)])
}

fn order(lab: &Lab, site: &Site, family: Family, effort: Effort) -> Result<Row> {
    let samples = Samples::new(repeat(effort.rounds(100), || by_hand(lab, site, family))?)?;
    let name = format!("`quarantine` returned to last packet passed, {family:?}, p99");
    Ok(Row::new(name, "ms", samples.percentile(99)?).target(Target::AtMost(1.0)))
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

/// One attack: from the answer to the guess that crosses the threshold to the first echo, sent after
/// that guess, that is lost. Negative: the kernel dropped before the answer was out, which waits for
/// its record on disk.
fn by_rule(lab: &Lab, site: &Site, family: Family) -> Result<f64> {
    let train = begin(lab, family)?;
    let client = site.client(&lab.attacker, HOST_FOR_ATTACKER, family);
    let mut connection = client.connect(Http::One)?;
    let mut keys = KeyGuesses::default();
    guess(&mut connection, keys.by_ref().take(THRESHOLD.saturating_sub(1)))?;
    let crossing = Instant::now();
    guess(&mut connection, keys.take(1))?;
    let answered = Instant::now();

    train.wait_for_silence(10, Duration::from_millis(10))?;
    let echoes = train.stop();
    release(site, family)?;
    let lost = first_lost(&echoes, crossing).context("no echo was lost")?;
    let after = milliseconds(lost.saturating_duration_since(answered));
    Ok(after - milliseconds(answered.saturating_duration_since(lost)))
}

/// When the first echo was sent that was lost for good: none after it was answered.
fn first_lost(echoes: &[Echo], since: Instant) -> Option<Instant> {
    let silent = echoes.iter().rev().take_while(|echo| echo.answered.is_none());
    silent.filter(|echo| echo.sent >= since).last().map(|echo| echo.sent)
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

fn release(site: &Site, family: Family) -> Result<()> {
    let target = ATTACKER.of(family).to_string();
    wait_until("the block can be released", DEADLINE, || {
        site.enforcer(&["release", &target]).is_ok_and(|done| done.is_success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_lost_early_or_between_answered_ones_is_not_the_first_lost() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let echo = |ms, answered: bool| Echo { sent: at(ms), answered: answered.then(|| at(ms)) };
        let echoes = [
            echo(1, false),
            echo(2, true),
            echo(4, false),
            echo(5, true),
            echo(6, false),
            echo(7, false),
        ];

        assert_eq!(first_lost(&echoes, at(3)), Some(at(6)));
        assert_eq!(first_lost(&echoes, at(7)), Some(at(7)));
        assert_eq!(first_lost(&echoes[..4], at(3)), None);
    }
}
