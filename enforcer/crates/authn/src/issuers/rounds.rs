//! Keeps one issuer's keys fresh: a round each `refresh`, sooner when a request orders one, and
//! again soon after one that failed.
//!
//! A round asks for the discovery document and then for the keys that it names. What is not whole
//! changes nothing. Pauses vary by a tenth, so that many agents do not ask as one.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::Clock;
use ring::rand::{SecureRandom, SystemRandom};
use tracing::{debug, info, warn};

use super::discovery::{Discovery, DiscoveryError};
use super::source::Source;
use super::{AskError, Endpoint, EndpointError, KeySource};
use crate::jwt::{KeySet, KeySetError};

/// Between a failure and the next try; doubled with each failure up to [`PAUSE_MAX`].
pub(crate) const PAUSE_MIN: Duration = Duration::from_secs(1);
/// An issuer that is back is noticed within this.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A round brought nothing new.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("no answer from `{endpoint}`")]
    Ask { endpoint: Endpoint, source: AskError },
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("`{endpoint}` has no set of keys")]
    Keys { endpoint: Endpoint, source: KeySetError },
    #[error("`{endpoint}` has no key that can be used")]
    NoKeys { endpoint: Endpoint },
}

/// Fetches until it is dropped.
pub(crate) async fn keep(source: Arc<Source>, clock: Arc<dyn Clock>) {
    if !source.spec.fetches() {
        return std::future::pending().await;
    }
    let random = SystemRandom::new();
    let mut failures = 0;
    loop {
        source.begin_round();
        let outcome = round(&source, &*clock).await;
        let issuer = &source.spec.name;
        let pause = match &outcome {
            Ok(()) => {
                failures = 0;
                source.spec.refresh
            }
            Err(error) => {
                let error = chain(error);
                // Once for a person to look at; a provider that stays down is in the status.
                if failures == 0 {
                    warn!(%issuer, error, "the issuer cannot be asked; its last keys stay in force");
                } else {
                    debug!(%issuer, error, failures, "the issuer still cannot be asked");
                }
                failures += 1;
                back_off(failures).min(source.spec.refresh)
            }
        };
        source.end_round(outcome.map_err(|error| chain(&error)), clock.now().wall);
        tokio::select! {
            () = tokio::time::sleep(varied(pause, &random)) => {}
            () = source.wake.notified() => {}
        }
    }
}

async fn round(source: &Source, clock: &dyn Clock) -> Result<(), RoundError> {
    let since = clock.now().wall;
    let discovery = if source.spec.discovers {
        let endpoint = Discovery::location(&source.spec.url)?;
        let body = ask(source, &endpoint, Discovery::LENGTH_MAX).await?;
        Some(Discovery::read(&body, &source.spec.url)?)
    } else {
        None
    };
    if let Some(discovery) = &discovery {
        match discovery.introspection() {
            Ok(endpoint) => source.publish_introspection(Some(endpoint)),
            // Whether it is needed is for the one who asks.
            Err(DiscoveryError::Missing(_)) => source.publish_introspection(None),
            Err(error) => return Err(error.into()),
        }
    }
    let endpoint = match (&source.spec.keys, &discovery) {
        (KeySource::Discovery, Some(discovery)) => discovery.jwks()?,
        (KeySource::Jwks(endpoint), _) => endpoint.clone(),
        (KeySource::Discovery | KeySource::Pinned(_) | KeySource::None, _) => return Ok(()),
    };
    let body = ask(source, &endpoint, KeySet::DOCUMENT_MAX).await?;
    let set = match KeySet::parse(&body) {
        Ok(set) => set,
        Err(error) => return Err(RoundError::Keys { endpoint, source: error }),
    };
    // An issuer without a key has lost them; it has not taken every token back.
    if set.is_empty() {
        return Err(RoundError::NoKeys { endpoint });
    }
    let (keys, skipped) = (set.len(), set.skipped().count());
    let (came, went) = source.publish_keys(set, since);
    if came + went > 0 {
        info!(issuer = %source.spec.name, keys, came, went, skipped, "the issuer's keys changed");
    }
    Ok(())
}

async fn ask(
    source: &Source,
    endpoint: &Endpoint,
    most: usize,
) -> Result<bytes::Bytes, RoundError> {
    let asked = source.client.get(endpoint, most, source.spec.timeout).await;
    asked.map_err(|error| RoundError::Ask { endpoint: endpoint.clone(), source: error })
}

fn back_off(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    PAUSE_MIN.saturating_mul(doubled).min(PAUSE_MAX)
}

/// `pause`, or up to a tenth less.
fn varied(pause: Duration, random: &SystemRandom) -> Duration {
    let mut byte = [0];
    let Ok(()) = random.fill(&mut byte) else { return pause };
    let [byte] = byte;
    pause.saturating_sub(pause / 10 * u32::from(byte) / 255)
}

/// `error` and its causes on one line, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_at_a_minute() {
        let seconds: Vec<_> = (1..=9).map(|failures| back_off(failures).as_secs()).collect();

        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(back_off(u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn pauses_vary_by_a_tenth_at_most() {
        let random = SystemRandom::new();
        for _ in 0..100 {
            let varied = varied(Duration::from_secs(10), &random);

            assert!((9.0..=10.0).contains(&varied.as_secs_f64()), "{varied:?}");
        }
    }
}
