//! The control plane over HTTP, in process: on its own SQLite files, and where databases differ on
//! PostgreSQL, too.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]
#![expect(unreachable_pub, reason = "modules of a test binary share by pub")]

mod agent;
mod anchors;
mod audit;
mod bad_input;
mod call_settings;
mod calls;
mod capabilities;
mod caps;
mod catalog;
mod classes;
mod compile;
mod connections;
mod control_plane;
mod dns;
mod domains;
mod doors;
mod duplicates;
mod durability;
mod history;
mod hub;
mod hub_bounds;
mod isolation;
mod jobs;
mod key_locations;
mod life;
mod locking;
mod newer_release;
mod newer_words;
mod object_caps;
mod openapi;
mod pace;
mod paging;
mod ports;
mod problems;
mod program;
mod publishing;
mod reports;
mod request_caps;
mod retained;
mod retired;
mod revisions;
mod secrets;
mod selling;
mod storage;
mod subscribing;
mod time_zones;
mod tls;
mod wildcards;
mod written;
