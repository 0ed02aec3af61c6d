// ws as a peer: a set of sockets for each channel, and a send to each of them. Speaks the bare protocol:
// `S<channel>` subscribes, `P<channel> <data>` publishes.
//
// Prints its address as its first line, once it listens.

import { WebSocketServer } from "ws";

const channels = new Map();

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  perMessageDeflate: false,
  skipUTF8Validation: true,
  clientTracking: false,
});

server.on("connection", (socket) => {
  socket.on("message", (message) => {
    // A Buffer is sent as it is; a string would be encoded anew for each socket.
    const blank = message.indexOf(0x20);
    if (message[0] === 0x50) publish(message.latin1Slice(1, blank), message.subarray(blank + 1));
    else subscribe(socket, message.latin1Slice(1));
  });
});

server.on("listening", () => console.log(`ws://127.0.0.1:${server.address().port}/`));

function subscribe(socket, channel) {
  let sockets = channels.get(channel);
  if (!sockets) channels.set(channel, (sockets = new Set()));
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
  socket.send(`subscribed ${channel}`);
}

function publish(channel, data) {
  for (const socket of channels.get(channel) ?? []) socket.send(data, { binary: false });
}
