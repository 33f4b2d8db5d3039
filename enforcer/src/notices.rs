//! Posts notices about keys to the policy's webhook, beside everything else.
//!
//! One batch at a time, round after round: what the webhook did not take with a 2xx is tried again in
//! the next one, with a longer pause before each, and given up after the last. A batch that comes
//! while another is under way is not taken; its notices wait in the store. Dropped, it stops at
//! once.

use std::time::Duration;

use enforcer_authn::{Endpoint, HttpClient, KeyStore, Notice, NoticeMark, Roots};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// How long a webhook may take for one notice.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pauses between the rounds, in seconds: some seven hours in all.
const PAUSES: [u64; 9] = [1, 5, 15, 60, 300, 900, 1_800, 7_200, 14_400];

/// Who posts.
pub(crate) struct Post {
    batches: mpsc::Sender<Batch>,
    _task: AbortOnDropHandle<()>,
}

/// What became of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The webhook said 2xx.
    Taken,
    /// It never did; the last answer.
    GivenUp(String),
}

struct Batch {
    webhook: String,
    notices: Vec<Notice>,
}

impl Post {
    /// One that waits for its first batch, and where it tells what became of each notice.
    pub(crate) fn new() -> (Self, mpsc::Receiver<(NoticeMark, Posted)>) {
        let (batches, waiting) = mpsc::channel(1);
        let (done, posted) = mpsc::channel(KeyStore::NOTICES_AT_ONCE);
        let task = AbortOnDropHandle::new(tokio::spawn(work(waiting, done)));
        (Self { batches, _task: task }, posted)
    }

    /// Hands over a batch; says how many notices will be told of.
    pub(crate) fn send(&self, webhook: &str, notices: Vec<Notice>) -> usize {
        let count = notices.len();
        let batch = Batch { webhook: webhook.to_owned(), notices };
        if count > 0 && self.batches.try_send(batch).is_ok() { count } else { 0 }
    }
}

async fn work(mut batches: mpsc::Receiver<Batch>, done: mpsc::Sender<(NoticeMark, Posted)>) {
    let client = HttpClient::new(Roots::default());
    while let Some(batch) = batches.recv().await {
        if deliver(&client, batch, &done).await.is_none() {
            return;
        }
    }
}

/// None when nobody listens any more.
async fn deliver(
    client: &HttpClient,
    Batch { webhook, notices }: Batch,
    done: &mpsc::Sender<(NoticeMark, Posted)>,
) -> Option<()> {
    let endpoint = match Endpoint::parse(&webhook) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            for notice in notices {
                done.send((notice.mark, Posted::GivenUp(error.to_string()))).await.ok()?;
            }
            return Some(());
        }
    };
    let mut left: Vec<_> = notices.into_iter().map(|notice| (notice, String::new())).collect();
    let mut pauses = PAUSES.into_iter();
    loop {
        let mut refused = Vec::new();
        for (notice, _) in left {
            match post(client, &endpoint, &notice).await {
                Ok(()) => done.send((notice.mark, Posted::Taken)).await.ok()?,
                Err(why) => {
                    debug!(why, "a webhook did not take a notice");
                    refused.push((notice, why));
                }
            }
        }
        left = refused;
        match pauses.next() {
            _ if left.is_empty() => return Some(()),
            Some(pause) => tokio::time::sleep(Duration::from_secs(pause)).await,
            None => break,
        }
    }
    for (notice, why) in left {
        done.send((notice.mark, Posted::GivenUp(why))).await.ok()?;
    }
    Some(())
}

async fn post(client: &HttpClient, endpoint: &Endpoint, notice: &Notice) -> Result<(), String> {
    let document = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
    let posted = client.post_json(endpoint, document, [], PATIENCE).await;
    posted.map_err(|error| crate::cli::chain(&error))
}
