//! Sources: those who take events over HTTP.
//!
//! To the exchange a source is a worker or a stream with a window. What it is given goes into the
//! window of its answer's body; whatever the HTTP server takes out of there has left, and the
//! exchange may give more. What is left in the window of a source that ends goes to others, so a
//! source that is over yields nothing any more, at once.
//!
//! The exchange says when a source is over: its vhost, or the vhost's access token, is not what it
//! was, or it takes nothing of what waits for it. Its answer then is complete, unless something
//! waits: nobody knows whether its peer reads, so its connection is cut.
//!
//! Bounds: [`SOURCES_MAX`] sources, [`WINDOW`] events in the window of each, and as many words to
//! the actor that they were taken.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{mpsc, oneshot};
use webrocket_state::{
    exchange::{ExchangeCommand, Filter, TriggerId, message::SourceId},
    pattern::Patterns,
};
use webrocket_wire::Trigger;

use super::{figures::ControlFigures, front, line::Line, refusal::Refusal};

/// Sources at the same moment: half of the connections, so that backends can still ask.
pub(super) const SOURCES_MAX: usize = front::CONNECTIONS_MAX as usize / 2;
/// Events that wait for one source to be taken.
pub(super) const WINDOW: u32 = 64;
/// Words that may be on their way to the actor. A source says of each event in its window that it
/// was taken, and that it is over, before it has a place in the table no more.
const WORDS_MAX: usize = SOURCES_MAX * (WINDOW as usize + 1);

/// What somebody asks for who takes events.
#[derive(Debug)]
pub(super) struct SourceRequest {
    /// Which events, as a regular expression; all if there is none.
    pub(super) filter: Option<String>,
    /// Whether it is a worker: each event goes to one of them. Streams receive copies.
    pub(super) is_worker: bool,
    /// The connection over which they are taken.
    pub(super) line: Line,
}

/// All sources, as the actor knows them.
pub(super) struct Sources {
    entries: BTreeMap<SourceId, Entry>,
    last_id: u64,
    filters: Patterns,
    words: mpsc::Sender<Word>,
    figures: Arc<ControlFigures>,
}

struct Entry {
    line: Line,
    events: mpsc::Sender<Event>,
    /// Its answer ends when this is dropped. `None`: the exchange has nothing for it any more.
    open: Option<oneshot::Sender<Infallible>>,
    /// Events in its window.
    waiting: u32,
}

/// An event on its way to a source.
pub(super) struct Event {
    pub(super) id: TriggerId,
    pub(super) trigger: Arc<Trigger>,
}

/// A source's word to the actor.
#[derive(Debug)]
pub(super) enum Word {
    /// An event has left.
    Took(SourceId, TriggerId),
    /// Nobody takes events here any more.
    Over(SourceId),
}

/// The end of a source at which events are taken. Whoever drops it takes no more.
pub(super) struct Source {
    pub(super) id: SourceId,
    events: mpsc::Receiver<Event>,
    end: oneshot::Receiver<Infallible>,
    is_over: bool,
    words: mpsc::Sender<Word>,
}

impl Sources {
    /// No sources, and where their words come from.
    pub(super) fn new(figures: Arc<ControlFigures>) -> (Self, mpsc::Receiver<Word>) {
        let (words, heard) = mpsc::channel(WORDS_MAX);
        let entries = BTreeMap::new();
        (Self { entries, last_id: 0, filters: Patterns::default(), words, figures }, heard)
    }

    /// Makes a source, of which the exchange is to be told.
    ///
    /// # Errors
    /// The filter is no pattern, or there are as many sources as there may be.
    pub(super) fn open(&mut self, request: SourceRequest) -> Result<(Filter, Source), Refusal> {
        let filter = self.filter(request.filter.as_deref())?;
        if self.entries.len() >= SOURCES_MAX {
            self.figures.event_streams_refused_total.increment();
            return Err(Refusal::TooManySources);
        }
        self.last_id += 1;
        let id = SourceId(self.last_id);
        let (events, taken) = mpsc::channel(WINDOW as usize);
        let (open, end) = oneshot::channel();
        let entry = Entry { line: request.line, events, open: Some(open), waiting: 0 };
        self.entries.insert(id, entry);
        self.figures.event_streams.set(self.entries.len());
        Ok((filter, Source { id, events: taken, end, is_over: false, words: self.words.clone() }))
    }

    /// The filter that was asked for; none and an empty one take all.
    fn filter(&mut self, text: Option<&str>) -> Result<Filter, Refusal> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or(Filter::ALL);
        let compiled = self.filters.compiled(text);
        let compiled = compiled.map_err(|error| Refusal::Invalid(format!("the filter {error}")))?;
        Ok(Filter::new(text, compiled))
    }

    /// Gives a source an event. One that is over, unknown to the exchange, receives it no more.
    pub(super) fn deliver(&mut self, source: SourceId, id: TriggerId, trigger: Arc<Trigger>) {
        let Some(entry) = self.entries.get_mut(&source).filter(|entry| entry.open.is_some()) else { return };
        match entry.events.try_send(Event { id, trigger }) {
            Ok(()) => entry.waiting += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => panic!("the exchange keeps to a source's window"),
        }
    }

    /// Takes a source's word. Returns what the exchange is to hear of it.
    pub(super) fn hear(&mut self, word: &Word) -> Option<ExchangeCommand> {
        match *word {
            Word::Took(source, id) => {
                let entry = self.entries.get_mut(&source).expect("it is there until it says that it is over");
                entry.waiting -= 1;
                self.figures.event_stream_events_total.increment();
                entry.open.as_ref().map(|_| ExchangeCommand::SourceTook { source, id })
            }
            Word::Over(source) => {
                let entry = self.entries.remove(&source).expect("it is over once");
                self.figures.event_streams.set(self.entries.len());
                entry.open.map(|_| ExchangeCommand::CloseSource { source })
            }
        }
    }

    /// Ends a source of which the exchange knows no more.
    pub(super) fn end(&mut self, source: SourceId) {
        let Some(entry) = self.entries.get_mut(&source) else { return };
        entry.open = None;
        if entry.waiting > 0 {
            entry.line.cut();
        }
    }

    /// Ends all sources: the node stops.
    pub(super) fn end_all(&mut self) {
        for entry in self.entries.values_mut() {
            entry.open = None;
        }
    }
}

impl Source {
    /// The next event, which has left with this; nothing once the source is over.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.is_over || Pin::new(&mut self.end).poll(cx).is_ready() {
            self.is_over = true;
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(cx));
        if let Some(event) = &event {
            self.say(Word::Took(self.id, event.id));
        }
        Poll::Ready(event)
    }

    fn say(&self, word: Word) {
        match self.words.try_send(word) {
            // Without an actor nobody wants to know.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => panic!("there is room for all that sources say"),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.say(Word::Over(self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use uuid::Uuid;
    use webrocket_wire::{Json, trigger::Origin};

    use super::*;

    struct Table {
        sources: Sources,
        words: mpsc::Receiver<Word>,
    }

    impl Table {
        fn new() -> Self {
            let (sources, words) = Sources::new(Arc::default());
            Self { sources, words }
        }

        fn open(&mut self, is_worker: bool) -> Result<Source, Refusal> {
            let request = SourceRequest { filter: None, is_worker, line: Line::default() };
            self.sources.open(request).map(|(_, source)| source)
        }

        fn deliver(&mut self, source: SourceId, id: u64) {
            let name = Json::parse(r#""job""#).unwrap();
            let origin = Origin { sid: Uuid::nil(), uid: None, channel: None };
            let trigger = Arc::new(Trigger::new(name, None, origin));
            self.sources.deliver(source, TriggerId(id), trigger);
        }

        /// Hears all words, and says what the exchange hears of them.
        fn heard(&mut self) -> Vec<ExchangeCommand> {
            std::iter::from_fn(|| self.words.try_recv().ok())
                .filter_map(|word| self.sources.hear(&word))
                .collect()
        }
    }

    fn take(source: &mut Source) -> Poll<Option<u64>> {
        source.poll_next(&mut Context::from_waker(Waker::noop())).map(|event| event.map(|event| event.id.0))
    }

    #[tokio::test]
    async fn a_source_that_is_over_yields_nothing() {
        let mut table = Table::new();
        let mut source = table.open(true).unwrap();
        table.deliver(source.id, 1);
        table.deliver(source.id, 2);
        assert_eq!(take(&mut source), Poll::Ready(Some(1)));
        table.sources.end(source.id);
        for _ in 0..2 {
            assert_eq!(take(&mut source), Poll::Ready(None));
        }
        table.deliver(source.id, 3);
        drop(source);
        assert_eq!(table.heard().len(), 0, "the exchange has closed it itself");
        assert_eq!(table.sources.entries.len(), 0);
    }

    #[tokio::test]
    async fn there_is_a_bound_on_sources() {
        let mut table = Table::new();
        let mut sources: Vec<_> = (0..SOURCES_MAX).map(|_| table.open(true).unwrap()).collect();
        assert_eq!(table.open(true).err(), Some(Refusal::TooManySources));
        sources.pop();
        assert_eq!(table.open(true).err(), Some(Refusal::TooManySources), "until its end was heard");
        assert_eq!(table.heard().len(), 1);
        assert!(table.open(false).is_ok());
        assert_eq!(table.sources.figures.event_streams_refused_total.value(), 2);
    }

    #[tokio::test]
    async fn all_that_sources_say_has_room() {
        let mut table = Table::new();
        let mut sources: Vec<_> = (0..SOURCES_MAX).map(|_| table.open(true).unwrap()).collect();
        for source in &mut sources {
            for id in 0..u64::from(WINDOW) {
                table.deliver(source.id, id);
                // One task takes only so much at a time.
                tokio::task::unconstrained(async { assert_eq!(take(source), Poll::Ready(Some(id))) }).await;
            }
        }
        sources.clear();
        assert_eq!(table.heard().len(), WORDS_MAX);
    }

    #[tokio::test]
    async fn a_source_for_which_something_waits_is_cut() {
        let mut table = Table::new();
        let (mut reading, stuck) = (table.open(true).unwrap(), table.open(true).unwrap());
        let line = |table: &Table, source: &Source| table.sources.entries[&source.id].line.clone();
        let (read, cut) = (line(&table, &reading), line(&table, &stuck));
        for source in [reading.id, stuck.id] {
            table.deliver(source, 1);
        }
        assert_eq!(take(&mut reading), Poll::Ready(Some(1)));
        assert_eq!(table.heard().len(), 1);
        table.sources.end(reading.id);
        table.sources.end(stuck.id);
        cut.is_cut().await;
        assert!(is_pending(read.is_cut()), "it sees a complete answer");
    }

    fn is_pending(future: impl Future) -> bool {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}
