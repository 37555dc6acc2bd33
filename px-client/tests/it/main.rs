//! The client against partners good and bad. No test waits for real time but the few that
//! need a socket.

mod bad_days;
mod bad_server;
mod credentials;
mod history;
mod oauth;
mod round_trip;
mod scripted;
