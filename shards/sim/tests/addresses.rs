//! Connections are counted where their address hashes to, and counted no more when they are over.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_sim::frames;
use webrocket_state::{
    Command, Directory, Input, Machine, Party, Settings, Shard, ShardConfig, ShardId, ShardMessage, Vhost,
    VhostId, command::Ticket, encoding::Encodings, message::OwnerRequest,
};

/// Hands over all messages from one shard to another; the last of them is also returned.
fn pass(now: Instant, from: &mut Shard, to: &mut Shard, ids: [u16; 2]) -> Option<String> {
    let mut last = None;
    while let Some(message) = from.next_message(now, ShardId(ids[1])) {
        last = Some(format!("{message:?}"));
        to.handle(now, Input::Message { from: ShardId(ids[0]), message });
    }
    last
}

/// The vhost goes while another shard is asked about the address: the connection is refused, and that shard
/// counts it no more.
#[test]
fn a_connection_refused_after_it_was_counted_is_counted_no_more() {
    let (now, directory, id) = (Instant::now(), Directory::new(2, 1), VhostId(0));
    let mut shards = [0, 1].map(|shard| {
        Shard::new(ShardConfig {
            id: ShardId(shard),
            directory: directory.clone(),
            encodings: Encodings::default(),
            seed: [7; 32],
            handshake_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
        })
    });
    let vhost = Arc::new(Vhost {
        id,
        path: "/a".parse().unwrap(),
        settings: Settings { connections_per_address_max: 1, ..Settings::default() },
        users: std::collections::BTreeMap::new(),
        channels: Arc::default(),
    });
    for shard in &mut shards {
        let vhost = Arc::clone(&vhost);
        shard.handle(now, Input::Command(Command::PutVhost { ticket: Ticket::new(1), vhost }));
    }
    let [here, there] = &mut shards;
    let mut addresses = (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
    let address = addresses.find(|address| directory.counter(id, *address) == ShardId(1)).unwrap();
    let session = here.accept(now, (address, 1).into());
    let mut head = Vec::new();
    frames::handshake(&mut head, "/a");
    here.handle(now, Input::Received { session, bytes: &mut head });
    assert!(pass(now, here, there, [0, 1]).is_some_and(|message| message.starts_with("Request(Admit")));
    here.handle(now, Input::Command(Command::RemoveVhost { ticket: Ticket::new(2), vhost: id }));
    pass(now, there, here, [1, 0]);
    let dismissed = here.next_message(now, ShardId(1));
    assert!(
        matches!(dismissed, Some(ShardMessage::Request(OwnerRequest::Dismiss { vhost, .. })) if vhost == id),
        "{dismissed:?}"
    );
    let flushed = here.next_flush(now).expect("it is answered");
    assert!(here.pending(flushed).starts_with(b"HTTP/1.1 404 "));
}
