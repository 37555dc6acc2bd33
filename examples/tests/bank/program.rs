//! Tests of the program `demo-bank`: exit codes, output, shutdown.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

/// A secret that cannot be guessed.
const SECRET: &str = "s3cret-of-plaid-at-the-bank";

fn demo_bank() -> Command {
    Command::new(env!("CARGO_BIN_EXE_demo-bank"))
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = demo_bank().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn exit_codes_tell_wrong_usage_from_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains("Examples:"));
    assert_eq!(run(&["serve"]).0, 2);
    assert_eq!(run(&["advance", "soon", "--database", "x"]).0, 2);
    assert_eq!(run(&["advance", "1d", "--database", &path("none.sqlite")]).0, 1);
    std::fs::write(path("bad.ndjson"), "{}\n").unwrap();
    let database = path("bank.sqlite");
    let (code, _, error) = run(&["import", &path("bad.ndjson"), "--database", &database]);
    assert_eq!(code, 1);
    assert!(error.contains("1 fault; nothing was imported\n  line 1: "), "{error}");
    std::fs::write(path("good.ndjson"), r#"{"identity": {"id": "i1", "name": "Ann"}}"#).unwrap();
    let (code, out, _) = run(&["import", &path("good.ndjson"), "--database", &database]);
    assert_eq!((code, out.contains("1 identities")), (0, true));
    assert_eq!(run(&["advance", "2w", "--database", &database]).0, 0);
    std::fs::write(path("empty.sqlite"), "").unwrap();
    assert_eq!(run(&["advance", "1d", "--database", &path("empty.sqlite")]).0, 1);
}

#[test]
fn a_setting_that_is_not_sound_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret.txt");
    std::fs::write(&secret, SECRET).unwrap();
    let secret = secret.to_str().unwrap();
    let good = [
        ("--listen", "127.0.0.1:0"),
        ("--database", ":memory:"),
        ("--users", "0"),
        ("--client-id", "plaid"),
        ("--client-secret-file", secret),
        ("--redirect-uri", "http://127.0.0.1:9/back"),
        ("--issuer", "http://127.0.0.1:1"),
    ];
    for (flag, value) in [
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1:99999"),
        ("--client-id", ""),
        ("--redirect-uri", "not a uri"),
        ("--redirect-uri", "javascript:alert(1)"),
        ("--redirect-uri", "https://app.example/#f"),
        ("--issuer", "not a url"),
        ("--issuer", "ftp://bank.example"),
    ] {
        let arguments = good
            .iter()
            .flat_map(|(name, usual)| [*name, if *name == flag { value } else { usual }]);
        let arguments: Vec<_> = ["serve"].into_iter().chain(arguments).collect();
        assert_eq!(run(&arguments).0, 2, "{flag} {value}");
    }
}

#[cfg(unix)]
#[test]
fn serve_prints_its_address_and_stops_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret.txt");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let mut bank = demo_bank()
        .args(["serve", "--listen", "127.0.0.1:0", "--database", ":memory:", "--users", "0"])
        .args(["--client-id", "plaid", "--redirect-uri", "http://127.0.0.1:9/back"])
        .arg("--client-secret-file")
        .arg(&secret)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bank.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.by_ref().find(|line| line.starts_with("Listening on http://127.0.0.1:"));
    assert!(!listening.unwrap().ends_with(":0"));
    let stopped = Command::new("kill").arg("-TERM").arg(bank.id().to_string()).status().unwrap();
    assert!(stopped.success());
    assert_eq!(lines.last().as_deref(), Some("Stopped."));
    assert_eq!(bank.wait().unwrap().code(), Some(0));
}

#[test]
fn what_others_could_reach_or_guess_is_refused_with_a_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |listen: &str, secret: &str, more: &[&str]| {
        let file = dir.path().join("secret.txt");
        std::fs::write(&file, secret).unwrap();
        let mut bank = demo_bank();
        bank.args(["serve", "--listen", listen, "--database", ":memory:", "--users", "0"])
            .args(["--client-id", "plaid", "--redirect-uri", "http://127.0.0.1:9/back"])
            .arg("--client-secret-file")
            .arg(&file)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut bank = bank.spawn().unwrap();
        // A bank that opens prints its address on standard output; one that refuses prints nothing
        // there.
        let out = BufReader::new(bank.stdout.take().unwrap()).lines().map(Result::unwrap);
        let opened = out.into_iter().any(|line| line.starts_with("Listening on "));
        let _ = bank.kill();
        let Output { status, stderr, .. } = bank.wait_with_output().unwrap();
        (opened, status.code(), String::from_utf8(stderr).unwrap())
    };
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let (opened, code, error) = serve(listen, SECRET, &[]);
        assert!(!opened, "a bank with published passwords listens on {listen}");
        assert_eq!(code, Some(2));
        assert!(error.contains("--allow-insecure") && error.contains("published"), "{error}");
    }
    // For example, behind a proxy that serves TLS.
    let flags = ["--allow-insecure", "--issuer", "https://bank.example"];
    let (opened, _, error) = serve("0.0.0.0:0", SECRET, &flags);
    assert!(opened, "{error}");
    let (opened, code, error) = serve("127.0.0.1:0", "x", &[]);
    assert!(!opened, "a secret of one letter is accepted");
    assert_eq!(code, Some(2));
    assert!(error.contains("fewer than 16 characters"), "{error}");
    assert!(serve("127.0.0.1:0", SECRET, &[]).0);
}
