//! Attacks the built `demo-bank` and `demo-plaid` from one address, and prints the results.
//!
//! Both programs run on loopback. The attacker is 127.0.0.1 and an honest user is 127.0.0.2. Every
//! loop is bounded in count, and every phase in time. The results are asserted. Sizes are small,
//! and large with `just attack`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking and print their measurements"
)]

#[path = "attack/http2.rs"]
mod http2;
#[path = "attack/programs.rs"]
mod programs;
#[path = "attack/wire.rs"]
mod wire;

use demo_bank::clock::pause;
use futures_util::future::join_all;
use programs::{Program, bank, plaid};
use px_core::{Clock as _, SystemClock};
use std::{net::Ipv4Addr, time::Duration};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use wire::{Response, connect, field, get, post, request};

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Other attackers, one for each phase that must be independent of the limits reached in earlier
/// phases.
const BEARER_ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const GUESSER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
/// Time limit of a phase.
const PHASE_TIMEOUT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// Sizes of the attacks.
struct Sizes {
    connections: usize,
    http2_connections: usize,
    streams: u32,
    pages: usize,
    failures: usize,
    guesses: usize,
    sign_ins: usize,
}

const SMALL: Sizes = Sizes {
    connections: 300,
    http2_connections: 2,
    streams: 20,
    pages: 400,
    failures: 300,
    guesses: 60,
    sign_ins: 32,
};

const LARGE: Sizes = Sizes {
    connections: 1_100,
    http2_connections: 8,
    streams: 100,
    pages: 10_200,
    failures: 3_000,
    guesses: 400,
    sign_ins: 64,
};

fn sizes() -> Sizes {
    if std::env::var_os("PX_ATTACK_LARGE").is_some() { LARGE } else { SMALL }
}

fn print_result(program: &Program, what: &str, value: impl std::fmt::Display) {
    println!("{:<10} {what:<58} {value}", program.name);
}

async fn within<T>(phase: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PHASE_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| panic!("{phase} took too long"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_locks_nobody_out_and_pins_little() {
    let sizes = sizes();
    let plaid = plaid();
    let bank = bank(&plaid);
    for (program, page) in [(&bank, "/login"), (&plaid, "/link?token=none")] {
        within("slots", slots(program, page, &sizes)).await;
    }
    within("bodies", bodies(&bank, "/oauth2/token", &sizes)).await;
    within("bodies", bodies(&plaid, "/item/get", &sizes)).await;
    within("pages", pages(&bank, &sizes)).await;
    within("latency", latency(&bank, &sizes)).await;
    within("guesses", guesses(&bank, &sizes)).await;
    within("failures", failures(&bank, &plaid, &sizes)).await;
    within("webhooks", webhooks(&bank, &sizes)).await;
}

/// Opens idle connections. Measures how long an honest user waits, and how many connections stay
/// open.
async fn slots(program: &Program, page: &str, sizes: &Sizes) {
    let mut connections = Vec::new();
    for _ in 0..sizes.connections {
        // A connection that is not accepted does not count.
        let opened = tokio::time::timeout(Duration::from_secs(2), connect(ATTACKER, program.port));
        if let Ok(Ok(connection)) = opened.await {
            connections.push(connection);
        }
    }
    let begun = SystemClock::new();
    let honest = get(HONEST, program.port, page).await;
    let waited = begun.elapsed();
    let open = still_open(&mut connections).await;
    print_result(program, "idle connections from one address, opened", connections.len());
    print_result(program, "of them kept open by the program", open);
    print_result(program, "slots free for others after", format!("{waited:.1?}"));
    let honest = honest.unwrap_or_else(|error| panic!("{}: {error}", program.name));
    assert!(honest.status < 500 && waited < Duration::from_secs(5), "{} {waited:?}", honest.status);
    assert!(open <= 256, "one address occupies {open} of 1,024 connections");
}

/// Returns the number of connections that the other side has not closed.
async fn still_open(connections: &mut [TcpStream]) -> usize {
    pause(Duration::from_millis(300)).await;
    let checks = connections.iter_mut().map(|connection| async move {
        let mut byte = [0];
        let check = tokio::time::timeout(Duration::from_millis(50), connection.read(&mut byte));
        // If there is nothing to read and no end of the stream, the connection is open.
        check.await.is_err()
    });
    join_all(checks).await.into_iter().filter(|open| *open).count()
}

/// Sends bodies that never end, over HTTP/2 and without credentials.
async fn bodies(program: &Program, path: &str, sizes: &Sizes) {
    let before = program.memory();
    let attacks = (0..sizes.http2_connections)
        .map(|_| http2::pin(ATTACKER, program.port, path, sizes.streams));
    let pinned = join_all(attacks).await;
    let sent: u64 = pinned.iter().map(|one| one.sent).sum();
    let grown = program.memory().saturating_sub(before);
    print_result(program, "HTTP/2 connections with bodies that never end", pinned.len());
    print_result(program, "bytes of bodies that it accepted", mib(sent));
    print_result(program, "memory that they pin", mib(grown));
    let most = 64 * MIB + 16 * MIB;
    assert!(grown < most, "anonymous bodies pin {}", mib(grown));
    let honest = get(HONEST, program.port, "/health-of-nothing").await.unwrap();
    assert!(honest.status < 500, "{}", honest.status);
}

/// Formats a number of bytes.
fn mib(bytes: u64) -> String {
    let tenths = bytes * 10 / MIB;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Opens sign-in pages with a long `state`. Measures the memory that they pin, and checks that a
/// sign-in that started before still works.
async fn pages(bank: &Program, sizes: &Sizes) {
    let honest = get(HONEST, bank.port, "/login").await.unwrap();
    let before = bank.memory();
    let state = "s".repeat(8 << 10);
    let authorize = format!(
        "/oauth2/auth?response_type=code&client_id=plaid&redirect_uri={}&state={state}\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
        "http%3A%2F%2F127.0.0.1%3A9%2Fback"
    );
    let mut statuses = [0_usize; 2];
    for chunk in 0..sizes.pages.div_ceil(20) {
        let left = (sizes.pages - chunk * 20).min(20);
        let opened = (0..left).map(|n| {
            let path = if n % 2 == 0 { &*authorize } else { "/login" };
            get(ATTACKER, bank.port, path)
        });
        for page in join_all(opened).await {
            statuses[usize::from(page.is_ok_and(|page| page.status == 200))] += 1;
        }
    }
    let grown = bank.memory().saturating_sub(before);
    print_result(bank, "sign-in pages opened, half of them with 8 KiB of state", statuses[1]);
    print_result(bank, "memory that they pin", mib(grown));
    let signed_in = sign_in(bank, HONEST, &honest, "user_good", "pass_good").await.unwrap();
    print_result(
        bank,
        "a sign-in that started before",
        format!("continues ({})", signed_in.status),
    );
    assert!(statuses[1] > 0, "no page was shown");
    assert!(grown < 24 * MIB, "sign-in pages pin {}", mib(grown));
    assert_eq!(signed_in.status, 303, "other pages ended this sign-in: {}", signed_in.body);
}

async fn sign_in(
    bank: &Program,
    from: Ipv4Addr,
    page: &Response,
    username: &str,
    password: &str,
) -> std::io::Result<Response> {
    let csrf = field(&page.body, "csrf");
    let form = format!("csrf={csrf}&username={username}&password={password}");
    post(from, bank.port, "/login", &[("cookie", &page.cookie())], &form).await
}

/// Guesses passwords concurrently. Counts those that are checked. The owner must still be able to
/// sign in.
async fn guesses(bank: &Program, sizes: &Sizes) {
    let page = get(GUESSER, bank.port, "/login").await.unwrap();
    let all = (0..sizes.guesses).map(|n| {
        let page = &page;
        async move { sign_in(bank, GUESSER, page, "user_empty", &format!("guess-{n}")).await }
    });
    let responses = join_all(all).await;
    let with = |text: &str| {
        responses.iter().filter(|one| one.as_ref().is_ok_and(|one| one.body.contains(text))).count()
    };
    let (checked, waits) = (with("is not right"), with("Too many attempts"));
    print_result(bank, "passwords of one name guessed concurrently", sizes.guesses);
    print_result(bank, "of them checked", checked);
    print_result(bank, "of them made to wait", waits);
    let page = get(HONEST, bank.port, "/login").await.unwrap();
    let owner = sign_in(bank, HONEST, &page, "user_empty", "pass_good").await.unwrap();
    print_result(bank, "the owner, from another address", format!("signs in ({})", owner.status));
    assert!(checked <= 10, "{checked} guesses were checked");
    assert_eq!(owner.status, 303, "the owner is kept out: {}", owner.body);
}

/// Sends wrong client secrets and bearer tokens, and counts those that are checked.
async fn failures(bank: &Program, plaid: &Program, sizes: &Sizes) {
    let mut counts = Vec::new();
    for (program, from, what, path, headers, body) in [
        (
            bank,
            ATTACKER,
            "wrong client secrets",
            "/oauth2/token",
            "authorization: Basic cGxhaWQ6d3Jvbmc=",
            "grant_type=refresh_token&refresh_token=x",
        ),
        (
            bank,
            BEARER_ATTACKER,
            "wrong bearer tokens",
            "/customers/current",
            "authorization: Bearer junk",
            "",
        ),
        (plaid, ATTACKER, "wrong client secrets", "/item/get", "plaid-secret: wrong", "{}"),
    ] {
        let (name, value) = headers.split_once(": ").unwrap();
        let mut checked = 0;
        for chunk in 0..sizes.failures.div_ceil(20) {
            let left = (sizes.failures - chunk * 20).min(20);
            let attempts = (0..left).map(|n| {
                // Each value is different, so that no cache knows it.
                let value = format!("{value}{}", chunk * 20 + n);
                let kind = if body == "{}" {
                    "application/json"
                } else {
                    "application/x-www-form-urlencoded"
                };
                let method = if body.is_empty() { "GET" } else { "POST" };
                async move {
                    let headers = [
                        (name, &*value),
                        ("content-type", kind),
                        ("plaid-client-id", "budget-app"),
                    ];
                    request(from, program.port, method, path, &headers, body).await
                }
            });
            let responses = join_all(attempts).await;
            checked +=
                responses.iter().flatten().filter(|one| matches!(one.status, 400 | 401)).count();
        }
        print_result(program, &format!("{what}, {} tried: checked", sizes.failures), checked);
        counts.push((what, checked));
    }
    for (what, checked) in counts {
        assert!(checked <= 150, "{checked} {what} were checked from one address");
    }
    let honest = get(HONEST, bank.port, "/login").await.unwrap();
    assert_eq!(honest.status, 200);
}

/// Sends forged notifications with invented keys.
async fn webhooks(bank: &Program, sizes: &Sizes) {
    let begun = SystemClock::new();
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for chunk in 0..sizes.failures.div_ceil(20) {
        let sent = (0..20).map(|n| {
            // {"alg":"ES256","typ":"JWT","kid":"…"} with an invalid signature.
            let head = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"invented-{chunk}-{n}"}}"#);
            let signature = format!("{}.e30.c2lnbmF0dXJl", wire::base64url(head.as_bytes()));
            async move {
                let headers =
                    [("plaid-verification", &*signature), ("content-type", "application/json")];
                request(ATTACKER, bank.port, "POST", "/applications/notify", &headers, "{}").await
            }
        });
        for response in join_all(sent).await.into_iter().flatten() {
            *statuses.entry(response.status).or_default() += 1;
        }
    }
    print_result(bank, "forged notifications by status", format!("{statuses:?}"));
    print_result(bank, "in", format!("{:.1?}", begun.elapsed()));
    assert!(!statuses.contains_key(&200), "a forged notification was accepted");
}

/// Measures the latency of data requests during many anonymous sign-ins.
async fn latency(bank: &Program, sizes: &Sizes) {
    let token = programs::token(bank, HONEST).await;
    let alone = measure(bank, &token).await;
    let page = get(ATTACKER, bank.port, "/login").await.unwrap();
    let crowd = async {
        for round in 0..3 {
            let all = (0..sizes.sign_ins).map(|n| {
                let (page, name) = (&page, format!("nobody-{round}-{n}"));
                async move { sign_in(bank, ATTACKER, page, &name, "x").await }
            });
            join_all(all).await;
        }
    };
    let ((), crowded) = tokio::join!(crowd, measure(bank, &token));
    print_result(
        bank,
        "median and longest data request, alone",
        format!("{:.1?} {:.1?}", alone.0, alone.1),
    );
    let text = format!("{:.1?} {:.1?}", crowded.0, crowded.1);
    print_result(bank, &format!("the same with {} concurrent sign-ins", sizes.sign_ins), text);
    assert!(crowded.0 < Duration::from_secs(2), "{:?}", crowded.0);
}

/// Returns the median and the longest duration of some data requests.
async fn measure(bank: &Program, token: &str) -> (Duration, Duration) {
    let bearer = format!("Bearer {token}");
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = SystemClock::new();
        let headers = [("authorization", &*bearer)];
        let response =
            request(HONEST, bank.port, "GET", "/customers/current", &headers, "").await.unwrap();
        assert_eq!(response.status, 200, "{}", response.body);
        times.push(begun.elapsed());
        pause(Duration::from_millis(20)).await;
    }
    times.sort_unstable();
    (times[times.len() / 2], *times.last().unwrap())
}
