//! What parses a client's message fastest: `cargo bench --bench parse`.
//!
//! `wire` is the hot path: one pass over the message, values as they were written. `simd-json tape`
//! reads the same bytes into a reused tape with reused buffers, after the copy that its writing in
//! place makes necessary; it finds no raw ranges, so what it would still take to splice `data`
//! comes on top.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use webrocket_wire::{
    ChannelName,
    event::Delivery,
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
            let mut buffers = simd_json::Buffers::new(text.len());
            let mut tape = simd_json::Tape::null();
            let mut copy = Vec::with_capacity(text.len());
            bencher.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(text).as_bytes());
                let mut reused = std::mem::replace(&mut tape, simd_json::Tape::null()).reset();
                let parsed = simd_json::fill_tape(&mut copy, &mut buffers, &mut reused).is_ok();
                tape = reused.reset();
                parsed
            });
        });
    }
    group.finish();
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
                Delivery::new(black_box(event), black_box(fields.data), &channel, sid).encode(&mut out);
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, splice);
criterion_main!(benches);
