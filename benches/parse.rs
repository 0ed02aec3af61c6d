//! What parses a client's message fastest, and the body of a request to the Backend API:
//! `cargo bench --bench parse`.
//!
//! `wire` is the hot path: one pass over the message, values as they were written. `simd-json tape`
//! reads the same bytes into a reused tape with reused buffers, after the copy that its writing in
//! place makes necessary; it finds no raw ranges, so what it would still take to splice `data`
//! comes on top.
//!
//! Of a body, `wire` is all that the API does before it sends the first event: it checks UTF-8, JSON
//! and names, and finds each event's `data`. `simd-json ranges` is the tape, which checks UTF-8 and
//! JSON, and then finds the same `data` by the structural characters that simd-json has found. Names
//! are not checked there.

use std::{hint::black_box, ops::Range, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use webrocket::control::count_events;
use webrocket_wire::{
    ChannelName, Publication,
    message::{ClientMessage, Payload},
};

fn message(data_bytes: usize) -> String {
    let text = "x".repeat(data_bytes);
    format!(r#"{{"broadcast":{{"event":"message","channel":"news","data":{{"text":"{text}"}}}}}}"#)
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for data_bytes in [1, 160, 950] {
        let text = message(data_bytes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("wire", text.len()), &text, |bencher, text| {
            bencher.iter(|| ClientMessage::parse(black_box(text)).is_ok());
        });
        group.bench_with_input(BenchmarkId::new("simd-json tape", text.len()), &text, |bencher, text| {
            let mut tape = Tape::new();
            bencher.iter(|| tape.fill(black_box(text).as_bytes()));
        });
    }
    group.finish();
}

/// One event with `data_bytes` of data: one text, or many small values.
fn event(data_bytes: usize, values: &str) -> String {
    let (begin, row, end) = match values {
        "text" => (r#"{"text":""#, "x", r#""}"#),
        _ => (r#"{"rows":["#, r#"{"id":1,"name":"a user","ok":true,"x":7.5},"#, r#"""]}"#),
    };
    let room = data_bytes - begin.len() - end.len();
    let (rows, space) = (row.repeat(room / row.len()), " ".repeat(room % row.len()));
    format!(r#"{{"event":"message","data":{begin}{rows}{space}{end}}}"#)
}

fn body(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for values in ["text", "small values"] {
        let single = [1 << 10, 16 << 10, 256 << 10, 4 << 20].map(|bytes| (event(bytes, values), 1));
        let envelope = event(100, values).len() - 100;
        let many = vec![event(200 - envelope, values); 1_000];
        for (text, events) in single.into_iter().chain([(format!("[{}]", many.join(",")), many.len())]) {
            let body = text.as_bytes();
            let name =
                |parser| BenchmarkId::new(parser, format!("{values}, {} B, events: {events}", text.len()));
            let mut tape = Tape::new();
            assert_eq!(count_events(body), Some(events));
            let ranges = tape.events(body).expect("it is JSON");
            assert_eq!(ranges.len(), events);
            for range in ranges {
                assert!(text[range].starts_with(if values == "text" {
                    r#"{"text":"#
                } else {
                    r#"{"rows":"#
                }));
            }
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(name("wire"), |bencher| bencher.iter(|| count_events(black_box(body))));
            group.bench_function(name("simd-json tape"), |bencher| {
                bencher.iter(|| tape.fill(black_box(body)));
            });
            group.bench_function(name("simd-json ranges"), |bencher| {
                bencher.iter(|| tape.events(black_box(body)).map(|ranges| ranges.len()));
            });
        }
    }
    group.finish();
}

/// What simd-json needs, reused.
struct Tape {
    copy: Vec<u8>,
    buffers: simd_json::Buffers,
    nodes: simd_json::Tape<'static>,
}

impl Tape {
    fn new() -> Self {
        let buffers = simd_json::Buffers::default();
        Self { copy: Vec::new(), buffers, nodes: simd_json::Tape::null() }
    }

    /// Whether the text is JSON.
    fn fill(&mut self, text: &[u8]) -> bool {
        self.copy.clear();
        self.copy.extend_from_slice(text);
        self.copy.resize(text.len() + simd_json::INPUT_PADDING, 0);
        let mut nodes = std::mem::replace(&mut self.nodes, simd_json::Tape(Vec::new())).reset();
        let filled =
            simd_json::fill_tape_padded(&mut self.copy, text.len(), &mut self.buffers, &mut nodes).is_ok();
        self.nodes = nodes.reset();
        filled
    }

    /// The `data` of each event of a body, as a range of it.
    fn events(&mut self, body: &[u8]) -> Option<Vec<Range<usize>>> {
        if !self.fill(body) {
            return None;
        }
        let mut walk = Walk { body, structurals: self.buffers.structural_indexes() };
        let mut events = Vec::new();
        if walk.peek() != b'[' {
            return walk.event().map(|data| vec![data]);
        }
        walk.advance();
        while walk.peek() != b']' {
            events.push(walk.event()?);
            walk.comma();
        }
        Some(events)
    }
}

/// A walk from token to token of a text that is JSON.
struct Walk<'a> {
    body: &'a [u8],
    /// Where the tokens begin that are left.
    structurals: &'a [u32],
}

impl Walk<'_> {
    fn position(&self) -> usize {
        self.structurals.first().map_or(self.body.len(), |position| *position as usize)
    }

    /// The first byte of the next token, NUL at the end.
    fn peek(&self) -> u8 {
        self.body.get(self.position()).copied().unwrap_or(0)
    }

    fn advance(&mut self) {
        self.structurals = &self.structurals[1..];
    }

    fn comma(&mut self) {
        if self.peek() == b',' {
            self.advance();
        }
    }

    /// The value that comes next, perhaps with space behind it.
    fn value(&mut self) -> Range<usize> {
        let (start, mut depth) = (self.position(), 0);
        loop {
            match self.peek() {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.advance();
            if depth == 0 {
                return start..self.position();
            }
        }
    }

    /// The data of an event, which is an object with data.
    fn event(&mut self) -> Option<Range<usize>> {
        let (mut name, mut data) = (None, None);
        assert_eq!(self.peek(), b'{');
        self.advance();
        while self.peek() != b'}' {
            let key = self.value();
            self.advance();
            match self.body[key].trim_ascii_end() {
                b"\"event\"" => name = Some(self.value()),
                b"\"data\"" => data = Some(self.data()),
                _ => drop(self.value()),
            }
            self.comma();
        }
        self.advance();
        name.and(data)
    }

    /// Data, whose keys are looked at: some are reserved.
    fn data(&mut self) -> Range<usize> {
        if self.peek() != b'{' {
            return self.value();
        }
        let start = self.position();
        self.advance();
        while self.peek() != b'}' {
            let key = self.value();
            black_box(matches!(self.body[key].trim_ascii_end(), b"\"sid\"" | b"\"channel\""));
            self.advance();
            self.value();
            self.comma();
        }
        self.advance();
        start..self.position()
    }
}

fn splice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("splice");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    let channel: ChannelName = "news".parse().expect("a valid name");
    for (name, data) in
        [("plain", r#"{"text":"hello, world","n":1}"#), ("forged", r#"{"text":"hello","sid":1}"#)]
    {
        let text = format!(r#"{{"broadcast":{{"event":"message","channel":"news","data":{data}}}}}"#);
        let Ok(ClientMessage { payload: Payload::Object(fields), .. }) = ClientMessage::parse(&text) else {
            panic!("a valid message");
        };
        let event = fields.event.expect("it has an event");
        let mut out = Vec::with_capacity(1024);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let sid = Some(uuid::Uuid::nil());
                Publication::new(black_box(event), black_box(fields.data), &channel, sid).encode(&mut out);
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, body, splice);
criterion_main!(benches);
