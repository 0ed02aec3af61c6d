//! What a browser hears, and what it concludes.

use super::{Browser, Pending, Surroundings, identity::Who, stage::Stage};
use crate::{
    answer::{self, Answer, Heard, Member, Moved},
    classic,
    encodings::Receives,
    oracles::{Asked, End, Fate, Guarantee, Subscriber, shorten},
    request::Request,
    scenario::VHOSTS,
    wwfp,
};

impl Browser {
    /// A text message came.
    pub(super) fn text(&mut self, around: &mut Surroundings<'_>, text: &str) {
        let now = around.net.now;
        self.check_frame_of_session(around, text);
        let opened = self.receives.open(text);
        let text = opened.as_ref().map_or(text, |opened| &opened.text);
        if text.starts_with("{\"ev\"") {
            self.check_encoding(around, opened.is_some(), text);
            self.no_list_is_due(around, text);
            if let Some((number, channel)) = around.ledger.read_event(now, text) {
                self.event(around, number, channel);
                let position = opened.as_ref().and_then(|opened| opened.position);
                if let (Some(position), Some(window)) = (position, self.windows.get(channel)) {
                    around.ledger.see_position(now, *window, number, position);
                }
            }
            return;
        }
        let heard = if self.is_wwfp() { wwfp::parse(text) } else { classic::parse(text) };
        let Some(heard) = heard else {
            let detail = format!("browser {}: {}", self.id, shorten(text));
            return around.ledger.violate(now, Guarantee::AnswersComeInTheOrderOfRequests, detail);
        };
        if let Heard::Presence(channel, present) = heard {
            return self.presence(around, &channel, present);
        }
        self.no_list_is_due(around, text);
        let is_said = matches!(heard, Heard::Moved(_) | Heard::Message(_));
        if is_said || opened.is_some() {
            self.check_encoding(around, is_said && opened.is_some(), text);
        }
        match heard {
            Heard::Connected(sid) => {
                around.ledger.meet(now, &sid, self.id);
                self.sid = Some(sid);
            }
            Heard::Moved(moved) => self.moved(around, &moved, text),
            Heard::Message(number) => around.ledger.see_message(now, self.id, number),
            Heard::Answer(answer, reference) => self.answer(around, &answer, reference.as_deref()),
            Heard::Presence(..) => unreachable!("just handled"),
        }
    }

    /// A WWFP session hears its identifier first, and once; after `:closed` nothing.
    fn check_frame_of_session(&self, around: &mut Surroundings<'_>, text: &str) {
        let greets = text.starts_with(r#"{":connected""#);
        let is_first = self.is_wwfp() && self.sid.is_none();
        around.ledger.check(around.net.now, Guarantee::SessionsAreGreetedAndDismissed, || {
            let wrong = greets != is_first || self.is_dismissed;
            wrong.then(|| format!("browser {} in {:?}: {}", self.id, self.dialect, shorten(text)))
        });
    }

    /// What channels say, and direct messages, come in the session's encoding, and nothing else does.
    fn check_encoding(&self, around: &mut Surroundings<'_>, is_opened: bool, text: &str) {
        around.ledger.check(around.net.now, Guarantee::SessionsReceiveInTheirEncoding, || {
            let is_wrong = is_opened != (self.receives != Receives::Plain);
            is_wrong.then(|| format!("browser {} receives {:?}: {}", self.id, self.receives, shorten(text)))
        });
    }

    fn no_list_is_due(&mut self, around: &mut Surroundings<'_>, text: &str) {
        if let Some((channel, _)) = self.list_due.take() {
            let detail = format!("browser {}: {} instead of the list of {channel}", self.id, shorten(text));
            around.ledger.violate(around.net.now, Guarantee::PresenceFitsTogether, detail);
        }
    }

    fn presence(&mut self, around: &mut Surroundings<'_>, channel: &str, present: Vec<Member>) {
        match self.list_due.take() {
            Some((due, window)) if due == channel => {
                around.ledger.see_list(around.net.now, window, present);
            }
            other => {
                let detail = format!("browser {}: a list of {channel}, due was {other:?}", self.id);
                around.ledger.violate(around.net.now, Guarantee::PresenceFitsTogether, detail);
            }
        }
    }

    fn moved(&self, around: &mut Surroundings<'_>, moved: &Moved, text: &str) {
        let window = answer::channel(&moved.channel).and_then(|channel| self.windows.get(channel));
        match window {
            Some(window) => around.ledger.see_member(around.net.now, *window, moved, text),
            None => self.stray(around, &moved.channel, text),
        }
    }

    fn event(&mut self, around: &mut Surroundings<'_>, number: usize, channel: &'static str) {
        let (vhost, _) = around.ledger.broadcasts[number].place;
        match self.windows.get(channel) {
            Some(window) if vhost == self.vhost => around.ledger.see(*window, number),
            Some(_) | None => self.stray(around, channel, &format!("broadcast {number} of vhost {vhost}")),
        }
    }

    /// An event of a channel that the session does not subscribe.
    fn stray(&self, around: &mut Surroundings<'_>, channel: &str, what: &str) {
        let asked = self.pending.iter().any(
            |pending| matches!(pending.request, Request::Subscribe { channel: of, .. } if of == channel),
        );
        let guarantee = match answer::channel(channel) {
            Some(known) if self.ever_subscribed.contains(known) => {
                Guarantee::NothingAfterUnsubscribeIsAcknowledged
            }
            Some(_) if asked => Guarantee::NothingBeforeSubscribed,
            Some(_) | None => Guarantee::NothingToStrangers,
        };
        // Who has sent a close frame, or been sent one, counts on nothing any more.
        if matches!(self.stage, Stage::Open | Stage::Leaving(_)) {
            let detail = format!("browser {}: {}", self.id, shorten(what));
            around.ledger.violate(around.net.now, guarantee, detail);
        }
    }

    fn answer(&mut self, around: &mut Surroundings<'_>, answer: &Answer, reference: Option<&str>) {
        if self.settles_a_doubt(around, answer) || self.is_unasked(around, answer, reference) {
            return;
        }
        let now = around.net.now;
        let Some(pending) = self.take_answered(around, answer, reference) else {
            let detail = format!("browser {}: {answer:?} to no request", self.id);
            return around.ledger.violate(now, Guarantee::AnswersComeInTheOrderOfRequests, detail);
        };
        let request = &pending.request;
        if matches!(request, Request::Mark(_)) {
            self.doubtful = None;
        }
        self.subscriptions_asked -= usize::from(matches!(request, Request::Subscribe { .. }));
        let right = self.is_right(around, request, answer);
        around.ledger.check(now, Guarantee::AnswersComeInTheOrderOfRequests, || {
            (!right).then(|| {
                let (id, identity, vhost) = (self.id, self.identity, VHOSTS[self.vhost].0);
                format!("browser {id} as {identity:?} of {vhost}: {answer:?} to {request:?}")
            })
        });
        around.ledger.named_answers += u64::from(reference.is_some());
        around.ledger.check(now, Guarantee::AnswersCarryTheirReference, || {
            let wanted = pending.reference.as_deref();
            (reference != wanted).then(|| {
                format!("browser {}: {answer:?} with {reference:?} to {request:?} with {wanted:?}", self.id)
            })
        });
        self.take_effect(around, &pending, answer);
    }

    fn is_right(&self, around: &Surroundings<'_>, request: &Request, answer: &Answer) -> bool {
        if self.is_wwfp() {
            self.may_be_answered_in_wwfp(around.scenario, around.ledger, request, answer)
        } else {
            self.may_be_answered_in_classic(around.scenario, around.ledger, request, answer)
        }
    }

    /// The request to which this is the answer. Those before it that are answered only if they fail
    /// have not failed.
    fn take_answered(
        &mut self,
        around: &mut Surroundings<'_>,
        answer: &Answer,
        reference: Option<&str>,
    ) -> Option<Pending> {
        loop {
            let pending = self.pending.pop_front()?;
            if !self.is_wwfp() || !pending.is_silent() {
                self.is_doubtful_who_failed = false;
                return Some(pending);
            }
            let fails = reference.is_none()
                && matches!(answer, Answer::Error { .. })
                && self.is_right(around, &pending.request, answer);
            if fails {
                self.is_doubtful_who_failed = true;
                return Some(pending);
            }
            if !self.is_doubtful_who_failed {
                self.succeeded_silently(around, &pending.request);
            }
        }
    }

    fn succeeded_silently(&self, around: &mut Surroundings<'_>, request: &Request) {
        let now = around.net.now;
        let may_succeed = self.is_right(around, request, &Answer::Broadcasted(None));
        around.ledger.check(now, Guarantee::AnswersComeInTheOrderOfRequests, || {
            (!may_succeed).then(|| format!("browser {}: no error to {request:?}", self.id))
        });
        if let Request::Broadcast(number) = request {
            around.ledger.broadcasts[*number].fate = Fate::Acknowledged(now);
        }
    }

    /// `unsubscribed` came to an `unsubscribe` and now comes its real answer: the first was unasked.
    fn settles_a_doubt(&mut self, around: &mut Surroundings<'_>, answer: &Answer) -> bool {
        let Some((channel, window)) = self.doubtful else { return false };
        if !matches!(self.pending.front(), Some(Pending { request: Request::Mark(_), .. })) {
            return false;
        }
        let settles = match answer {
            Answer::Unsubscribed(of) => of == channel,
            Answer::Error { id, event: None, .. } => id == "CHANNEL_NOT_FOUND" || id == "ACCESS_DENIED",
            _ => false,
        };
        if settles {
            self.doubtful = None;
            if window != usize::MAX {
                around.ledger.windows[window].end = End::Otherwise;
            }
        }
        settles
    }

    /// An `unsubscribed` that is no answer: the channel was closed, or the right to it lost.
    fn is_unasked(
        &mut self,
        around: &mut Surroundings<'_>,
        answer: &Answer,
        reference: Option<&str>,
    ) -> bool {
        let Answer::Unsubscribed(channel) = answer else { return false };
        let Some(channel) = answer::channel(channel) else { return false };
        let is_asked = self.pending.front().is_some_and(
            |front| matches!(front.request, Request::Unsubscribe { channel: of, .. } if of == channel),
        );
        let takes_away = around.scenario.takes_away();
        let is_answer = if self.is_wwfp() { reference.is_some() || !takes_away } else { is_asked };
        if is_answer {
            return false;
        }
        match self.windows.remove(channel) {
            Some(window) => around.ledger.windows[window].end = End::Otherwise,
            None => self.stray(around, channel, "unsubscribed, unasked"),
        }
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!takes_away).then(|| format!("browser {} loses {channel} unasked", self.id))
        });
        true
    }

    fn take_effect(&mut self, around: &mut Surroundings<'_>, pending: &Pending, answer: &Answer) {
        let now = around.net.now;
        match (&pending.request, answer) {
            (Request::Authenticate(name, _), Answer::Authenticated(_)) => {
                self.identity = Who::User(name);
                self.has_left(around, self.windows.keys());
                self.forget_windows(around.ledger);
            }
            (Request::Token(number), Answer::Authenticated(_)) => {
                self.identity = Who::Token(*number);
                around.ledger.hold_token(now, *number, self.id);
                self.has_left(around, self.windows.keys());
                self.forget_windows(around.ledger);
            }
            (Request::Logout, Answer::LoggedOut) => {
                self.identity = Who::Nobody;
                self.has_left(around, self.windows.keys());
                self.forget_windows(around.ledger);
            }
            (Request::Subscribe { channel, tab, hidden }, Answer::Subscribed { present, .. }) => {
                let window = self.subscribed(around, channel, (*tab, *hidden), pending.asked);
                match present {
                    Some(present) => around.ledger.see_list(now, window, present.clone()),
                    None if channel.starts_with("presence-") => self.list_due = Some((channel, window)),
                    None => {}
                }
            }
            (Request::Unsubscribe { channel, farewell }, Answer::Unsubscribed(_)) => {
                let window = self.windows.remove(channel);
                if window.is_some() && !around.scenario.users_change {
                    // Where rights change, it may be another word than the answer that was read.
                    self.has_left(around, [channel]);
                }
                if let Some(window) = window {
                    let entry = &mut around.ledger.windows[window];
                    let leaving = entry.end == End::Otherwise;
                    entry.end = if leaving { End::Otherwise } else { End::Asked(pending.asked.at) };
                    if let Some(tab) = entry.subscriber.tab {
                        around.ledger.tab_closed(tab, *farewell);
                    }
                }
                self.doubtful = Some((*channel, window.unwrap_or(usize::MAX))).filter(|_| !self.is_wwfp());
            }
            (Request::Unsubscribe { channel, .. }, Answer::Error { id, .. }) if id != "ACCESS_DENIED" => {
                if let Some(window) = self.windows.remove(channel) {
                    around.ledger.windows[window].end = End::Otherwise;
                }
            }
            (Request::Broadcast(number), Answer::Broadcasted(_)) => {
                around.ledger.broadcasts[*number].fate = Fate::Acknowledged(now);
            }
            (Request::Trigger(number), answer) => {
                around.ledger.trigger_heard(now, *number, matches!(answer, Answer::Triggered(_)));
            }
            (Request::TriggeringBroadcast { broadcast, trigger }, answer) => {
                let is_done = *answer == Answer::Broadcasted(None);
                // Channel, subscription and right may have gone since the trigger was placed.
                let is_unserved = matches!(answer, Answer::Error { id, .. } if id == "503");
                if is_done || is_unserved {
                    around.ledger.trigger_heard(now, *trigger, is_done);
                }
                around.ledger.broadcasts[*broadcast].fate =
                    if is_done { Fate::Acknowledged(now) } else { Fate::Refused };
            }
            // Of several without a `ref` it may have been another one.
            (Request::Broadcast(number), _) if !self.is_doubtful_who_failed => {
                around.ledger.broadcasts[*number].fate = Fate::Refused;
            }
            (Request::Leave { farewell }, Answer::Closed(_)) => {
                self.is_dismissed = true;
                self.has_left(around, self.windows.keys());
                for window in self.windows.values() {
                    if let Some(tab) = around.ledger.windows[*window].subscriber.tab {
                        around.ledger.tab_closed(tab, *farewell);
                    }
                }
            }
            _ => {}
        }
    }

    /// The session is told that it subscribes; its window, which is another one only if it did not before.
    fn subscribed(
        &mut self,
        around: &mut Surroundings<'_>,
        channel: &'static str,
        (tab, is_hidden): (Option<usize>, bool),
        asked: Asked,
    ) -> usize {
        self.ever_subscribed.insert(channel);
        if let Some(window) = self.windows.get(channel) {
            return *window;
        }
        let ledger = &mut *around.ledger;
        let uid = self.identity.uid(ledger);
        if let Some(tab) = tab {
            ledger.tab_opened(tab, uid.clone(), self.identity.is_solo(ledger));
        }
        let subscriber = Subscriber { uid, is_hidden, tab };
        let window = ledger.open_window(around.net.now, self.id, (self.vhost, channel), asked, subscriber);
        if matches!(self.stage, Stage::Leaving(_)) {
            ledger.windows[window].end = End::Otherwise;
        }
        self.windows.insert(channel, window);
        let (count, most) = (self.windows.len(), around.scenario.settings.subscriptions_max as usize);
        around.ledger.check(around.net.now, Guarantee::SubscriptionsAreBounded, || {
            (count > most).then(|| format!("browser {} subscribes {count} channels, {most} allowed", self.id))
        });
        window
    }
}
