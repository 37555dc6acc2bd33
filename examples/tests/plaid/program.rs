//! Tests of the program `demo-plaid`: configuration, exit codes, listeners, secrets.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Output, Stdio},
};

fn demo_plaid() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo-plaid"));
    command.env_clear();
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = demo_plaid().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn config_check_prints_every_setting_and_no_secret() {
    let (code, out, _) = run(&["config", "check"]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("applications.budget-app.name = Budget App") && out.contains("secret = ***")
    );
    assert!(!out.contains("demo-secret") && !out.contains("target-sandbox"), "{out}");
    let database = "postgres://px:hunter2@db.example/px";
    let (code, out, error) = run(&["config", "check", "--json", "--database", database]);
    assert_eq!(code, 2, "a key file is missing: {out}");
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["settings"]["database"], "postgres://px:***@db.example/px");
    assert_eq!(document["problems"][0]["setting"], "key_file");
    assert!(!out.contains("hunter2") && !error.contains("hunter2"));
}

#[test]
fn file_environment_and_flags_in_this_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plaid.toml");
    std::fs::write(&file, "workers = 1\nlisten = '127.0.0.1:1'\nrate_limit = 7\n").unwrap();
    let output = demo_plaid()
        .args(["config", "check", "--json", "--config", file.to_str().unwrap(), "--workers", "3"])
        .env("PX_PLAID_WORKERS", "2")
        .env("PX_PLAID_LISTEN", "127.0.0.1:2")
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = &document["settings"];
    assert_eq!((&settings["workers"], &settings["rate_limit"]), (&3.into(), &7.into()));
    assert_eq!(settings["listen"], "127.0.0.1:2");
    assert_eq!(settings["public_url"], "http://127.0.0.1:2");
}

#[test]
fn production_does_not_start_with_what_is_fit_for_a_demo() {
    let dir = tempfile::tempdir().unwrap();
    let example = dir.path().join("plaid.toml");
    let (code, text, _) = run(&["config", "example"]);
    assert_eq!(code, 0);
    std::fs::write(&example, text).unwrap();
    let file = example.to_str().unwrap();
    assert_eq!(run(&["config", "check", "--config", file]).0, 0, "the example is valid");
    let arguments = ["serve", "--config", file, "--profile", "production"];
    let (code, _, error) = run(&arguments);
    assert_eq!(code, 2, "{error}");
    for what in [
        "tls:",
        "secret of budget-app: is the demo's",
        "local_webhooks:",
        "public_url: must be https",
        // The copied example names its environment.
        "environment: must be production",
    ] {
        assert!(error.contains(what), "{what} in {error}");
    }
    assert!(!error.contains("demo-secret-of"), "{error}");
}

#[test]
fn config_check_reads_the_files_and_finds_what_serve_would_end_with() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (junk, nowhere) = (file("junk.pem", "hunter2"), dir.path().join("nowhere.pem"));
    let nowhere = nowhere.to_str().unwrap();
    let settings = [
        "--public-url",
        "https://plaid.example",
        "--tls-certificate",
        nowhere,
        "--tls-key",
        &junk,
        "--key-file",
        nowhere,
        "--webhook-key-file",
        &junk,
    ];
    for command in [["config", "check"].as_slice(), &["serve", "--listen", "127.0.0.1:0"]] {
        let (code, out, error) = run(&[command, &settings].concat());
        assert_eq!(code, 2, "{out}{error}");
        for (setting, file) in [
            ("tls_certificate", "nowhere.pem"),
            ("tls_key", "junk.pem"),
            ("key_file", "nowhere.pem"),
            ("webhook_key_file", "junk.pem"),
        ] {
            let start = format!("error: {setting}: ");
            let line = error.lines().find(|line| line.starts_with(&start));
            assert!(line.is_some_and(|line| line.contains(file)), "{setting} in {error}");
        }
        assert!(!format!("{out}{error}").contains("hunter2"), "{out}{error}");
    }
    // A URL with a password is refused, and not printed.
    let text = Command::new(env!("CARGO_BIN_EXE_demo-plaid")).args(["config", "example"]).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    let text = text.replace("base_url = \"http://", "base_url = \"http://hunter3:hunter4@");
    let (code, out, error) = run(&["config", "check", "--config", &file("plaid.toml", &text)]);
    assert_eq!(code, 2, "{out}");
    assert!(error.contains("institutions.ins_larkfield.base_url: "), "{error}");
    assert!(!out.contains("hunter") && !error.contains("hunter"), "{out}{error}");
    let (code, _, error) = run(&["config", "check", "--environment", "sandbx"]);
    assert!(code == 2 && error.contains("environment: "), "{error}");
}

#[test]
fn wrong_usage_and_failure_have_their_codes() {
    let (code, help, _) = run(&["--help"]);
    assert!(code == 0 && help.contains("Examples:"));
    assert_eq!(run(&["serve", "--workers", "many"]).0, 2);
    assert_eq!(run(&["serve", "--config", "/nowhere/plaid.toml"]).0, 2);
    assert_eq!(run(&["serve", "--database", "mysql://x"]).0, 2);
    let (code, _, error) =
        run(&["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "256.0.0.1:1"]);
    assert!(code == 1 && error.contains("metrics_listen"), "{error}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn serve_listens_reports_its_state_logs_no_secret_and_stops_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("plaid.sqlite").display());
    let mut program = demo_plaid()
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--app-listen", "127.0.0.1:0", "--database", &database])
        .env("RUST_LOG", "trace")
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut errors = program.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).unwrap();
        text
    });
    let line = lines.next().unwrap().unwrap();
    let output: Value = serde_json::from_str(&line).unwrap();
    let url = output["public_url"].as_str().unwrap().to_owned();
    let metrics = output["metrics"].as_str().unwrap().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |url: String| {
        let response = http.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for path in ["healthz", "readyz"] {
        assert_eq!(get(metrics.replace("metrics", path)).await.0, 200, "{path}");
    }

    // Requests with valid and invalid secrets and tokens, and a page opened with a token.
    let secret = "demo-secret-of-budget-app";
    let mut secrets = vec![secret.to_owned(), "wrong-secret-7f3a".to_owned()];
    for (path, secret, body) in [
        ("/accounts/get", secret, r#"{"access_token":"access-sandbox-hunter2"}"#),
        ("/item/get", "wrong-secret-7f3a", r#"{"access_token":"access-sandbox-hunter2"}"#),
        ("/item/public_token/exchange", secret, r#"{"public_token":"public-sandbox-hunter3"}"#),
        ("/item/get", secret, r#"{"access_token":["access-sandbox-hunter2"]}"#),
    ] {
        let request = http.post(format!("{url}{path}")).header("content-type", "application/json");
        let request =
            request.header("plaid-client-id", "budget-app").header("plaid-secret", secret);
        assert!(request.body(body).send().await.unwrap().status().is_client_error());
    }
    secrets.extend(["hunter2".to_owned(), "hunter3".to_owned()]);
    let body = r#"{"client_name":"x","language":"en","country_codes":["US"],"user":{"client_user_id":"u"},"products":["transactions"]}"#;
    let request =
        http.post(format!("{url}/link/token/create")).header("content-type", "application/json");
    let request = request.header("plaid-client-id", "budget-app").header("plaid-secret", secret);
    let made = request.body(body).send().await.unwrap().text().await.unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let token = made["link_token"].as_str().unwrap().to_owned();
    assert_eq!(
        get(format!("{url}/link?token={token}")).await.0,
        403,
        "this client stores no cookies"
    );
    secrets.push(token);
    let (status, metrics_text) = get(metrics).await;
    assert!(status == 200 && !metrics_text.is_empty());

    let stopped = Command::new("kill").arg("-TERM").arg(program.id().to_string()).status().unwrap();
    assert!(stopped.success());
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(program.wait().unwrap().code(), Some(0));
    let log = log.join().unwrap();
    for line in ["DEBUG", "px.call", "responded", "refused"] {
        assert!(log.contains(line), "{line} is not there, so the log was not on: {log}");
    }
    let all = format!("{log}{}{metrics_text}", rest.join("\n"));
    for secret in secrets {
        assert!(!all.contains(&secret), "the program said {secret}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    for file in ["plaid.sqlite", "plaid.key", "plaid.webhook.pem"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} is its owner's alone");
    }
}
