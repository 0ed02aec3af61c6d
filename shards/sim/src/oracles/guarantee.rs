//! What the broker promises, by name, and how it is told that a promise was not kept.

use std::fmt;

use crate::time::Micros;

/// What the broker promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guarantee {
    /// All subscribers of a channel see one sequence of broadcasts, each a stretch of it without gaps
    /// from `subscribed` to the end of its subscription.
    SubscribersSeeOneOrder,
    /// What one session broadcasts on one channel arrives in the order in which it was sent, and
    /// nothing acknowledged is missing between two that arrive.
    SendersKeepTheirOwnOrder,
    /// No event of a channel follows the answer `unsubscribed`, nor an `unsubscribed` unasked.
    NothingAfterUnsubscribeIsAcknowledged,
    /// No event of a channel comes before `subscribed`, and none that had been acknowledged to its
    /// sender before the subscription was asked for.
    NothingBeforeSubscribed,
    /// No session sees an event of a channel or vhost that it never subscribed.
    NothingToStrangers,
    /// A broadcast that is acknowledged reaches exactly once everybody who was told `subscribed`
    /// before it was sent and stays.
    NothingIsLostOrDoubled,
    /// The broadcasts that a subscriber receives stand at positions without gaps in one epoch, counted from 1, and all
    /// who receive one are told the same position.
    PositionsHaveNoGaps,
    /// A session receives what channels say in the encoding that it chose, and all else as it stands.
    SessionsReceiveInTheirEncoding,
    /// A broadcast that was refused reaches nobody.
    NothingRefusedIsDelivered,
    /// What arrives are the sender's own bytes, with the server's `channel`, and `sid` unless the backend sent it.
    EventsArriveAsSent,
    /// A direct message reaches the session that it names, once and in order, and no other; its sender is told
    /// whether that session was there.
    ADirectMessageReachesItsSession,
    /// Answers come in the order of requests, to each the right one where that is determined.
    AnswersComeInTheOrderOfRequests,
    /// An answer carries the `ref` of its request as written, and none where there was none.
    AnswersCarryTheirReference,
    /// A WWFP session is greeted first and once, with the identifier that others know it by, and after
    /// `:closed` hears nothing more.
    SessionsAreGreetedAndDismissed,
    /// A single access token authenticates at most one session, whatever races, and only in its vhost.
    ATokenIsConsumedOnce,
    /// Every ping is answered by its pong.
    PingsAreAnswered,
    /// What waits before a queue or for a session stays below its bound.
    QueuesAreBounded,
    /// After a whole flush nothing waits for a session whose socket takes bytes.
    NobodyIsForgotten,
    /// List, joins and leaves of a presence channel fit together without gap or double: nobody joins who is
    /// there, nobody leaves who is not, and a new list says what is known.
    PresenceFitsTogether,
    /// A subscriber is told `subscribed`, then of its own joining, then of others.
    TheOwnJoiningComesFirst,
    /// Hidden members are seen by nobody, in lists or events.
    HiddenMembersAreSeenByNobody,
    /// Members show what their first visible session joined with, leave with that overlaid by what the last
    /// one left with, and go by the name that authenticated them.
    MembersShowTheirOwnData,
    /// When everything is quiet, all subscribers and the owner know the same members: those with visible
    /// sessions that subscribe, on whichever shard, and nobody who died.
    MembersAreThoseWhoSubscribe,
    /// A session that has read that it left a presence channel is no member there any more, whichever request led
    /// to it.
    AnAcknowledgementComesAfterItsEffect,
    /// No session holds more subscriptions than the settings of its vhost allow.
    SubscriptionsAreBounded,
    /// A trigger that was placed is acknowledged by a worker, sent to one that acknowledges nothing, or given up
    /// and reported, whatever becomes of workers.
    ATriggerIsAcknowledgedOrReported,
    /// A trigger is refused where no worker takes it or the queue is full, and only there.
    TriggersAreRefusedForAReason,
    /// What a worker without window was sent nobody is sent again.
    AtMostOnceWithoutAWindow,
    /// Nobody is given what another worker has, or has handled.
    OneWorkerHasATriggerAtATime,
    /// A worker is given what its filter matches, and no more than its window allows.
    WorkersGetWhatTheyTake,
    /// A worker is given triggers in the order in which they were placed, those of one session in its order.
    TriggersKeepTheirOrder,
    /// What comes back goes before everything that was placed later.
    RedeliveredInOrder,
    /// A client's requests are answered in its order, each rightly.
    AClientsAnswersAreInOrder,
    /// What is a vhost's stays there.
    NothingCrossesVhosts,
    /// When everybody has left there is no session, subscription, implicit channel, or log.
    EverythingIsFreed,
    /// When the load is over and everybody reads, every request is answered in bounded time.
    EveryRequestIsAnswered,
    /// The server closes only whom it has a reason to close, with the code that says which.
    NobodyIsClosedWithoutReason,
    /// A server's bytes are valid WebSocket frames, and nothing follows a close frame.
    FramesAreValid,
    /// A machine and its driver keep to their contract.
    TheContractIsKept,
    /// A request that is no handshake goes to the HTTP server with all its bytes.
    HttpIsHandedOverWhole,
    /// A shutdown tells everybody and comes to its end.
    ShutdownEnds,
    /// No assertion of the machine fails.
    NoInvariantIsBroken,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        for (index, letter) in name.char_indices() {
            if letter.is_ascii_uppercase() && index > 0 {
                f.write_str("_")?;
            }
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub guarantee: Guarantee,
    /// When it was noticed.
    pub at: Micros,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} µs: {}", self.guarantee, self.at, self.detail)
    }
}

/// Promises that were not kept, and what was seen.
pub(super) type Wrong = Vec<(Guarantee, String)>;

/// A text for a message to a human, not longer than he reads.
#[must_use]
pub fn shorten(text: &str) -> String {
    if text.len() <= 160 {
        text.to_owned()
    } else {
        format!("{}… ({} bytes)", &text[..text.floor_char_boundary(150)], text.len())
    }
}
