//! Whether the certificate of a client is still good, for as long as its connection lives.
//!
//! A ticket holds the certificate of the handshake that it was given after, so it is judged again when
//! a session is resumed; so is every certificate after a reload with other authorities or lists, and
//! once in a while, because time passes.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Clock, Timestamp};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio::time::timeout;

use super::judge::Judge;
use super::{Certificates, Settings};

/// The certificate that a client has shown, for as long as its connection lives.
#[derive(Debug)]
pub(crate) struct Trust {
    certificates: Arc<Certificates>,
    listener: Arc<str>,
    chain: Vec<CertificateDer<'static>>,
    reloaded: watch::Receiver<()>,
    /// Who has found the certificate good.
    judge: Option<Arc<Judge>>,
}

/// The certificate of a client is not good any more.
#[derive(Debug, thiserror::Error)]
#[error("the client certificate is not good any more")]
pub(crate) struct Distrusted(#[source] Option<rustls::Error>);

/// How long a certificate is taken for good without another look: it may expire meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Trust {
    /// In nobody as yet; to be made before the settings for a handshake are taken, so that no reload
    /// is missed.
    pub(crate) fn new(certificates: &Arc<Certificates>, listener: &Arc<str>) -> Self {
        Self {
            certificates: Arc::clone(certificates),
            listener: Arc::clone(listener),
            chain: Vec::new(),
            reloaded: certificates.reloaded.subscribe(),
            judge: None,
        }
    }

    /// In the holder of `chain`.
    pub(crate) fn of(self, chain: &[CertificateDer<'_>]) -> Self {
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        Self { chain, ..self }
    }

    /// The handshake has just judged the certificate by `settings`.
    pub(crate) fn was_judged_by(&mut self, settings: &Settings) {
        self.judge = settings.clients.clone();
    }

    /// Judges the certificate by what is in force at `now`.
    pub(crate) fn look(&mut self, now: Timestamp) -> Result<(), Distrusted> {
        let settings = self.certificates.of(&self.listener);
        let judge =
            settings.and_then(|settings| settings.clients.clone()).ok_or(Distrusted(None))?;
        let (own, others) = self.chain.split_first().ok_or(Distrusted(None))?;
        let moment = UnixTime::since_unix_epoch(Duration::from_nanos(now.unix_ns()));
        let judged = judge.verifier.verify_client_cert(own, others, moment);
        judged.map_err(|error| Distrusted(Some(error)))?;
        self.judge = Some(judge);
        Ok(())
    }

    /// Waits for a reason to judge the certificate again (a reload with other authorities or lists,
    /// or time that has passed), and does.
    pub(crate) async fn next_look(&mut self, clock: &dyn Clock) -> Result<(), Distrusted> {
        loop {
            match timeout(LOOK_EVERY, self.reloaded.changed()).await {
                Ok(Ok(())) if self.judge_is_the_same() => {}
                Ok(Ok(())) | Err(_) => return self.look(clock.now().wall),
                // There will be no other: the agent is ending.
                Ok(Err(_)) => std::future::pending().await,
            }
        }
    }

    fn judge_is_the_same(&self) -> bool {
        let settings = self.certificates.of(&self.listener);
        match (settings.and_then(|settings| settings.clients.clone()), &self.judge) {
            (Some(now), Some(before)) => Arc::ptr_eq(&now, before),
            (Some(_), None) | (None, _) => false,
        }
    }
}
