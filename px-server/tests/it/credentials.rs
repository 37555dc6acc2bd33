//! The credentials kit: every kind of challenge, every refusal, lock-out.

use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock as _, ManualClock};
use px_server::{
    Error,
    credentials::{
        Credentials as _, CredentialsKit, Factor, SignInMethods, SignInOrigin, TokenIssuer,
        TotpSecret,
    },
};
use px_types::{
    AccessToken, ChallengeId, ClientId, DeliveryId, KbaAnswer, OneTimeCode, Password, QuestionId,
    UserId, Username,
    model::sign_in::{Challenge, ChallengeKind, Delivery, DeliveryMethod, Question, SignIn},
    partner::{
        AuthTokenRequest, KbaAnswerEntry, KbaValidationRequest, OtpValidationRequest,
        RequestAuthToken, SendOtp, SendOtpRequest, TwoFactorRequest, ValidateTwoFactor,
    },
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

fn start() -> DateTime<Utc> {
    "2024-01-31T12:00:00Z".parse().unwrap()
}

fn secret() -> TotpSecret {
    TotpSecret::from_base32("JBSWY3DPEHPK3PXP").unwrap()
}

/// A bank that names its users by their factors: `otp+kba` must answer two challenges.
#[derive(Default)]
struct Users {
    sent: Mutex<Vec<(String, String)>>,
    down: AtomicBool,
    locked_out: AtomicUsize,
    checking: AtomicUsize,
}

impl Users {
    fn check_available(&self) -> Result<(), Error> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Error::unavailable()),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl SignInMethods for Users {
    async fn check_password(
        &self,
        _: &SignInOrigin,
        username: &Username,
        password: &Password,
    ) -> Result<Option<UserId>, Error> {
        self.check_available()?;
        if username.expose() == "barred" {
            return Err(Error::user_locked());
        }
        let good = password.expose() == "pass_good" && username.expose() != "nobody";
        Ok(good.then(|| UserId::new(username.expose()).unwrap()))
    }

    async fn factors(&self, user: &UserId) -> Result<Vec<Factor>, Error> {
        let delivery = |id, method, mask| Delivery::new(DeliveryId::new(id).unwrap(), method, mask);
        let question = |id, text| Question::new(QuestionId::new(id).unwrap(), text);
        let name = user.as_str().split('/').next().unwrap();
        Ok(name
            .split('+')
            .filter_map(|factor| match factor {
                "otp" => Some(Factor::Otp(vec![
                    delivery("d1", DeliveryMethod::Sms, "•••12"),
                    delivery("d2", DeliveryMethod::Email, "u•••@example"),
                ])),
                "kba" => Some(Factor::Kba(vec![question("q1", "Pet?"), question("q2", "City?")])),
                "totp" => Some(Factor::Totp),
                _ => None,
            })
            .collect())
    }

    async fn send_otp(
        &self,
        _user: &UserId,
        delivery: &Delivery,
        code: &OneTimeCode,
    ) -> Result<(), Error> {
        self.check_available()?;
        let sent = (delivery.id.to_string(), code.expose().to_owned());
        self.sent.lock().unwrap().push(sent);
        Ok(())
    }

    async fn check_kba(&self, _user: &UserId, answers: &[KbaAnswerEntry]) -> Result<bool, Error> {
        self.checking.fetch_add(1, Ordering::SeqCst);
        // Lets concurrent answers interleave.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.check_available()?;
        let right = |entry: &KbaAnswerEntry| {
            let answer = match entry.question_id.as_str() {
                "q1" => "Rex",
                _ => "Oslo",
            };
            entry.answer == KbaAnswer::new(answer)
        };
        Ok(answers.iter().all(right))
    }

    async fn totp_secret(&self, _user: &UserId) -> Result<TotpSecret, Error> {
        self.check_available()?;
        Ok(secret())
    }

    async fn locked_out(&self, _user: &UserId) {
        self.locked_out.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Tokens(AtomicUsize);

#[async_trait::async_trait]
impl TokenIssuer for Tokens {
    async fn issue(&self, client: &ClientId, user: &UserId) -> Result<AccessToken, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(AccessToken::new(format!("token of {user} for {client}")))
    }
}

struct Bank {
    kit: CredentialsKit,
    users: Arc<Users>,
    tokens: Arc<Tokens>,
    clock: ManualClock,
}

fn bank() -> Bank {
    let (users, tokens) = (Arc::<Users>::default(), Arc::<Tokens>::default());
    let clock = ManualClock::new(start());
    let kit = CredentialsKit::new(users.clone(), tokens.clone()).clock(Arc::new(clock.clone()));
    Bank { kit, users, tokens, clock }
}

fn client() -> ClientId {
    ClientId::new("plaid").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn code(challenge: &Challenge, code: &str) -> TwoFactorRequest {
    let id = challenge.challenge_id.clone();
    TwoFactorRequest::Code(OtpValidationRequest::new(id, OneTimeCode::new(code)))
}

fn answers(challenge: &Challenge, answers: &[(&str, &str)]) -> TwoFactorRequest {
    let entry = |(id, answer): &(&str, &str)| {
        KbaAnswerEntry::new(QuestionId::new(id).unwrap(), KbaAnswer::new(*answer))
    };
    let answers: Vec<_> = answers.iter().map(entry).collect();
    TwoFactorRequest::Answers(KbaValidationRequest::new(challenge.challenge_id.clone(), answers))
}

const RIGHT: [(&str, &str); 2] = [("q1", "Rex"), ("q2", "Oslo")];
const WRONG: [(&str, &str); 2] = [("q1", "Rex"), ("q2", "Rome")];

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    let error = result.unwrap_err();
    (error.status().as_u16(), error.id().to_owned())
}

fn invalid_challenge() -> (u16, String) {
    (401, "invalid_challenge".into())
}

fn user_locked() -> (u16, String) {
    (403, "user_locked".into())
}

impl Bank {
    async fn sign_in(&self, name: &str, password: &str) -> Result<SignIn, Error> {
        let request = AuthTokenRequest::new(Username::new(name), Password::new(password));
        let request = RequestAuthToken::new(request);
        self.kit.auth_token(&client(), request).await
    }

    async fn challenge(&self, name: &str) -> Challenge {
        challenge(self.sign_in(name, "pass_good").await)
    }

    async fn answer(&self, name: &str, answer: TwoFactorRequest) -> Result<SignIn, Error> {
        let request = ValidateTwoFactor::new(user(name), answer);
        self.kit.two_factor(&client(), request).await
    }

    async fn send(
        &self,
        name: &str,
        challenge: &Challenge,
        delivery: &str,
    ) -> Result<String, Error> {
        let delivery = DeliveryId::new(delivery).unwrap();
        let request = SendOtpRequest::new(challenge.challenge_id.clone(), delivery);
        let request = SendOtp::new(user(name), request);
        self.kit.send_otp(&client(), request).await?;
        let sent = self.users.sent.lock().unwrap();
        Ok(sent.last().unwrap().1.clone())
    }
}

fn challenge(result: Result<SignIn, Error>) -> Challenge {
    match result.unwrap() {
        SignIn::Challenge(challenge) => challenge,
        other => panic!("no challenge: {other:?}"),
    }
}

fn token(result: Result<SignIn, Error>) -> String {
    match result.unwrap() {
        SignIn::Token(token) => token.auth_token.expose().to_owned(),
        other => panic!("no token: {other:?}"),
    }
}

/// Returns a code that differs from the given one.
fn other_than(code: &str) -> String {
    let number: u32 = code.parse().unwrap();
    format!("{:06}", (number + 1) % 1_000_000)
}

#[tokio::test]
async fn passwords() {
    let bank = bank();
    let good = token(bank.sign_in("plain", "pass_good").await);
    assert_eq!(good, "token of plain for plaid");
    let invalid = (401, "invalid_credentials".to_owned());
    assert_eq!(refusal(bank.sign_in("plain", "wrong").await), invalid);
    assert_eq!(refusal(bank.sign_in("nobody", "pass_good").await), invalid);
    assert_eq!(refusal(bank.sign_in("barred", "pass_good").await), user_locked());
    bank.users.down.store(true, Ordering::SeqCst);
    assert_eq!(refusal(bank.sign_in("plain", "pass_good").await).0, 503);
}

#[tokio::test]
async fn a_code_that_is_sent() {
    let bank = bank();
    let opened = bank.challenge("otp").await;
    assert_eq!(opened.user_id, user("otp"));
    let ChallengeKind::Otp(otp) = &opened.kind else { panic!("{opened:?}") };
    assert_eq!(otp.deliveries.len(), 2);
    // Before a code was sent, no guess is possible, and no attempt is counted.
    for _ in 0..10 {
        let early = bank.answer("otp", code(&opened, "000000")).await;
        assert_eq!(refusal(early), invalid_challenge());
    }
    let unknown = bank.send("otp", &opened, "d9").await;
    assert_eq!(refusal(unknown), (400, "invalid_request".into()));
    let first = bank.send("otp", &opened, "d1").await.unwrap();
    assert_eq!(first.len(), 6);
    let second = bank.send("otp", &opened, "d2").await.unwrap();
    assert_eq!(bank.users.sent.lock().unwrap()[1].0, "d2");
    if first != second {
        let old = bank.answer("otp", code(&opened, &first)).await;
        assert_eq!(refusal(old), invalid_challenge(), "a new code replaces the old one");
    }
    let wrong = bank.answer("otp", code(&opened, &other_than(&second))).await;
    assert_eq!(refusal(wrong), invalid_challenge());
    token(bank.answer("otp", code(&opened, &second)).await);
    let used = bank.answer("otp", code(&opened, &second)).await;
    assert_eq!(refusal(used), invalid_challenge(), "worthless after use");
    assert_eq!(refusal(bank.send("otp", &opened, "d1").await), invalid_challenge());
    assert_eq!(bank.tokens.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_owner_and_lifetime_of_a_challenge() {
    let bank = bank();
    let opened = bank.challenge("otp").await;
    let sent = bank.send("otp", &opened, "d1").await.unwrap();
    for (name, user_name, client_name) in
        [("another user's", "otp/2", "plaid"), ("another client's", "otp", "other")]
    {
        let request = ValidateTwoFactor::new(user(user_name), code(&opened, &sent));
        let client = ClientId::new(client_name).unwrap();
        let refused = bank.kit.two_factor(&client, request).await;
        assert_eq!(refusal(refused), invalid_challenge(), "{name}");
    }
    let mut unknown = opened.clone();
    unknown.challenge_id = ChallengeId::new("unknown").unwrap();
    let refused = bank.answer("otp", code(&unknown, &sent)).await;
    assert_eq!(refusal(refused), invalid_challenge());
    assert_eq!(refusal(bank.send("otp/2", &opened, "d1").await), invalid_challenge());
    bank.clock.advance(TimeDelta::seconds(300));
    assert_eq!(refusal(bank.answer("otp", code(&opened, &sent)).await), invalid_challenge());
    assert_eq!(refusal(bank.send("otp", &opened, "d1").await), invalid_challenge());
    // One second before it expires, the challenge is valid.
    let opened = bank.challenge("otp").await;
    let sent = bank.send("otp", &opened, "d1").await.unwrap();
    bank.clock.advance(TimeDelta::seconds(299));
    token(bank.answer("otp", code(&opened, &sent)).await);
}

#[tokio::test]
async fn security_questions() {
    let bank = bank();
    let opened = bank.challenge("kba").await;
    assert!(matches!(&opened.kind, ChallengeKind::Kba(kba) if kba.questions.len() == 2));
    for (name, wrong) in [
        ("a wrong answer", answers(&opened, &WRONG)),
        ("one answer of two", answers(&opened, &RIGHT[..1])),
        ("a question twice", answers(&opened, &[RIGHT[0], RIGHT[1], RIGHT[0]])),
        ("a code", code(&opened, "123456")),
    ] {
        let refused = bank.answer("kba", wrong).await;
        assert_eq!(refusal(refused), invalid_challenge(), "{name}");
    }
    assert_eq!(refusal(bank.send("kba", &opened, "d1").await), invalid_challenge());
    token(bank.answer("kba", answers(&opened, &RIGHT)).await);
    let opened = bank.challenge("kba").await;
    let nothing = bank.answer("kba", answers(&opened, &[])).await;
    assert_eq!(refusal(nothing), invalid_challenge());
}

#[tokio::test]
async fn codes_of_a_device() {
    let bank = bank();
    let now = || secret().code(bank.clock.now()).expose().to_owned();
    let opened = bank.challenge("totp").await;
    token(bank.answer("totp", code(&opened, &now())).await);
    // The same code again, for a new challenge.
    let opened = bank.challenge("totp").await;
    let again = bank.answer("totp", code(&opened, &now())).await;
    assert_eq!(refusal(again), invalid_challenge());
    bank.clock.advance(TimeDelta::seconds(30));
    let before = secret().code(bank.clock.now() - TimeDelta::seconds(30));
    let older = bank.answer("totp", code(&opened, before.expose())).await;
    assert_eq!(refusal(older), invalid_challenge(), "used, though of the last step");
    token(bank.answer("totp", code(&opened, &now())).await);
    bank.clock.advance(TimeDelta::seconds(90));
    let opened = bank.challenge("totp").await;
    let stale = secret().code(bank.clock.now() - TimeDelta::seconds(60));
    let refused = bank.answer("totp", code(&opened, stale.expose())).await;
    assert_eq!(refusal(refused), invalid_challenge());
    let next = secret().code(bank.clock.now() + TimeDelta::seconds(30));
    token(bank.answer("totp", code(&opened, next.expose())).await);
}

#[tokio::test]
async fn chained_challenges() {
    let bank = bank();
    let first = bank.challenge("otp+kba+totp").await;
    let name = "otp+kba+totp";
    let sent = bank.send(name, &first, "d1").await.unwrap();
    let second = challenge(bank.answer(name, code(&first, &sent)).await);
    assert!(matches!(second.kind, ChallengeKind::Kba(_)));
    assert_ne!(first.challenge_id, second.challenge_id);
    assert_eq!(refusal(bank.answer(name, code(&first, &sent)).await), invalid_challenge());
    let third = challenge(bank.answer(name, answers(&second, &RIGHT)).await);
    assert!(matches!(third.kind, ChallengeKind::Totp));
    assert_eq!(bank.tokens.0.load(Ordering::SeqCst), 0);
    let now = secret().code(bank.clock.now());
    token(bank.answer(name, code(&third, now.expose())).await);
    assert_eq!(bank.tokens.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_fifth_wrong_answer_locks_the_challenge() {
    let bank = bank();
    let opened = bank.challenge("kba").await;
    for _ in 0..5 {
        let wrong = bank.answer("kba", answers(&opened, &WRONG)).await;
        assert_eq!(refusal(wrong), invalid_challenge());
    }
    let right = bank.answer("kba", answers(&opened, &RIGHT)).await;
    assert_eq!(refusal(right), user_locked());
    // The user can start again.
    let opened = bank.challenge("kba").await;
    token(bank.answer("kba", answers(&opened, &RIGHT)).await);
    assert_eq!(bank.users.locked_out.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_twentieth_wrong_answer_locks_the_user() {
    let bank = bank();
    let mut last = None;
    for _ in 0..4 {
        assert_eq!(bank.users.locked_out.load(Ordering::SeqCst), 0);
        let opened = bank.challenge("kba").await;
        for _ in 0..5 {
            let wrong = bank.answer("kba", answers(&opened, &WRONG)).await;
            assert_eq!(refusal(wrong), invalid_challenge());
        }
        last = Some(opened);
    }
    assert_eq!(bank.users.locked_out.load(Ordering::SeqCst), 1);
    let right = bank.answer("kba", answers(&last.unwrap(), &RIGHT)).await;
    assert_eq!(refusal(right), user_locked());
    assert_eq!(refusal(bank.sign_in("kba", "pass_good").await), user_locked());
    let invalid = (401, "invalid_credentials".to_owned());
    assert_eq!(refusal(bank.sign_in("kba", "wrong").await), invalid);
    // Another user is not affected.
    bank.challenge("kba/2").await;
    bank.clock.advance(TimeDelta::minutes(15));
    let opened = bank.challenge("kba").await;
    token(bank.answer("kba", answers(&opened, &RIGHT)).await);
}

#[tokio::test]
async fn wrong_answers_count_over_challenges() {
    let bank = bank();
    for _ in 0..20 {
        let opened = bank.challenge("otp+kba").await;
        let sent = bank.send("otp+kba", &opened, "d1").await.unwrap();
        let opened = challenge(bank.answer("otp+kba", code(&opened, &sent)).await);
        let wrong = bank.answer("otp+kba", answers(&opened, &WRONG)).await;
        assert_eq!(refusal(wrong), invalid_challenge());
    }
    assert_eq!(refusal(bank.sign_in("otp+kba", "pass_good").await), user_locked());
    // A completed sign-in resets earlier wrong answers.
    for _ in 0..5 {
        let opened = bank.challenge("kba").await;
        for _ in 0..4 {
            let wrong = bank.answer("kba", answers(&opened, &WRONG)).await;
            assert_eq!(refusal(wrong), invalid_challenge());
        }
        token(bank.answer("kba", answers(&opened, &RIGHT)).await);
    }
}

#[tokio::test]
async fn answers_that_come_at_once_share_no_try_and_no_token() {
    let bank = bank();
    let opened = bank.challenge("kba").await;
    let wrong = (0..50).map(|_| bank.answer("kba", answers(&opened, &WRONG)));
    let all = futures_util::future::join_all(wrong).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(bank.users.checking.load(Ordering::SeqCst), 5);
    let opened = bank.challenge("kba/2").await;
    let right = (0..5).map(|_| bank.answer("kba/2", answers(&opened, &RIGHT)));
    let all = futures_util::future::join_all(right).await;
    assert_eq!(all.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(bank.tokens.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_bank_that_stumbles_costs_no_try() {
    let bank = bank();
    let (kba, otp) = (bank.challenge("kba").await, bank.challenge("otp").await);
    bank.users.down.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(refusal(bank.answer("kba", answers(&kba, &RIGHT)).await).0, 503);
    }
    assert_eq!(refusal(bank.send("otp", &otp, "d1").await).0, 503);
    bank.users.down.store(false, Ordering::SeqCst);
    token(bank.answer("kba", answers(&kba, &RIGHT)).await);
    let unsent = bank.answer("otp", code(&otp, "000000")).await;
    assert_eq!(refusal(unsent), invalid_challenge());
    bank.send("otp", &otp, "d1").await.unwrap();
}

#[tokio::test]
async fn what_is_kept_and_sent_is_bounded() {
    let bank = bank();
    let first = bank.challenge("otp").await;
    for _ in 0..5 {
        bank.send("otp", &first, "d1").await.unwrap();
    }
    assert_eq!(refusal(bank.send("otp", &first, "d1").await).0, 429);
    for _ in 0..5 {
        bank.challenge("otp").await;
    }
    // Five later challenges of the user evicted the first one.
    assert_eq!(refusal(bank.send("otp", &first, "d1").await), invalid_challenge());
}

#[tokio::test]
async fn lock_time_can_be_set_and_nothing_shows_secrets() {
    let (users, tokens) = (Arc::<Users>::default(), Arc::<Tokens>::default());
    let clock = ManualClock::new(start());
    let kit = CredentialsKit::new(users.clone(), tokens.clone())
        .lock_time(Duration::from_secs(60))
        .clock(Arc::new(clock.clone()));
    assert_eq!(format!("{kit:?}"), "CredentialsKit { .. }");
    let bank = Bank { kit, users, tokens, clock };
    let opened = bank.challenge("otp").await;
    let sent = bank.send("otp", &opened, "d1").await.unwrap();
    for _ in 0..5 {
        let wrong = bank.answer("otp", code(&opened, &other_than(&sent))).await;
        let error = wrong.unwrap_err();
        assert!(!format!("{error:?} {error}").contains(&sent));
    }
    assert_eq!(refusal(bank.send("otp", &opened, "d1").await), user_locked());
    assert_eq!(refusal(bank.answer("otp", code(&opened, &sent)).await), user_locked());
    bank.clock.advance(TimeDelta::seconds(60));
    bank.challenge("otp").await;
}
