//! A partner with responses that break the contract, which are read nevertheless.

use crate::{
    bad_server::{BadServer, Script, USER, page},
    scripted::user_id,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use px_client::{ErrorKind, HistoryEvent, HistoryOptions, PartnerClient, ReadMode};
use px_core::ReqwestTransport;
use px_types::{AccessToken, Date, FaultSeverity, rule};
use serde_json::{Value, json};

fn client(url: &str) -> PartnerClient {
    let transport = ReqwestTransport::new().unwrap();
    PartnerClient::builder(url, transport).token(AccessToken::new("t")).build().unwrap()
}

fn day(day: u32) -> Date {
    Date::from_ymd(2024, 1, day).unwrap()
}

#[tokio::test]
async fn headers_of_other_servers_are_taken() {
    for (headers, broken) in [
        ("Content-Type: application/json; charset=utf8\r\n", None),
        ("Content-Type: application/vnd.bank+json\r\n", None),
        ("Content-Type: application/json\r\nContent-Encoding: identity\r\n", None),
        ("Content-Type: text/json;charset=UTF-8\r\n", Some(rule::CONTENT_TYPE)),
        (
            "Content-Type: application/json\r\nContent-Encoding: UTF-8\r\n",
            Some(rule::CONTENT_ENCODING),
        ),
        (
            "Content-Type: application/json\r\nContent-Encoding: none\r\n",
            Some(rule::CONTENT_ENCODING),
        ),
        (
            "Content-Type: application/json\r\nContent-Encoding: Identity\r\n",
            Some(rule::CONTENT_ENCODING),
        ),
        ("Content-Type: application/json\r\nContent-Encoding:\r\n", Some(rule::CONTENT_ENCODING)),
    ] {
        let server = BadServer::start(move |_| Script::response(200, headers, USER));
        let client = client(&server.url());
        let user = client.user(&user_id()).await.unwrap();
        let found: Vec<_> = user.faults().iter().map(|fault| fault.rule()).collect();
        assert_eq!(found, broken.into_iter().collect::<Vec<_>>(), "{headers}");
        let strict = client.with_read_mode(ReadMode::Strict).user(&user_id()).await;
        assert_eq!(strict.is_err(), broken.is_some(), "{headers}");
    }
    for headers in [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/json\r\nContent-Encoding: br\r\n",
    ] {
        let server = BadServer::start(move |_| Script::response(200, headers, USER));
        assert!(client(&server.url()).user(&user_id()).await.is_err(), "{headers}");
    }
}

#[tokio::test]
async fn three_modes() {
    let server = BadServer::start(|_| {
        let text = page(3, &["a", "b", "c"], None);
        Script::json(
            200,
            text.replacen("\"2024-01-02\"", "\"2024-02-30\"", 1).replacen("null", "5", 1),
        )
    });
    let client = client(&server.url());
    let read = async |mode| {
        let rows = client.with_read_mode(mode).transactions(&user_id(), day(1), day(31));
        rows.try_collect::<Vec<_>>().await
    };
    assert_eq!(read(ReadMode::Tolerant).await.unwrap().len(), 2);
    let error = read(ReadMode::Complete).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("transactions[0].settled_at has another format"), "{error}");
    let error = read(ReadMode::Strict).await.unwrap_err();
    assert!(error.to_string().contains("at `transactions[0].description`"), "{error}");

    let server =
        BadServer::start(|_| Script::json(200, page(1, &["a"], None).replacen("null", "5", 1)));
    let client = self::client(&server.url()).with_read_mode(ReadMode::Complete);
    let rows = client.transactions(&user_id(), day(1), day(31)).try_collect::<Vec<_>>().await;
    assert_eq!(rows.unwrap()[0].description.as_deref(), Some("5"));
}

/// Serves rows by offset or by cursor. Some of them cannot be read.
fn serve(count: usize, bad: &'static [usize], cursors: bool) -> BadServer {
    BadServer::start(move |seen| {
        let number = |name: &str| seen.query(name).and_then(|text| text.parse::<usize>().ok());
        let from = number("cursor").or(number("offset")).unwrap_or(0);
        let limit = number("limit").unwrap_or(100);
        let to = (from + limit).min(count);
        let ids: Vec<String> = (from..to).map(|row| format!("t-{row:03}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let cursor = (cursors && to < count).then(|| to.to_string());
        let mut page: Value =
            serde_json::from_str(&page(count as u64, &ids, cursor.as_deref())).unwrap();
        for (at, row) in (from..to).enumerate() {
            match bad.iter().position(|bad| *bad == row) {
                // With and without an id.
                Some(nth) if nth % 2 == 0 => page["transactions"][at] = json!(null),
                Some(_) => page["transactions"][at]["settled_at"] = json!("2024-02-30"),
                None => {}
            }
        }
        Script::json(200, page.to_string())
    })
}

/// Rows that were set aside count in `total` and in pages, also where pages overlap.
#[tokio::test]
async fn rows_that_cannot_be_read_count() {
    const PLACES: [&[usize]; 6] =
        [&[3], &[9, 18], &[8, 9, 10], &[0, 24], &[9, 9 * 2, 9 * 2 + 1], &[23, 24]];
    for bad in PLACES {
        for cursors in [false, true] {
            let server = serve(25, bad, cursors);
            let mut options = HistoryOptions::default();
            options.page_limit = 10;
            let rows =
                client(&server.url()).transactions_with(&user_id(), day(1), day(31), options);
            let events: Vec<_> = rows.into_events().try_collect().await.unwrap();
            let (mut read, mut faults) = (Vec::new(), Vec::new());
            for event in events {
                match event {
                    HistoryEvent::Transaction(row) => read.push(row.id.to_string()),
                    HistoryEvent::Fault(fault) => faults.push(fault),
                    _ => {}
                }
            }
            let good = (0..25).filter(|row| !bad.contains(row)).map(|row| format!("t-{row:03}"));
            assert_eq!(read, good.collect::<Vec<_>>(), "{bad:?} {cursors}");
            assert_eq!(faults.len(), bad.len(), "{bad:?} {cursors}");
            assert!(faults.iter().all(|fault| fault.severity() == FaultSeverity::SetAside));
        }
    }
}

#[tokio::test]
async fn a_long_history_with_bad_rows_in_every_window_is_whole() {
    // 12 rows a day, one of them faulty.
    let server = BadServer::start(|seen| {
        let date = |name| seen.query(name).unwrap().parse::<Date>().unwrap();
        let (start, end) = (date("start_date"), date("end_date"));
        let days = end.days_since(start) as usize + 1;
        let limit: usize = seen.query("limit").unwrap().parse().unwrap();
        let offset: usize = seen.query("offset").map_or(0, |text| text.parse().unwrap());
        let rows = (offset..days * 12).take(limit).map(|row| {
            let date = end.minus_days(row as u64 / 12);
            let settled = if row % 12 == 5 { "2024-02-30".to_owned() } else { date.to_string() };
            json!({"id": format!("{date}-{:02}", row % 12), "account_id": "a", "amount": "1.00",
                "currency": "USD", "description": null, "settled_at": settled,
                "transacted_at": date.to_string(), "type": "depository"})
        });
        let rows: Vec<_> = rows.collect();
        Script::json(200, json!({"total": days * 12, "transactions": rows}).to_string())
    });
    let client = client(&server.url());
    let mut events = client.transactions(&user_id(), day(1), day(1).plus_days(499)).into_events();
    let (mut rows, mut faults) = (0, 0);
    while let Some(event) = events.next().await {
        match event.unwrap() {
            HistoryEvent::Transaction(_) => rows += 1,
            _ => faults += 1,
        }
    }
    // The fault of a row where two pages overlap is reported once.
    assert_eq!((rows, faults), (500 * 11, 500));
}

#[tokio::test]
async fn token_responses_are_taken_if_the_access_token_can_be_read() {
    use px_client::oauth::AuthorizationRequest;
    for body in [
        r#"{"access_token":"acc","token_type":"Bearer","expires_in":"900","refresh_token":"ref"}"#,
        r#"{"access_token":"acc","token_type":"bearer","expires_in":900.0,"refresh_token":"ref","scope":["accounts","transactions"]}"#,
        r#"{"access_token":"acc","expires_in":-1,"refresh_token":"ref","news":{"a":[1]}}"#,
        r#"{"access_token":"acc","token_type":"","refresh_token":"ref","expires_in":""}"#,
        "\u{feff}{\"access_token\":\"acc\",\"token_type\":null,\"refresh_token\":\"ref\",\"user_id\":42}",
    ] {
        let server = BadServer::start(move |_| Script::json(200, body));
        let transport = ReqwestTransport::new().unwrap();
        let client = PartnerClient::builder(server.url(), transport)
            .client("plaid".parse().unwrap(), px_types::ClientSecret::new("s"))
            .build()
            .unwrap();
        let (url, pending) = client
            .begin_authorization(AuthorizationRequest::new("https://plaid.example/cb"))
            .unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let callback = pending.check_callback(&format!("?code=c&state={state}")).unwrap();
        let tokens = client.exchange_code(callback).await.unwrap();
        assert_eq!(tokens.access_token.expose(), "acc", "{body}");
        assert_eq!(tokens.refresh_token.unwrap().expose(), "ref", "{body}");
        assert_eq!(tokens.expires_at.is_some(), body.contains("900"), "{body}");
        assert_eq!(tokens.scope.is_some(), body.contains("scope"), "{body}");
        assert_eq!(tokens.user_id.is_some(), body.contains("user_id"), "{body}");
    }
}

#[tokio::test]
async fn discovery_with_null_lists() {
    let server = BadServer::start(|_| {
        let body = r#"{"issuer":"https://bank.example","token_endpoint":null,"scopes_supported":null,
            "code_challenge_methods_supported":null,"authorization_response_iss_parameter_supported":null}"#;
        Script::json(200, body)
    });
    let metadata = client(&server.url()).discover("https://bank.example").await.unwrap();
    assert!(metadata.scopes_supported.is_empty() && metadata.token_endpoint.is_none());
    assert!(!metadata.authorization_response_iss_parameter_supported);
}

/// The defects that were collected beside the project, if they are available.
#[tokio::test]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn collected_defects_are_read() {
    use base64::Engine as _;
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/faulty-responses.ndjson");
    let file = std::env::var("PX_FAULTY_RESPONSES").unwrap_or_else(|_| beside.to_owned());
    let Ok(lines) = std::fs::read_to_string(&file) else {
        eprintln!("skipped: {file} is not there; PX_FAULTY_RESPONSES can name it");
        return;
    };
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let body = base64::prelude::BASE64_STANDARD.decode(case["body_base64"].as_str().unwrap());
        let (body, mut headers) = (body.unwrap(), String::new());
        for (name, value) in case["headers"].as_object().unwrap() {
            headers += &format!("{name}: {}\r\n", value.as_str().unwrap());
        }
        let server = BadServer::start(move |_| Script::response(200, &headers, &body));
        let client = client(&server.url());
        let read = match case["message"].as_str().unwrap() {
            "user" => client.user(&user_id()).await.unwrap().accounts.len(),
            _ => {
                let rows = client.transactions(&user_id(), day(1), day(31));
                rows.try_collect::<Vec<_>>().await.unwrap().len()
            }
        };
        let least = case["accounts"].as_u64().or(case["transactions"].as_u64()).unwrap();
        assert!(read as u64 >= least, "{}: {read} of {least}", case["name"]);
    }
}
