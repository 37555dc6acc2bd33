//! Arbitrary bytes cause no panic, and no error contains a value.
//!
//! The tests run the functions of the fuzz targets over mutated fixtures with a fixed seed.

use px_types::testing::{PAGE, Seed, USER};

#[path = "../../../fuzz/src/lib.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "a file of another crate")]
mod fuzz;

/// Randomly changes some bytes of a text.
fn mutate(seed: &mut Seed, text: &[u8]) -> Vec<u8> {
    const BITS: &[&[u8]] = &[
        b"null",
        b"\"\"",
        b"{}",
        b"[",
        b"]",
        b"-1",
        b"1e999",
        b"\"hunter2\"",
        b"\\u0000",
        b"\xff",
        b",",
        b"99999999999999999999",
        b"\"",
        b"%",
        b"&",
        b"=",
        b"..",
        b"0.0000001",
        b"true",
        b"NaN",
        b"\\ud83d",
        b"\xef\xbb\xbf",
        b"\0",
    ];
    let mut bytes = text.to_vec();
    for _ in 0..=seed.below(4) {
        let at = seed.below(bytes.len());
        match seed.below(4) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = seed.bits() as u8,
            2 => {
                let end = (at + seed.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let bits = *seed.pick(BITS);
                bytes.splice(at..at, bits.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn mutated_messages() {
    let mut corpus = vec![USER.to_owned(), PAGE.to_owned()];
    let samples: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/samples.json")).unwrap();
    for endpoint in samples.as_object().unwrap().values() {
        for part in endpoint.as_object().unwrap().values() {
            corpus.extend(part.as_array().unwrap().iter().map(ToString::to_string));
        }
    }
    let webhooks: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../fixtures/webhooks.json")).unwrap();
    corpus.extend(webhooks.iter().map(ToString::to_string));
    let mut seed = Seed::new(1);
    for _ in 0..6_000 {
        let text = seed.pick(&corpus).clone();
        let bytes = mutate(&mut seed, text.as_bytes());
        fuzz::decode(&bytes);
        fuzz::tolerant(&bytes);
    }
}

#[test]
fn mutated_requests() {
    let mut seed = Seed::new(2);
    for _ in 0..20_000 {
        let path = mutate(&mut seed, b"/users/u%2F1/transactions");
        fuzz::path(&path);
        let query = mutate(
            &mut seed,
            b"start_date=2024-01-01&end_date=2024-01-31&limit=5&offset=10&cursor=a%20b",
        );
        fuzz::query(&query);
        let form = mutate(&mut seed, b"grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fa&code_verifier=v&client_id=i&client_secret=s&refresh_token=r");
        fuzz::token_request(&form);
    }
}
