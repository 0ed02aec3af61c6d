// uWebSockets as a peer: its own topics, which are flushed once per turn of its loop with all frames of a socket
// in one send. Speaks the bare protocol: `S<channel>` subscribes, `P<channel> <data>` publishes.
//
// Prints its address as its first line, once it listens.

#include <App.h>

#include <cstdio>
#include <string>
#include <string_view>

struct Session {};

using WebSocket = uWS::WebSocket<false, true, Session>;

// Where a limit must be named it is far beyond what a measurement reaches: nothing may be dropped.
constexpr unsigned int backpressure_bytes_max = 1u << 30;
constexpr unsigned int message_bytes_max = 16u << 20;

int main() {
    uWS::App app;
    auto answer = [&app](WebSocket *socket, std::string_view message, uWS::OpCode) {
        std::string_view rest = message.substr(message.empty() ? 0 : 1);
        if (message.starts_with('P')) {
            size_t blank = rest.find(' ');
            if (blank != rest.npos) {
                app.publish(rest.substr(0, blank), rest.substr(blank + 1), uWS::OpCode::TEXT);
            }
        } else if (message.starts_with('S')) {
            socket->subscribe(rest);
            socket->send("subscribed " + std::string(rest), uWS::OpCode::TEXT);
        }
    };
    app.ws<Session>("/*", {
                              .compression = uWS::DISABLED,
                              .maxPayloadLength = message_bytes_max,
                              .idleTimeout = 0,
                              .maxBackpressure = backpressure_bytes_max,
                              .sendPingsAutomatically = false,
                              .message = answer,
                          });
    app.listen("127.0.0.1", 0, [](us_listen_socket_t *listener) {
        if (listener) {
            int port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listener));
            std::printf("ws://127.0.0.1:%d/\n", port);
            std::fflush(stdout);
        }
    });
    app.run();
    // Only without a listener does the loop end by itself.
    std::fputs("uwebsockets: cannot listen on 127.0.0.1\n", stderr);
    return 1;
}
