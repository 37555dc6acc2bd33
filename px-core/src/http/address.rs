//! Classification of addresses: the public internet, and this machine.
//!
//! These rules keep requests to addresses that others chose (webhooks) out of the internal network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 ranges that are not public: RFC 6890 and the IANA registry of special-purpose addresses.
const NOT_PUBLIC_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // shared behind carrier NAT
    ([127, 0, 0, 0], 8),     // this machine
    ([169, 254, 0, 0], 16),  // link-local; metadata services of clouds
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // relays of 6to4
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// IPv6 ranges within 2000::/3, the global unicast range, that are not public.
const NOT_PUBLIC_V6: &[([u16; 8], u32)] = &[
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments; Teredo embeds IPv4
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4 embeds IPv4
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

/// Returns whether a host is this machine: a loopback address or `localhost`.
///
/// `host` is the host of a URL: a name, an IPv4 address, or an IPv6 address in brackets. Names are not
/// resolved.
///
/// ```
/// use px_core::is_loopback_host;
/// assert!(is_loopback_host("127.0.0.1") && is_loopback_host("[::1]"));
/// assert!(!is_loopback_host("localhost.example") && !is_loopback_host("0.0.0.0"));
/// ```
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}

/// Returns whether an address belongs to the public internet.
///
/// Returns `false` for loopback, private, link-local and carrier-internal addresses, and for the
/// multicast, documentation, benchmark and reserved ranges. An IPv6 address that embeds an IPv4
/// address (mapped, or with the well-known prefix of NAT64) is classified by the IPv4 address. The
/// deprecated embeddings (IPv4-compatible, 6to4, Teredo) are never public.
///
/// ```
/// use px_core::is_public;
/// assert!(is_public("93.184.216.34".parse().unwrap()));
/// assert!(!is_public("169.254.169.254".parse().unwrap()));
/// assert!(!is_public("::ffff:10.0.0.1".parse().unwrap()));
/// ```
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |&(range, length): &([u8; 4], u32)| {
        let differs = address.to_bits() ^ u32::from_be_bytes(range);
        differs.checked_shr(32 - length) == Some(0)
    };
    !NOT_PUBLIC_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = embedded_ipv4(address) {
        return is_public_v4(v4);
    }
    let within = |&(range, length): &([u16; 8], u32)| {
        let differs = address.to_bits() ^ Ipv6Addr::from(range).to_bits();
        differs.checked_shr(128 - length) == Some(0)
    };
    let global = within(&([0x2000, 0, 0, 0, 0, 0, 0, 0], 3));
    global && !NOT_PUBLIC_V6.iter().any(within)
}

/// Returns the IPv4 address that is embedded in a mapped (`::ffff:0:0/96`) or a NAT64 (`64:ff9b::/96`)
/// address.
fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, ..] = address.segments();
    let nat64 = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
    if nat64 {
        let bits = address.to_bits() & u128::from(u32::MAX);
        return u32::try_from(bits).ok().map(Ipv4Addr::from_bits);
    }
    address.to_ipv4_mapped()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2003::1",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "3ffe::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ];

    const NOT_PUBLIC: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::7f00:1",
        "::808:808",
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "64:ff9b:0:0:0:1:808:808",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2001:db8:ffff:ffff::1",
        "2002::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2002:808:808::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff:ffff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "ffff::1",
    ];

    #[test]
    fn ssrf_corpus_of_addresses() {
        for (addresses, public) in [(PUBLIC, true), (NOT_PUBLIC, false)] {
            for text in addresses {
                assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
            }
        }
    }

    #[test]
    fn every_range_ends_where_it_says() {
        for (range, length) in NOT_PUBLIC_V4 {
            let first = u32::from_be_bytes(*range);
            let last = first | (u32::MAX >> length);
            assert!(!is_public_v4(first.into()) && !is_public_v4(last.into()), "{range:?}");
            assert_eq!(first & (u32::MAX >> length), 0, "{range:?}");
        }
        for (range, length) in NOT_PUBLIC_V6 {
            let first = Ipv6Addr::from(*range).to_bits();
            let last = first | (u128::MAX >> length);
            assert!(!is_public_v6(first.into()) && !is_public_v6(last.into()), "{range:?}");
            assert_eq!(first & (u128::MAX >> length), 0, "{range:?}");
        }
    }
}
