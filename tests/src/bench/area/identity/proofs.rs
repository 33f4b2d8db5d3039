//! What is signed for upstreams, and what a holder proves of its token.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, anyhow};
use enforcer_authn::{Assertions, DpopProofs, Statement};
use enforcer_model::{Clock, RequestId, SystemClock};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;

use super::super::super::{Effort, Row, Samples};
use super::tokens::TARGET;
use super::{each, keys, rounds, versus};
use crate::lab::idp::Holder;

const CALLS: usize = 200;
/// A proof covers its token by the hash alone.
const TOKEN: &str = "a.token.of-whatever-length";

pub(super) fn measure(effort: Effort) -> Result<Vec<Row>> {
    Ok(vec![signature(effort)?, proof(effort)?])
}

fn signature(effort: Effort) -> Result<Row> {
    let folder = keys::folder()?;
    let now = SystemClock.now().wall;
    let life = Duration::from_secs(60);
    let path = folder.path().join("identity.key");
    let assertions = Assertions::load_or_create(&path, "https://gw.example", life)?;
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
    let document = document.map_err(|error| anyhow!("{error}"))?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|error| anyhow!("{error}"))?;
    let statement = |n: usize| -> Result<Statement<'static>> {
        Ok(Statement {
            audience: "orders",
            caller: None,
            roles: &["reader", "writer"],
            method: "GET",
            host: "api.example.com",
            path: "/v1/orders/7",
            request: RequestId::from_bits(u128::try_from(n)?),
            region: Some("DE"),
        })
    };
    let same_length = assertions.sign(&statement(0)?, now);
    versus(
        "`Enforcer-Identity` signed for one request (EdDSA)",
        "as many bytes signed by ring alone",
        effort,
        || each(CALLS, |n| Ok(black_box(assertions.sign(&statement(n)?, now)).is_empty())),
        || {
            each(CALLS, |n| {
                let signed = same_length.as_bytes().get(n % 4..).unwrap_or_default();
                Ok(black_box(pair.sign(signed)).as_ref()[0] == 0)
            })
        },
    )
}

fn proof(effort: Effort) -> Result<Row> {
    let holder = Holder::new()?;
    let now = SystemClock.now().wall;
    let url = "https://api.example.com/v1/orders";
    let proofs = (0..CALLS)
        .map(|n| {
            holder.proof_of("GET", url, Some(TOKEN), now.unix_seconds(), &format!("proof-{n}"))
        })
        .collect::<Result<Vec<String>>>()?;
    let key = holder.thumbprint();
    let figures = (0..rounds(effort)).map(|_| {
        // Every proof is good once.
        let accepted = DpopProofs::new();
        each(CALLS, |n| {
            accepted.prove(proofs[n].as_bytes(), TOKEN.as_bytes(), &TARGET, &key, now)?;
            Ok(true)
        })
    });
    let median = Samples::new(figures.collect::<Result<_>>()?)?.median()?;
    Ok(Row::new("DPoP proof verified (ES256, its key in the proof)", "ns", median))
}
