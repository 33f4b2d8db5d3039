//! From the outcome of a request to the bytes that the client gets, with the record in between.

use bytes::Bytes;
use enforcer_inspect::Exposure;
use enforcer_model::{HttpVersion, Rejection, RequestId};
use enforcer_policy::Durability;
use http::header::{CONTENT_LENGTH, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tracing::debug;

use crate::answer::{AnswerBody, Content};
use crate::counters::Counters;
use crate::entry::{Entry, committed, witnessed};
use crate::problem::problem;

/// To whom an answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    id: RequestId,
    http: HttpVersion,
    /// HEAD: the head of an answer is all of it.
    head_only: bool,
}

impl Reply {
    /// To the client that sent `request`.
    pub(crate) fn to<B>(request: &Request<B>, id: RequestId, http: HttpVersion) -> Self {
        Self { id, http, head_only: request.method() == Method::HEAD }
    }

    /// An answer of the upstream's, or a redirect. `entry` is closed when its body has ended.
    pub(crate) async fn complete(
        self,
        answer: Response<Content>,
        mut entry: Entry,
        durability: Option<Durability>,
        looks: bool,
    ) -> Response<AnswerBody> {
        entry.status(answer.status());
        let durability = durability.unwrap_or_else(|| {
            entry.matters_only_if_wrong();
            Durability::Queued
        });
        if !answer.body().is_empty() {
            let exposure = if looks { Exposure::of(answer.headers()) } else { None };
            return answer.map(|body| AnswerBody::closing(body, entry, durability, exposure));
        }
        match self.record(entry, durability).await {
            Ok(()) => answer.map(|_empty| AnswerBody::recorded(Bytes::new())),
            Err(unrecorded) => self.problem(&unrecorded).map(AnswerBody::recorded),
        }
    }

    /// A refusal. All that will be known of it is known now, so the record is written first.
    pub(crate) async fn refuse(
        self,
        rejection: &Rejection,
        challenge: HeaderValue,
        mut entry: Entry,
        durability: Durability,
    ) -> Response<AnswerBody> {
        debug!(id = %self.id, reason = %rejection.reason, cause = rejection.chain(), "refused");
        entry.refused(rejection);
        let mut answer = self.problem(rejection);
        if answer.status() == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        entry.sent(answer.body().len());
        match self.record(entry, durability).await {
            Ok(()) => answer.map(AnswerBody::recorded),
            Err(unrecorded) => self.problem(&unrecorded).map(AnswerBody::recorded),
        }
    }

    /// A refusal because there is no room for a record.
    pub(crate) fn unrecorded(
        self,
        rejection: &Rejection,
        counters: &Counters,
    ) -> Response<AnswerBody> {
        counters.refuse(rejection.reason);
        self.problem(rejection).map(AnswerBody::recorded)
    }

    async fn record(self, entry: Entry, durability: Durability) -> Result<(), Rejection> {
        let ticket = entry.close();
        match durability {
            Durability::Durable => committed(ticket).await,
            Durability::Queued => Ok(()),
            Durability::Witnessed { within } => witnessed(ticket, within).await,
        }
    }

    fn problem(self, rejection: &Rejection) -> Response<Bytes> {
        let mut answer = problem(rejection, self.id, self.http);
        if self.head_only {
            let length = HeaderValue::from(answer.body().len());
            answer.headers_mut().insert(CONTENT_LENGTH, length);
            answer.body_mut().clear();
        }
        answer
    }
}
