//! Signs every call to the control plane: a JWT alone is not accepted (RFC 9449).

use std::sync::atomic::{AtomicI64, Ordering};

use imp_grammar::proof::{CLOCK_HEADER, Call, HEADER, PrivateKey, SCHEME, TOLERANCE_MS};
use imp_process::clock;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::identity::Seed;

/// The agent's key, this process's name, and the offset of the control plane's clock.
#[derive(Debug)]
pub(crate) struct Prover {
    /// Never `None` in practice: every seed makes a valid key.
    key: Option<PrivateKey>,
    /// Random, so that another process with the same key has another name.
    instance: String,
    /// Added to our clock.
    offset_ms: AtomicI64,
}

impl Prover {
    pub(crate) fn new(seed: &Seed) -> Self {
        let instance = random();
        Self { key: seed.key(), instance, offset_ms: AtomicI64::new(0) }
    }

    /// The control plane's time, as far as it is known.
    pub(crate) fn now_ms(&self) -> i64 {
        let ours = clock::now().timestamp_millis();
        ours.saturating_add(self.offset_ms.load(Ordering::Relaxed))
    }

    /// The headers of a call: the proof, and the JWT that it is made for.
    pub(crate) fn metadata(&self, path: &str, jwt: Option<&str>) -> Result<MetadataMap, Status> {
        let key = self.key.as_ref().ok_or_else(|| Status::internal("the agent has no key"))?;
        let call = Call { path, token: jwt };
        let proof = key.prove(&call, &self.instance, &random(), self.now_ms());
        let mut metadata = MetadataMap::new();
        metadata.insert(HEADER, value(&proof)?);
        if let Some(jwt) = jwt {
            metadata.insert("authorization", value(&format!("{SCHEME} {jwt}"))?);
        }
        Ok(metadata)
    }

    /// Whether the call was refused because of our clock; later calls use the control plane's.
    pub(crate) fn learns_time(&self, refusal: &Status) -> bool {
        let told = refusal.metadata().get(CLOCK_HEADER).and_then(|value| value.to_str().ok());
        let Some(theirs) = told.and_then(|text| text.parse::<i64>().ok()) else { return false };
        let off = theirs.saturating_sub(self.now_ms());
        if off.saturating_abs() < TOLERANCE_MS / 2 {
            return false; // it was not that
        }
        tracing::warn!(
            seconds = off / 1_000,
            "the control plane's clock differs from ours; calls go by its clock from now on"
        );
        self.offset_ms.fetch_add(off, Ordering::Relaxed);
        true
    }
}

fn random() -> String {
    format!("{:032x}", imp_process::random::random::<u128>())
}

fn value(text: &str) -> Result<MetadataValue<tonic::metadata::Ascii>, Status> {
    text.parse().map_err(|_| Status::internal("the JWT is no header value"))
}

#[cfg(test)]
mod tests {
    use imp_grammar::proof::{self, Fault};

    use super::*;

    const PATH: &str = "/a.Service/Call";

    fn check(prover: &Prover, now_ms: i64) -> Result<proof::Proof, Fault> {
        let metadata = prover.metadata(PATH, Some("jwt")).unwrap();
        assert_eq!(metadata.get("authorization").unwrap(), "DPoP jwt");
        let proof = metadata.get(HEADER).unwrap().to_str().unwrap();
        proof::check(proof, &Call { path: PATH, token: Some("jwt") }, now_ms)
    }

    #[test]
    fn no_two_calls_carry_the_same_proof_and_all_name_the_process() {
        let seed = Seed::random();
        let (one, other) = (Prover::new(&seed), Prover::new(&seed));
        let now = clock::now().timestamp_millis();
        let proofs = [&one, &one, &other].map(|prover| check(prover, now).unwrap());
        assert_eq!(proofs[0].thumbprint, proofs[2].thumbprint);
        assert_ne!(proofs[0].id, proofs[1].id);
        assert_eq!(proofs[0].instance, proofs[1].instance);
        assert_ne!(proofs[0].instance, proofs[2].instance);
    }

    #[test]
    fn a_wrong_clock_is_put_right_by_the_refusal() {
        let prover = Prover::new(&Seed::random());
        let theirs = clock::now().timestamp_millis() - 7 * 3_600_000;
        assert_eq!(check(&prover, theirs), Err(Fault::Time));
        let mut refusal = Status::unauthenticated("too late");
        assert!(!prover.learns_time(&refusal), "it does not tell the time");
        refusal.metadata_mut().insert(CLOCK_HEADER, theirs.to_string().parse().unwrap());
        assert!(prover.learns_time(&refusal));
        assert!(check(&prover, theirs).is_ok());
        assert!(!prover.learns_time(&refusal), "the clock is right now: it was something else");
    }
}
