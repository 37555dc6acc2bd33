//! Tests of the program `fetch` against scripted partners, run as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../px-client/tests/it/bad_server.rs"]
#[allow(dead_code, reason = "shared with the tests of px-client")]
mod bad_server;

use bad_server::{BadServer, Script, Seen, USER, page};
use std::{
    fs::{self, File},
    io::Write as _,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const TOKEN: &str = "tok-s3cret";

struct Fetch {
    directory: TempDir,
    command: Command,
}

impl Fetch {
    fn new(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("token", TOKEN), ("password", "hunter22"), ("secret", "cl1ent")] {
            fs::write(directory.path().join(name), format!("{text}\n")).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_fetch"));
        command.args(arguments).current_dir(&directory);
        command.stdin(Stdio::null());
        // A proxy in the environment has no effect.
        command.env("HTTP_PROXY", "http://127.0.0.1:9");
        Self { directory, command }
    }

    /// Prepares a run with a token, at a server.
    fn at(server: &BadServer, more: &[&str]) -> Self {
        let url = server.url();
        let mut arguments = vec!["--base-url", &url, "--token-file", "token"];
        arguments.extend(["--start-date", "2024-01-01", "--end-date", "2024-01-31"]);
        arguments.extend(more);
        Self::new(&arguments)
    }

    fn run(&mut self) -> Output {
        let output = self.command.output().unwrap();
        let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        for secret in [TOKEN, "hunter22", "cl1ent"] {
            assert!(!texts.iter().any(|text| text.contains(secret)), "{texts:?}");
        }
        output
    }

    /// Runs it with input on standard input.
    fn run_with_input(&mut self, input: &str) -> Output {
        self.command.stdin(Stdio::piped());
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Starts a partner that serves the accounts, and pages according to the script.
fn serve(script: impl Fn(&Seen) -> Script + Send + Sync + 'static) -> BadServer {
    BadServer::start(move |seen| match seen.target.contains("/transactions") {
        true => script(seen),
        false => Script::json(200, USER),
    })
}

/// Checks that the program fails with one line and without a transaction.
fn fails(server: &BadServer, line: &str) -> Output {
    let output = Fetch::at(server, &["--user-id", "u"]).run();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("fetch: ") && errors.contains(line), "{errors}");
    assert!(!text(&output.stdout).contains("transaction"));
    output
}

#[test]
fn the_output_is_the_user_and_then_each_transaction() {
    let server = serve(|seen| {
        assert!(seen.text.contains("authorization: Bearer tok-s3cret\r\n"));
        assert!(seen.target.starts_with(
            "/users/u/transactions?start_date=2024-01-01&end_date=2024-01-31&limit=500"
        ));
        match seen.query("cursor") {
            None => Script::json(200, page(3, &["b", "a"], Some("1"))),
            _ => Script::json(200, page(3, &["c"], None)),
        }
    });
    let output = Fetch::at(&server, &["--user-id", "u"]).run();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["user"]["identities"][0]["name"], "Ann");
    let ids: Vec<_> = lines[1..].iter().map(|line| &line["transaction"]["id"]).collect();
    assert_eq!(ids, ["b", "a", "c"]);
    assert_eq!(lines[1]["transaction"]["amount"], "100.950000");
    assert!(lines[1]["transaction"]["description"].is_null());
    assert!(text(&output.stderr).contains("0 accounts, 3 transactions"));
}

#[test]
fn faults_are_reported_and_cost_nothing_else() {
    let bad = || {
        serve(|_| {
            let page = page(2, &["a", "b"], None);
            let page = page.replacen("\"100.950000\"", "100.95", 1);
            Script::json(200, page.replace("\"id\":\"b\"", "\"id\":null"))
        })
    };
    let output = Fetch::at(&bad(), &["--user-id", "u"]).run();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let faults: Vec<_> = lines.iter().filter_map(|line| line.get("fault")).collect();
    assert_eq!(faults[0]["path"], "transactions[0].amount");
    assert_eq!(
        (&faults[0]["severity"], &faults[0]["element_id"]),
        (&"repaired".into(), &"a".into())
    );
    assert_eq!(
        (&faults[1]["rule"], &faults[1]["severity"]),
        (&"PX-AGG-035".into(), &"set_aside".into())
    );
    let rows: Vec<_> = lines.iter().filter_map(|line| line.get("transaction")).collect();
    assert_eq!((rows.len(), &rows[0]["amount"]), (1, &"100.95".into()));
    let fault = "transactions[1].id is null; expected an id (a string); the element was set aside";
    assert!(text(&output.stderr).contains(fault), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("0 accounts, 1 transactions"));

    let strict = Fetch::at(&bad(), &["--user-id", "u", "--strict"]).run();
    assert_eq!((strict.status.code(), &strict.stdout), (Some(1), &output.stdout));
}

#[test]
fn without_a_user_id_the_partner_is_asked() {
    let server = BadServer::start(|seen| match &*seen.target {
        "/customers/current" => Script::json(200, r#"{"customerId":"u-7"}"#),
        "/users/u-7" => Script::json(200, USER),
        _ => Script::json(200, page(0, &[], None)),
    });
    let output = Fetch::at(&server, &[]).run();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn two_years_up_to_today_are_the_default() {
    let server = serve(|seen| {
        let date = |name| seen.query(name).unwrap().parse::<px_types::Date>().unwrap();
        assert_eq!(date("end_date").days_since(date("start_date")), 730);
        Script::json(200, page(0, &[], None))
    });
    let url = server.url();
    let output = Fetch::new(&["--base-url", &url, "--token-file", "token", "--user-id", "u"]).run();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_command_line_is_2() {
    let base = ["--base-url", "http://127.0.0.1:1"];
    for wrong in [
        &[][..],
        &["--token-file", "token", "--start-date", "2024-13-01"],
        &["--token-file", "token", "--start-date", "2024-01-02", "--end-date", "2024-01-01"],
        &["--token-file", "token", "--user-id", ".."],
        &["--token-file", "token", "--username", "ann"],
        &["--username", "ann"],
        &["--username", "ann", "--password-file", "password"],
        &["--token-file", "token", "--no-such-thing"],
    ] {
        let output = Fetch::new(&[&base[..], wrong].concat()).run();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty());
    }
    for url in ["bank.example", "ftp://bank.example", "not a url"] {
        let output = Fetch::new(&["--base-url", url, "--token-file", "token"]).run();
        assert_eq!(output.status.code(), Some(2), "{url}");
    }
    let help = Fetch::new(&["--help"]).run();
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    assert!(help.contains("Examples:") && help.contains("Exit codes:"));
}

#[test]
fn what_cannot_be_reached_or_read_is_1() {
    for (arguments, line) in [
        (["--base-url", "http://127.0.0.1:1", "--token-file", "token"], "cannot connect"),
        (["--base-url", "http://bank.example", "--token-file", "token"], "plain http"),
        (["--base-url", "http://127.0.0.1:1", "--token-file", "nothing"], "cannot read nothing"),
    ] {
        let output = Fetch::new(&[&arguments[..], &["--user-id", "u"]].concat()).run();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(line) && errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn a_row_without_its_members_is_set_aside_and_strict_says_so_by_its_exit_code() {
    let page = "{\"total\":1,\"transactions\":[{\"id\":\"x\"}]}";
    for (arguments, code) in [(&["--user-id", "u"][..], 0), (&["--user-id", "u", "--strict"], 1)] {
        let output = Fetch::at(&serve(move |_| Script::json(200, page)), arguments).run();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains("transactions[0]"), "{errors}");
    }
}

#[test]
fn bad_partners_give_one_clear_line() {
    let html = "Content-Type: text/html\r\n";
    fails(&serve(move |_| Script::response(502, html, "<html>")), "returned 502 with an HTML page");
    fails(&serve(move |_| Script::response(200, html, "<html>")), "returned 200 with an HTML page");
    fails(&serve(|_| Script::response(302, "Location: /x\r\n", "")), "a redirect");
    fails(&serve(|_| Script::error(401, "", "invalid_token")), "the token has ended");
    fails(
        &serve(|_| Script::error(429, "Retry-After: 999\r\n", "too_many_requests")),
        "try again at ",
    );
    fails(&serve(|_| Script::json(200, vec![b' '; 33 << 20])), "bytes of body");
    fails(&serve(|_| Script::json(200, "[".repeat(99))), "nested deeper than 64");
    fails(
        &serve(|_| Script::json(200, page(1, &["a"], Some("again")))),
        "the partner returned a cursor twice",
    );
    fails(
        &serve(|seen| Script::json(200, page(9 + seen.number as u64, &["a"], None))),
        "the total differs between pages",
    );
    let twice = page(2, &["a", "a"], None).replacen("100.95", "99.95", 1);
    fails(&serve(move |_| Script::json(200, &*twice)), "two transactions of one account");
    fails(&serve(|_| Script::raw("garbage\r\n\r\n")), "not HTTP");
    fails(
        &serve(|_| {
            Script::raw(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
            )
        }),
        "cut off",
    );
}

#[test]
fn a_bad_moment_is_survived() {
    let server = serve(|seen| match seen.number {
        1 => Script::error(500, "", "internal_error"),
        2 => Script::error(429, "Retry-After: 1\r\n", "too_many_requests"),
        _ => Script::json(200, page(1, &["a"], None)),
    });
    let output = Fetch::at(&server, &["--user-id", "u"]).run();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 2);
}

fn challenges(seen: &Seen) -> Script {
    match &*seen.target {
        "/users/auth_token" => {
            assert!(seen.text.contains(r#"{"username":"ann","password":"hunter22"}"#));
            Script::json(
                200,
                r#"{"mfa_type":"KBA","user_id":"u","challenge_id":"c","questions":[{"id":"q","text":"Pet?","choices":["Rex","Tom"]}]}"#,
            )
        }
        "/users/u/2fa" if seen.text.contains("Rex") => Script::json(
            200,
            r#"{"mfa_type":"OTP","user_id":"u","challenge_id":"c2","deliveries":[{"id":"d1","method":"sms","mask":"12"},{"id":"d2","method":"email","mask":"a@"}]}"#,
        ),
        "/users/u/sendOtp" => {
            assert!(seen.text.contains("d2"));
            Script::json(200, "{}")
        }
        "/users/u/2fa" if seen.text.contains("123456") => {
            Script::json(200, r#"{"user_id":"u","auth_token":"tok-s3cret"}"#)
        }
        "/users/u" => Script::json(200, USER),
        _ => Script::json(200, page(1, &["a"], None)),
    }
}

#[test]
fn challenges_are_asked_and_answered() {
    let server = BadServer::start(challenges);
    let url = server.url();
    let mut arguments = vec!["--base-url", &url, "--username", "ann"];
    arguments.extend(["--password-file", "password", "--client-id", "plaid"]);
    arguments.extend(["--client-secret-file", "secret"]);
    let output = Fetch::new(&arguments).run_with_input("Rex\n2\n123456\n");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("Pet?") && errors.contains("2 email a@"), "{errors}");
    assert_eq!(text(&output.stdout).lines().count(), 2);

    let output = Fetch::new(&arguments).run();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("standard input has no answer"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported_and_a_closed_pipe_is_not() {
    let server = serve(|_| {
        let ids: Vec<_> = (0..500).map(|i| i.to_string()).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        Script::json(200, page(500, &ids, None))
    });
    let mut fetch = Fetch::at(&server, &["--user-id", "u"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = fetch.command.stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write to standard output"));

    let mut fetch = Fetch::at(&server, &["--user-id", "u"]);
    fetch.command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = fetch.command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    drop(fetch.directory);
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_thousand_transactions_take_little_memory() {
    const ROWS: u64 = 100_000;
    let first = px_types::Date::from_ymd(2022, 1, 1).unwrap();
    let server = BadServer::start(move |seen| {
        if !seen.target.contains("/transactions") {
            return Script::json(200, USER);
        }
        // 137 rows a day, newest first.
        let date = |name| seen.query(name).unwrap().parse::<px_types::Date>().unwrap();
        let index = |date: px_types::Date| date.days_since(first) as u64;
        let (start, end) = (index(date("start_date")), index(date("end_date")));
        let row = |day: u64| (day * ROWS).div_ceil(730);
        let (low, high) = (row(start), row(end + 1));
        let number = |name| seen.query(name).map_or(0, |text| text.parse::<u64>().unwrap());
        let (from, limit) = (number("cursor"), number("limit"));
        let total = high - low;
        let ids: Vec<_> =
            (from..total.min(from + limit)).map(|i| format!("{}", high - i)).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let next = from + ids.len() as u64;
        let next = (next < total).then(|| next.to_string());
        Script::json(200, page(total, &ids, next.as_deref()))
    });
    let url = server.url();
    let mut fetch = Fetch::new(&[
        "--base-url",
        &url,
        "--token-file",
        "token",
        "--user-id",
        "u",
        "--start-date",
        "2022-01-01",
        "--end-date",
        "2023-12-31",
    ]);
    let out = fetch.directory.path().join("out");
    fetch.command.stdout(File::create(&out).unwrap()).stderr(Stdio::piped());
    let mut child = fetch.command.spawn().unwrap();
    let mut peak = 0;
    // The kernel's high-water mark, read until the program ends.
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let mark = mark.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = mark.unwrap_or(peak);
        std::thread::yield_now();
    }
    assert!(child.wait().unwrap().success());
    let lines = fs::read_to_string(&out).unwrap();
    assert_eq!(lines.lines().count() as u64, ROWS + 1);
    assert!(peak > 0 && peak < 64 << 10, "{peak} KiB at most");
}
