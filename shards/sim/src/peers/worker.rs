//! A worker over ZeroMQ.

use super::Surroundings;
use crate::{chance::Chance, oracles::triggers::FILTERS, time::Micros};

/// How often it says that it lives.
const HEARTBEAT: Micros = 800_000;

/// How it works.
#[derive(Debug)]
pub(super) struct Worker {
    filter: &'static str,
    window: Option<u32>,
    /// Whether it does nothing but work.
    is_willing: bool,
    capacity: usize,
    is_ready: bool,
    /// What it has and has not answered.
    has: Vec<String>,
    naps_until: Micros,
    spoke: Micros,
}

impl Worker {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let (filter, window) = Self::ways(chance);
        let capacity = usize::try_from(chance.small(60)).expect("small");
        let (is_ready, has) = Default::default();
        Self { filter, window, is_willing: false, capacity, is_ready, has, naps_until: 0, spoke: 0 }
    }

    /// One that takes everything and does nothing but work.
    pub(super) fn willing() -> Self {
        let (is_ready, has) = Default::default();
        let (filter, window) = (FILTERS[0], Some(64));
        Self { filter, window, is_willing: true, capacity: 1_000, is_ready, has, naps_until: 0, spoke: 0 }
    }

    fn ways(chance: &mut Chance) -> (&'static str, Option<u32>) {
        let window = u32::try_from(chance.small(20)).expect("small");
        (*chance.pick(&FILTERS), chance.percent(70).then_some(window))
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.has.is_empty()
    }

    pub(super) fn is_awake(&self, now: Micros) -> bool {
        now >= self.naps_until
    }

    pub(super) fn disconnected(&mut self) {
        self.is_ready = false;
        self.has.clear();
    }

    /// One turn: whether it stays connected, and when it wants the next.
    pub(super) fn turn(&mut self, around: &mut Surroundings<'_>, wire: usize) -> (bool, Micros) {
        let now = around.net.now;
        if !around.is_loading {
            self.naps_until = 0;
        }
        if now < self.naps_until {
            return (true, self.naps_until);
        }
        while let Some(frames) = around.hear(wire) {
            match frames.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["TR", _, id] => self.has.push(id.to_owned()),
                ["QT"] => {
                    // Its pass may be worth nothing any more: it comes again with another one.
                    self.disconnected();
                    return (false, now + around.chance.between(1, 3_000));
                }
                _ => {}
            }
        }
        if around.is_loading && !self.is_willing && !self.misbehave(around, wire) {
            return (false, now + around.chance.small(20_000));
        }
        self.work(around, wire);
        let is_busy = around.is_loading && !self.is_willing || !self.has.is_empty();
        let soon = if is_busy { around.chance.between(10, 800) } else { HEARTBEAT / 2 };
        (true, self.naps_until.max(now + soon))
    }

    fn work(&mut self, around: &mut Surroundings<'_>, wire: usize) {
        let now = around.net.now;
        if !self.is_ready {
            self.be_ready(around, wire);
        }
        let is_loading = around.is_loading && !self.is_willing;
        for id in std::mem::take(&mut self.has) {
            match around.chance.between(0, 99) {
                _ if !is_loading => around.say(wire, &["AK", &id]),
                0..60 => around.say(wire, &["AK", &id]),
                60..70 => around.say(wire, &["NK", &id]),
                _ => self.has.push(id),
            }
            self.spoke = now;
        }
        if now >= self.spoke + HEARTBEAT {
            around.say(wire, &["HB"]);
            self.spoke = now;
        }
    }

    fn be_ready(&mut self, around: &mut Surroundings<'_>, wire: usize) {
        self.is_ready = true;
        self.has.clear();
        match self.window {
            Some(window) => around.say(wire, &["RD", self.filter, &window.to_string()]),
            None => around.say(wire, &["RD", self.filter]),
        }
    }

    /// Does something that a good worker does not, now and then; whether it stays.
    fn misbehave(&mut self, around: &mut Surroundings<'_>, wire: usize) -> bool {
        let now = around.net.now;
        match around.chance.between(0, 69) {
            0 | 1 => return false,
            3 | 4 => {
                around.say(wire, &["QT"]);
                self.disconnected();
            }
            5 | 6 => {
                (self.filter, self.window) = Self::ways(around.chance);
                self.be_ready(around, wire);
            }
            7 if around.chance.percent(10) => self.naps_until = now + around.chance.between(1, 5_000_000),
            8 if self.is_ready => around.say(wire, &["AK", "1"]),
            9 => around.say(wire, &["RD", "("]),
            10 => around.say(wire, &["XX"]),
            11 | 12 => self.naps_until = now + around.chance.small(30_000),
            _ => {}
        }
        true
    }
}
