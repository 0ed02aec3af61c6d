//! Who is present: what each subscriber was told must amount to one truth.

use std::collections::BTreeSet;

use super::{
    Audience, Audiences, Fact, Guarantee, Ledger, Place, Present, SHY, Tab, Window, guarantee::Wrong,
};
use crate::{
    answer::{Data, Member, Moved},
    time::Micros,
    wwfp,
};

impl Ledger {
    /// A browser wants to show itself; the number of its data.
    pub fn compose_tab(&mut self, place: Place, is_hidden: bool) -> usize {
        self.tabs.push(Tab { place, is_hidden, uid: None, is_solo: false, farewell: None });
        self.tabs.len() - 1
    }

    /// A browser wants to leave with a word; the number of its data.
    pub fn compose_farewell(&mut self) -> usize {
        self.farewells += 1;
        self.farewells
    }

    /// The session with these data subscribes, as this `uid`.
    pub fn tab_opened(&mut self, tab: usize, uid: Option<String>, is_solo: bool) {
        self.tabs[tab].uid = uid;
        self.tabs[tab].is_solo = is_solo;
    }

    /// The session with these data left, with these.
    pub fn tab_closed(&mut self, tab: usize, farewell: Option<usize>) {
        self.tabs[tab].farewell = Some(farewell);
    }

    /// How many subscriptions of presence channels nobody was to know of.
    #[must_use]
    pub fn hidden_subscriptions(&self) -> u64 {
        let hidden = |window: &&Window| window.knowledge.is_some() && window.subscriber.is_hidden;
        self.windows.iter().filter(hidden).count() as u64
    }

    /// A presence list came, with or right after `subscribed`.
    pub fn see_list(&mut self, at: Micros, window: usize, list: Vec<Member>) {
        let (browser, place) = (self.windows[window].browser, self.windows[window].place);
        let count = list.len();
        for member in &list {
            self.check_shown(at, place, member);
        }
        let list: Present = list.into_iter().map(|member| (member.uid, member.data)).collect();
        let Some(knowledge) = &mut self.windows[window].knowledge else {
            let detail = format!("browser {browser}: a list of {place:?}");
            return self.violate(at, Guarantee::PresenceFitsTogether, detail);
        };
        let mut wrong = (list.len() != count).then(|| format!("a list names somebody twice: {list:?}"));
        match &knowledge.present {
            None => {
                if knowledge.own_join.as_ref().is_some_and(|uid| list.contains_key(uid)) {
                    knowledge.own_join = None;
                }
                knowledge.present = Some(list);
            }
            Some(known) => {
                self.lists_compared += 1;
                if *known != list {
                    wrong = Some(format!("the list says {list:?}, joins and leaves amount to {known:?}"));
                }
            }
        }
        if let Some(wrong) = wrong {
            self.violate(at, Guarantee::PresenceFitsTogether, format!("browser {browser}: {wrong}"));
        }
    }

    /// Somebody joined or left.
    pub fn see_member(&mut self, at: Micros, window: usize, moved: &Moved, text: &str) {
        self.presence_events += 1;
        let Moved { member, joined, .. } = moved;
        let (browser, place) = (self.windows[window].browser, self.windows[window].place);
        let fact = self.fact(member, *joined, text);
        let entry = &mut self.windows[window];
        entry.seen.push(fact);
        let known = entry.knowledge.as_mut();
        let Some((present, own)) =
            known.and_then(|known| Some((known.present.as_mut()?, &mut known.own_join)))
        else {
            let detail = format!("browser {browser}: {text} before the list");
            return self.violate(at, Guarantee::PresenceFitsTogether, detail);
        };
        let own = own.take();
        let before = if *joined {
            present.insert(member.uid.clone(), member.data.clone())
        } else {
            present.remove(&member.uid)
        };
        self.check(at, Guarantee::PresenceFitsTogether, || {
            (before.is_some() == *joined)
                .then(|| format!("browser {browser}: {text} does not fit what it knows of {place:?}"))
        });
        self.check(at, Guarantee::TheOwnJoiningComesFirst, || {
            own.filter(|own| !*joined || *own != member.uid)
                .map(|own| format!("browser {browser}: {text} comes before {own}'s own joining"))
        });
        if *joined {
            self.check_shown(at, place, member);
        } else if let Some(before) = before {
            self.check_left(at, &before, member);
        }
    }

    /// Joinings with data and leavings with a word happen once; others look alike.
    fn fact(&mut self, member: &Member, joined: bool, text: &str) -> Fact {
        let number = |name: &str| member.data.get(name).and_then(serde_json::Value::as_u64);
        match (joined, number("tab"), number("left")) {
            (true, Some(tab), _) => Fact::Joined(tab),
            (false, _, Some(farewell)) => Fact::Left(farewell),
            _ => {
                let next = self.alike.len();
                Fact::Alike(*self.alike.entry(text.to_owned()).or_insert(next))
            }
        }
    }

    /// Whether a member may be seen as it is. Whose data it shows is judged when that is known.
    fn check_shown(&mut self, at: Micros, place: Place, member: &Member) {
        let tab = member.data.get("tab").and_then(serde_json::Value::as_u64);
        let tab = tab.and_then(|tab| usize::try_from(tab).ok());
        let known = tab.and_then(|tab| self.tabs.get(tab));
        let is_hidden = member.uid == SHY || known.is_some_and(|known| known.is_hidden);
        let is_own = match (tab, known) {
            (Some(tab), Some(known)) => known.place == place && member.data == wwfp::shown_joining(tab),
            (None, _) => member.data.is_empty(),
            (Some(_), None) => false,
        };
        if let Some(tab) = tab {
            self.shown.insert((tab, member.uid.clone()));
        }
        self.check(at, Guarantee::HiddenMembersAreSeenByNobody, || {
            is_hidden.then(|| format!("{member:?} is seen on {place:?}"))
        });
        self.check(at, Guarantee::MembersShowTheirOwnData, || {
            (!is_own).then(|| format!("{member:?} on {place:?}"))
        });
    }

    /// Whether a member leaves with what it joined with, overlaid by what it leaves with.
    fn check_left(&mut self, at: Micros, before: &Data, member: &Member) {
        let number = |name: &str| {
            let number = member.data.get(name).and_then(serde_json::Value::as_u64);
            number.and_then(|number| usize::try_from(number).ok())
        };
        let (tab, farewell) = (number("tab"), number("left"));
        let mut expected = before.clone();
        expected.extend(farewell.map(wwfp::shown_leaving).unwrap_or_default());
        if let Some(tab) = tab {
            self.left.insert((tab, farewell));
        }
        self.check(at, Guarantee::MembersShowTheirOwnData, || {
            (member.data != expected).then(|| format!("{member:?} left, expected {expected:?}"))
        });
    }

    /// Members go by the name that authenticated them, and who has it alone leaves with its own word.
    pub(super) fn members_show_their_own_data(&self, wrong: &mut Wrong) {
        let guarantee = Guarantee::MembersShowTheirOwnData;
        for (tab, uid) in &self.shown {
            let known = &self.tabs[*tab];
            if known.uid.as_ref().is_some_and(|own| own != uid) {
                wrong.push((guarantee, format!("{known:?} is seen as {uid}")));
            }
        }
        for (tab, farewell) in &self.left {
            let known = &self.tabs[*tab];
            if known.is_solo && known.farewell.is_some_and(|said| said != *farewell) {
                wrong.push((guarantee, format!("{known:?} leaves with {farewell:?}")));
            }
        }
    }

    /// Now that everything is quiet: all subscribers of a channel know the same, and it is true.
    pub fn members_are_those_who_subscribe(&mut self, at: Micros, audiences: &Audiences) {
        for (place, audience) in audiences {
            let Audience { visible, ghosts, windows, .. } = audience;
            let known = windows.iter().filter_map(|window| {
                let window = &self.windows[*window];
                Some((window.browser, window.knowledge.as_ref()?.present.clone().unwrap_or_default()))
            });
            let known: Vec<_> = known.collect();
            for (browser, present) in &known {
                let uids: BTreeSet<_> = present.keys().cloned().collect();
                let is_true =
                    uids.is_superset(visible) && uids.difference(visible).all(|uid| ghosts.contains(uid));
                self.check(at, Guarantee::MembersAreThoseWhoSubscribe, || {
                    (!is_true).then(|| {
                        format!(
                            "browser {browser} knows {uids:?} on {place:?}, there are {visible:?}, \
                             perhaps {ghosts:?}"
                        )
                    })
                });
                let (other, others) = &known[0];
                self.check(at, Guarantee::MembersAreThoseWhoSubscribe, || {
                    (others != present).then(|| {
                        format!(
                            "on {place:?} browser {browser} knows {present:?}, browser {other} {others:?}"
                        )
                    })
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::Heard,
        oracles::{Asked, Subscriber},
    };

    const PLACE: Place = (0, "presence-a");

    /// A ledger with one visible and one hidden wish, and a subscriber without a name that was given a list.
    fn ledger(list: &str) -> Ledger {
        let mut ledger = Ledger::default();
        for is_hidden in [false, true] {
            let tab = ledger.compose_tab(PLACE, is_hidden);
            ledger.tab_opened(tab, Some("ann".to_owned()), true);
        }
        let window = ledger.open_window(0, 0, PLACE, Asked::default(), Subscriber::default());
        let list = serde_json::from_str(list).ok().and_then(|list| crate::answer::members(&list));
        ledger.see_list(0, window, list.expect("a list"));
        ledger
    }

    /// What is wrong with a subscriber being told these things.
    fn wrong(mut ledger: Ledger, texts: &[&str]) -> Vec<Guarantee> {
        for text in texts {
            let Some(Heard::Moved(moved)) = wwfp::parse(text) else { panic!("{text}") };
            ledger.see_member(0, 0, &moved, text);
        }
        ledger.judge(0);
        ledger.violations.iter().map(|violation| violation.guarantee).collect()
    }

    const JOINED: &str = r#"{":memberJoined":{"uid":"ann","channel":"presence-a","tab":0,"mood":"new"}}"#;
    const LEFT: &str = r#"{":memberLeft":{"uid":"ann","channel":"presence-a","tab":0,"mood":"new"}}"#;

    #[test]
    fn who_comes_and_goes_fits_together() {
        assert_eq!(wrong(ledger("[]"), &[JOINED, LEFT]), []);
        assert_eq!(wrong(ledger("[]"), &[JOINED, JOINED])[0], Guarantee::PresenceFitsTogether);
        assert_eq!(wrong(ledger("[]"), &[LEFT]), [Guarantee::PresenceFitsTogether]);
        assert_eq!(wrong(ledger(r#"[{"uid":"joe"},{"uid":"joe"}]"#), &[]), [Guarantee::PresenceFitsTogether]);
    }

    #[test]
    fn hidden_members_and_other_peoples_data_are_seen() {
        let hidden = JOINED.replace(r#""tab":0"#, r#""tab":1"#);
        assert_eq!(wrong(ledger("[]"), &[&hidden]), [Guarantee::HiddenMembersAreSeenByNobody]);
        assert_eq!(wrong(ledger(r#"[{"uid":"eve"}]"#), &[]), [Guarantee::HiddenMembersAreSeenByNobody]);
        let other = JOINED.replace(r#""ann""#, r#""joe""#);
        assert_eq!(wrong(ledger("[]"), &[&other]), [Guarantee::MembersShowTheirOwnData]);
        let stale = LEFT.replace("new", "old");
        assert_eq!(wrong(ledger("[]"), &[JOINED, &stale]), [Guarantee::MembersShowTheirOwnData]);
    }

    #[test]
    fn a_farewell_that_is_not_shown_is_missed() {
        let mut silent = ledger("[]");
        silent.tab_closed(0, Some(2));
        assert_eq!(wrong(silent, &[JOINED, LEFT]), [Guarantee::MembersShowTheirOwnData]);
        let mut shown = ledger("[]");
        shown.tab_closed(0, Some(2));
        let left = LEFT.replace(r#""mood""#, r#""left":2,"mood""#);
        assert_eq!(wrong(shown, &[JOINED, &left]), []);
    }

    #[test]
    fn members_that_do_not_subscribe_are_noticed() {
        let told = |visible: &[&str], ghosts: &[&str]| {
            let mut ledger = ledger(r#"[{"uid":"joe"}]"#);
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let audience =
                Audience { subscribers: 1, visible: names(visible), ghosts: names(ghosts), windows: vec![0] };
            ledger.members_are_those_who_subscribe(0, &Audiences::from([(PLACE, audience)]));
            ledger.violations.len()
        };
        assert_eq!([told(&["joe"], &[]), told(&[], &["joe"])], [0, 0]);
        assert_eq!([told(&[], &[]), told(&["joe", "ann"], &[])], [1, 1]);
    }
}
