// Socket.IO as a peer: its rooms over its own protocol, with WebSocket as the only transport. The event `subscribe`
// joins a room and is answered by `subscribed`; the event `broadcast` with a room and data emits `load` to the room.
//
// Prints its address as its first line, once it listens.

import { createServer } from "node:http";
import { Server } from "socket.io";

// Longer than any measurement: pings and time-outs take no part in it.
const PING_INTERVAL_MS = 3_600_000;
const MESSAGE_BYTES_MAX = 16 << 20;

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  perMessageDeflate: false,
  httpCompression: false,
  pingInterval: PING_INTERVAL_MS,
  pingTimeout: PING_INTERVAL_MS,
  maxHttpBufferSize: MESSAGE_BYTES_MAX,
});

// The manual's advice for many connections: nobody needs the request of the handshake any more.
io.engine.on("connection", (socket) => {
  socket.request = null;
});

io.on("connection", (socket) => {
  socket.on("subscribe", (room) => {
    socket.join(room);
    socket.emit("subscribed", room);
  });
  socket.on("broadcast", (room, data) => io.to(room).emit("load", data));
});

http.listen(0, "127.0.0.1", () => {
  console.log(`ws://127.0.0.1:${http.address().port}/socket.io/?EIO=4&transport=websocket`);
});
