//! Whether a secret is a user's: costly by design, so it is done aside, sparingly, and later
//! for those who guess.
//!
//! A right secret is remembered and not hashed again. At most [`HASHERS`] threads hash. Who has
//! guessed wrong too often waits before his secret is hashed, and all of his kind share one of
//! those threads, so that they cannot keep the others from logging in. The number of questions
//! is bounded by the number of sessions: each has at most one.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Instant,
};

use tokio::{sync::Semaphore, task::JoinSet, time};
use webrocket_state::{VhostId, identity::Secret, ids::RequestRef};
use webrocket_wire::UserName;

use super::{
    figures::ControlFigures,
    remembered::{Mark, Remembered},
    throttle::{Throttle, ThrottleLimits},
};
use crate::store::SecretHash;

/// Secrets that are hashed at the same moment.
pub(super) const HASHERS: usize = 2;
/// Right secrets that are remembered.
pub(super) const REMEMBERED_MAX: usize = 10_000;

/// Stands in for the hash of a user who is gone, so that his absence takes as long to find out.
static DECOY: LazyLock<SecretHash> = LazyLock::new(|| SecretHash::of(&Secret::new("")));

/// A session's question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: RequestRef,
    pub(super) vhost: VhostId,
    pub(super) user: UserName,
    pub(super) secret: Arc<Secret>,
    pub(super) peer: IpAddr,
    /// What is known of the user; nothing if it is gone.
    pub(super) known: Option<Known>,
}

/// What a secret is compared with.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) generation: u64,
    pub(super) hash: Arc<SecretHash>,
}

/// The answer. Whether `known` still holds is for its receiver to see.
pub(super) struct Verified {
    pub(super) request: RequestRef,
    pub(super) vhost: VhostId,
    pub(super) user: UserName,
    pub(super) known: Option<Known>,
    pub(super) right: bool,
    mark: Option<Mark>,
}

/// Verifies secrets.
pub(super) struct Verifier {
    remembered: Remembered,
    running: JoinSet<Verified>,
    desk: Arc<Desk>,
}

/// What the running verifications share.
struct Desk {
    hashers: Arc<Semaphore>,
    /// The one place in the queue for hashers that all who guessed too often share.
    late: Semaphore,
    throttle: Mutex<Throttle>,
    limits: ThrottleLimits,
    figures: Arc<ControlFigures>,
}

impl Verifier {
    /// `hashers` bounds all hashing of the process, that of new secrets included.
    pub(super) fn new(hashers: Arc<Semaphore>, limits: ThrottleLimits, figures: Arc<ControlFigures>) -> Self {
        let desk = Desk {
            hashers,
            late: Semaphore::new(1),
            throttle: Mutex::new(Throttle::new(limits)),
            limits,
            figures,
        };
        Self { remembered: Remembered::new(REMEMBERED_MAX), running: JoinSet::new(), desk: Arc::new(desk) }
    }

    /// Takes a question. Answers at once if the secret is remembered; otherwise the answer comes
    /// from [`Verifier::next`].
    pub(super) fn ask(&mut self, question: Question) -> Option<Verified> {
        let mark = question.known.as_ref().map(|known| {
            self.remembered.mark(
                question.vhost,
                &question.user,
                known.generation,
                &known.hash,
                &question.secret,
            )
        });
        if mark.is_some_and(|mark| self.remembered.contains(mark)) {
            return Some(question.answer(true, mark));
        }
        let desk = Arc::clone(&self.desk);
        desk.figures.verifications.increment();
        self.running.spawn(async move {
            let right = desk.judge(&question).await;
            desk.figures.verifications.decrement();
            question.answer(right, mark)
        });
        None
    }

    /// The next answer; waits for ever if nothing was asked. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Verified {
        let Some(joined) = self.running.join_next().await else {
            return std::future::pending().await;
        };
        let verified = joined.expect("a verification does not panic");
        if let (true, Some(mark)) = (verified.right, verified.mark) {
            self.remembered.insert(mark);
            self.desk.figures.verifications_remembered.set(self.remembered.len());
        }
        verified
    }
}

impl Question {
    fn answer(&self, right: bool, mark: Option<Mark>) -> Verified {
        Verified {
            request: self.request,
            vhost: self.vhost,
            user: self.user.clone(),
            known: self.known.clone(),
            right,
            mark,
        }
    }
}

impl Desk {
    async fn judge(self: &Arc<Self>, question: &Question) -> bool {
        let mut late = None;
        let hasher = loop {
            if late.is_none() && self.is_over(question.peer) {
                self.figures.verifications_throttled_total.increment();
                time::sleep(self.limits.delay).await;
                late = Some(self.late.acquire().await.expect("never closed"));
            }
            let hasher = Arc::clone(&self.hashers).acquire_owned().await.expect("never closed");
            // Others of the same peer may have failed while this one was in the queue.
            if late.is_some() || !self.is_over(question.peer) {
                break hasher;
            }
        };
        self.figures.verifications_total.increment();
        let hash = question.known.as_ref().map(|known| Arc::clone(&known.hash));
        let secret = Arc::clone(&question.secret);
        let right = tokio::task::spawn_blocking(move || match hash {
            Some(hash) => hash.matches(&secret),
            None => {
                let _ = DECOY.matches(&secret);
                false
            }
        })
        .await
        .expect("hashing does not panic");
        let was_late = late.is_some();
        drop((hasher, late));
        if !right {
            self.figures.verification_failures_total.increment();
            let over = self.lock().failed(Instant::now(), question.peer);
            if over && !was_late {
                self.figures.verifications_throttled_total.increment();
                time::sleep(self.limits.delay).await;
            }
        }
        right
    }

    fn is_over(&self, peer: IpAddr) -> bool {
        self.lock().is_over(Instant::now(), peer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake_node::within;
    use std::time::Duration;
    use webrocket_state::{SessionRef, ShardId, slots::SessionSlot};

    /// Longer than any test waits.
    const FOR_EVER: Duration = Duration::from_secs(86_400);

    /// It hashes one secret at a time, so that the order of its answers is certain.
    fn verifier(delay: Duration) -> Verifier {
        let limits = ThrottleLimits { failures: 2, window: FOR_EVER, delay, ..ThrottleLimits::default() };
        Verifier::new(Arc::new(Semaphore::new(1)), limits, Arc::default())
    }

    fn known(secret: &str) -> Known {
        Known { generation: 1, hash: Arc::new(SecretHash::of(&Secret::new(secret))) }
    }

    fn question(known: Option<&Known>, secret: &str, peer: &str) -> Question {
        Question {
            request: RequestRef {
                session: SessionRef { shard: ShardId(0), slot: SessionSlot(0), generation: 0 },
                number: 0,
            },
            vhost: VhostId(1),
            user: "joe".parse().unwrap(),
            secret: Arc::new(Secret::new(secret)),
            peer: peer.parse().unwrap(),
            known: known.cloned(),
        }
    }

    #[tokio::test]
    async fn a_right_secret_is_hashed_once() {
        let mut verifier = verifier(FOR_EVER);
        let known = known("pw");
        assert!(verifier.ask(question(Some(&known), "pw", "10.0.0.1")).is_none());
        assert!(within(verifier.next()).await.right);
        let again = verifier.ask(question(Some(&known), "pw", "10.0.0.1")).expect("remembered");
        assert!(again.right);
        assert!(verifier.ask(question(Some(&known), "other", "10.0.0.1")).is_none());
        assert!(!within(verifier.next()).await.right);
        let changed = Known { generation: 1, hash: Arc::new(SecretHash::of(&Secret::new("new"))) };
        assert!(verifier.ask(question(Some(&changed), "pw", "10.0.0.1")).is_none(), "died with the change");
        assert!(!within(verifier.next()).await.right);
    }

    #[tokio::test]
    async fn a_user_who_is_gone_is_a_wrong_secret() {
        let mut verifier = verifier(FOR_EVER);
        assert!(verifier.ask(question(None, "", "10.0.0.1")).is_none());
        assert!(!within(verifier.next()).await.right);
        assert_eq!(verifier.desk.figures.verification_failures_total.value(), 1);
    }

    #[tokio::test]
    async fn who_guesses_too_often_waits_and_nobody_else() {
        let mut verifier = verifier(FOR_EVER);
        let known = known("pw");
        for _ in 0..4 {
            assert!(verifier.ask(question(Some(&known), "guess", "10.0.0.1")).is_none());
        }
        for _ in 0..2 {
            assert!(!within(verifier.next()).await.right);
        }
        // Two hashes of the same secret: the first answer is not remembered for the second.
        for (known, peer) in [(&known, "10.0.0.2"), (&self::known("pw"), "10.0.0.3")] {
            assert!(verifier.ask(question(Some(known), "pw", peer)).is_none());
            assert!(within(verifier.next()).await.right, "the neighbour comes before those who wait");
        }
        assert_eq!(verifier.running.len(), 2, "they still wait");
        assert_eq!(verifier.desk.figures.verifications_throttled_total.value(), 2);
        verifier.ask(question(Some(&known), "pw", "10.0.0.1")).expect("remembered: answered at once");
    }

    #[tokio::test]
    async fn who_has_waited_is_answered() {
        let mut verifier = verifier(Duration::ZERO);
        let known = known("pw");
        for _ in 0..4 {
            assert!(verifier.ask(question(Some(&known), "guess", "10.0.0.1")).is_none());
        }
        for _ in 0..4 {
            assert!(!within(verifier.next()).await.right);
        }
        assert!(verifier.ask(question(Some(&known), "pw", "10.0.0.1")).is_none());
        assert!(within(verifier.next()).await.right);
        assert_eq!(verifier.desk.figures.verifications_throttled_total.value(), 3);
    }
}
