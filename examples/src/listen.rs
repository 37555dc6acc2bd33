//! Addresses that only this machine can reach.

use px_core::is_loopback_host;

/// Returns whether only this machine can reach an address with a port, such as `127.0.0.1:8080`.
///
/// Returns `false` for names other than `localhost`, since they are not resolved.
#[must_use]
pub fn is_loopback(address: &str) -> bool {
    is_loopback_host(address.rsplit_once(':').map_or(address, |(host, _)| host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_alone_is_loopback() {
        for address in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "localhost:1", "LOCALHOST:1"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in [
            "0.0.0.0:0",
            "[::]:80",
            "192.168.1.5:80",
            "bank.example:80",
            "[::ffff:10.0.0.1]:1",
            "",
            ":80",
        ] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
