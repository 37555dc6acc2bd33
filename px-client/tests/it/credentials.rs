//! Credentials mode: a sign-in through all kinds of challenges.

use crate::bad_server::{BadServer, Script};
use px_client::{ErrorKind, PartnerClient, credentials::SignInStep};
use px_core::ReqwestTransport;
use px_types::{ClientSecret, KbaAnswer, OneTimeCode, Password, Username};

fn client(server: &BadServer) -> PartnerClient {
    PartnerClient::builder(server.url(), ReqwestTransport::new().unwrap())
        .client("plaid".parse().unwrap(), ClientSecret::new("s3cret"))
        .build()
        .unwrap()
}

async fn sign_in(client: &PartnerClient) -> Result<SignInStep, px_client::Error> {
    client.sign_in(Username::new("ann"), Password::new("hunter22")).await
}

#[tokio::test]
async fn challenge_after_challenge() {
    let server = BadServer::start(|seen| {
        let body = match (seen.number, &*seen.target) {
            (0, "/users/auth_token") => {
                r#"{"mfa_type":"OTP","user_id":"u/1","challenge_id":"c1","deliveries":[{"id":"d1","method":"sms","mask":"**12"}]}"#
            }
            (1, "/users/u%2F1/sendOtp") => {
                assert!(seen.text.ends_with(r#"{"challenge_id":"c1","delivery_id":"d1"}"#));
                "{}"
            }
            (2, "/users/u%2F1/2fa") => {
                assert!(seen.text.ends_with(r#"{"challenge_id":"c1","code":"123456"}"#));
                r#"{"mfa_type":"KBA","user_id":"u/1","challenge_id":"c2","questions":[{"id":"q1","text":"Pet?"}]}"#
            }
            (3, "/users/u%2F1/2fa") => r#"{"mfa_type":"TOTP","user_id":"u/1","challenge_id":"c3"}"#,
            (4, "/users/u%2F1/2fa") => r#"{"user_id":"u/1","auth_token":"tok"}"#,
            other => panic!("{other:?}"),
        };
        assert!(seen.text.contains("authorization: Basic "));
        Script::json(200, body)
    });
    let SignInStep::Otp(otp) = sign_in(&client(&server)).await.unwrap() else {
        panic!("no OTP");
    };
    let delivery = otp.deliveries()[0].id.clone();
    let sent = otp.send(&delivery).await.unwrap();
    let SignInStep::Kba(kba) = sent.answer(OneTimeCode::new("123456")).await.unwrap() else {
        panic!("no KBA");
    };
    let answers = kba.questions().iter().map(|q| (q.id.clone(), KbaAnswer::new("Rex")));
    let answers = answers.collect();
    let SignInStep::Totp(totp) = kba.answer(answers).await.unwrap() else {
        panic!("no TOTP");
    };
    let SignInStep::Done(token) = totp.answer(OneTimeCode::new("654321")).await.unwrap() else {
        panic!("not done");
    };
    assert_eq!((token.user_id.as_str(), token.auth_token.expose()), ("u/1", "tok"));
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_no_secret() {
    let server = BadServer::start(|_| {
        let body =
            r#"{"error":{"id":"invalid_credentials","message":"no ann with hunter22 here"}}"#;
        Script::json(401, body)
    });
    let error = sign_in(&client(&server)).await.unwrap_err();
    assert_eq!((error.kind(), error.ends_token(), server.requests()), (ErrorKind::Auth, false, 1));
    let line = error.to_string();
    assert!(line.contains("check the user's name and password"), "{line}");
    assert!(!line.contains("hunter22") && !line.contains("ann "), "{line}");
}

#[tokio::test]
async fn an_unknown_challenge_is_said_to_be_one() {
    let server = BadServer::start(|_| {
        Script::json(200, r#"{"mfa_type":"RETINA","user_id":"u","challenge_id":"c"}"#)
    });
    let error = sign_in(&client(&server)).await.unwrap_err();
    assert!(error.to_string().contains("does not support"), "{error}");
}

#[tokio::test]
async fn a_user_who_is_called_like_an_error_hides_no_error() {
    let server = BadServer::start(|_| Script::error(403, "", "user_locked"));
    let name = Username::new("user_locked");
    let error = client(&server).sign_in(name, Password::new("p")).await.unwrap_err();
    assert_eq!(error.error_id(), Some("user_locked"));
    assert!(error.to_string().contains("the user must ask the institution"), "{error}");
}
