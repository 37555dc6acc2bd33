//! What only a server and more than one machine show.
